"""Reads every service when Prometheus asks, all at once and for a limited time, and keeps what it read a little."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from visionops.exporter import families
from visionops.exporter.families import Sample, to_metrics
from visionops.exporter.readings import Reading

# Two Prometheus servers, or a person beside one, cost one reading.
KEEP_SECONDS = 10.0
WITHIN_SECONDS = 8.0
# Only the first time is anything imported.
FIRST_WITHIN_SECONDS = 60.0

_log = logging.getLogger("visionops.metrics")


class Exporter(Collector):
    """All metrics. A service that fails, or does not answer within `within` seconds, is `visionops_up` 0.

    One that is slow goes on being read, and is not asked a second time meanwhile.
    """

    def __init__(
        self,
        readings: Mapping[str, Reading],
        *,
        keep: float = KEEP_SECONDS,
        within: float = WITHIN_SECONDS,
        first_within: float = FIRST_WITHIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._readings, self._keep, self._within, self._clock = readings, keep, within, clock
        self._next_within = first_within
        self._threads = ThreadPoolExecutor(max(1, len(readings)), thread_name_prefix="metrics")
        self._running: dict[str, Future[tuple[list[Sample], float]]] = {}
        self._lock = threading.Lock()
        self._read: tuple[float, list[Metric]] | None = None

    def describe(self) -> list[Metric]:
        """Nothing: what there is is known when it is read."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are, at most `keep` seconds old."""
        with self._lock:
            if self._read is None or self._clock() - self._read[0] >= self._keep:
                samples = self._samples()
                self._read = self._clock(), to_metrics(samples)
            metrics = self._read[1]
        yield from metrics

    def close(self) -> None:
        """Wait for nothing that is still being read."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _samples(self) -> list[Sample]:
        for service, reading in self._readings.items():
            if service not in self._running:
                self._running[service] = self._threads.submit(_timed, reading)
        wait(self._running.values(), timeout=self._next_within)
        self._next_within = self._within
        samples: list[Sample] = []
        for service in self._readings:
            found = self._answer(service)
            samples.append(families.UP(found is not None, service))
            if found is not None:
                samples += found[0]
                samples.append(families.READ_SECONDS(found[1], service))
        return samples

    def _answer(self, service: str) -> tuple[list[Sample], float] | None:
        future = self._running[service]
        if not future.done():
            _log.warning("%s did not answer in time", service)
            return None
        del self._running[service]
        error = future.exception()
        if error is not None:
            # Whatever it raises, the others are to be read; that it is away is what the page says.
            _log.warning("%s could not be read: %s", service, error or type(error).__name__)
            return None
        return future.result()


def _timed(reading: Reading) -> tuple[list[Sample], float]:
    started = time.perf_counter()
    return reading(), time.perf_counter() - started
