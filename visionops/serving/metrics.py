"""Numbers of the prediction server for Prometheus."""

from collections.abc import Callable
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from visionops_assets.monitoring.prediction import RunningModel

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """What one server counts, in a registry of its own. `log` gives the state of its prediction log."""

    def __init__(self, project: str, group: str, log: Callable[[], dict[str, Any]]) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"project": project, "group": group}
        names = list(self._labels)
        self._answered: dict[int, Counter] = {}
        self._requests = Counter(
            "visionops_serve_requests_total", "Requests answered", [*names, "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "visionops_serve_request_duration_seconds",
            "Time from an image's last byte to its answer",
            names,
            buckets=_SECONDS,
            registry=self._registry,
        ).labels(**self._labels)
        self._batch = Histogram(
            "visionops_serve_batch_size",
            "Images answered together",
            names,
            buckets=_IMAGES,
            registry=self._registry,
        ).labels(**self._labels)
        self._version = Gauge(
            "visionops_serve_model_version",
            "The registered version that answers",
            names,
            registry=self._registry,
        )
        self._swaps = Counter(
            "visionops_serve_model_swaps_total",
            "Changes of the model while serving",
            names,
            registry=self._registry,
        )
        self._waiting = Gauge(
            "visionops_serve_waiting_requests",
            "Requests that came and are not answered yet",
            names,
            registry=self._registry,
        )
        for state, description in (
            ("written", "Rows of the log that were spooled"),
            ("waiting", "Rows of the log that wait for the spool"),
            (
                "dropped",
                "Rows of the log that were lost: too many waited, or the spool took none until the end",
            ),
            ("captured", "Frames that were spooled with their row"),
        ):
            gauge = Gauge(f"visionops_serve_log_{state}_rows", description, names, registry=self._registry)
            gauge.labels(**self._labels).set_function(partial(_count, log, state))

    def answered(self, status: int, seconds: float) -> None:
        """Count one request."""
        answered = self._answered.get(status)
        if answered is None:
            answered = self._requests.labels(**self._labels, status=str(status))
            self._answered[status] = answered
        answered.inc()
        self._seconds.observe(seconds)

    def waiting(self, requests: int) -> None:
        """Say how many wait."""
        self._waiting.labels(**self._labels).set(requests)

    def batch(self, images: int) -> None:
        """Count one batch."""
        self._batch.observe(images)

    def serving(self, model: RunningModel, *, swapped: bool = False) -> None:
        """Say which model answers from now on."""
        self._version.labels(**self._labels).set(model.version)
        if swapped:
            self._swaps.labels(**self._labels).inc()

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)


def _count(log: Callable[[], dict[str, Any]], state: str) -> float:
    return float(log().get(state, 0))
