"""What routes work with: the store, waiting for its writer, threads for what would hold up the event loop, the
numbers for Prometheus and the access log.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lakefs_local.hooks.guarded import Guarded
from lakefs_local.http.schemas import ObjectRenderer
from lakefs_local.import_job import Imports
from lakefs_local.storage.database import Session
from lakefs_local.store import Store

T = TypeVar("T")

_THREADS = 16
# For changes, which wait for webhooks: one that is silent keeps no upload and no reading waiting.
_CHANGING_THREADS = 64
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LOG_LIMIT = 16 << 20
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Server:
    """Shared by all requests of one process. `max_upload` is in bytes."""

    def __init__(self, store: Store, *, max_upload: int):
        self.store = store
        self.objects = ObjectRenderer(store.blobs)
        self.max_upload = max_upload
        self.metrics = Metrics(store.folder.path)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="work")
        self._changing = ThreadPoolExecutor(_CHANGING_THREADS, thread_name_prefix="change")
        self.guarded = Guarded(store)
        self.imports = Imports(store, self.guarded)

    @property
    def busy(self) -> bool:
        """Whether something runs that no open request waits for, such as an import."""
        return self.imports.running > 0

    async def write(self, change: Callable[[Session], T]) -> T:
        """Run a change on the writer; returns once it is durable."""
        return await asyncio.wrap_future(self.store.database.write(change))

    async def read(self, question: Callable[[Session], T]) -> T:
        """Run a reading that may take long in a thread, on a snapshot of its own."""

        def ask() -> T:
            with self.store.database.read() as session:
                return question(session)

        return await self.work(ask)

    async def work(self, task: Callable[[], T]) -> T:
        """Run anything that blocks in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, task)

    async def change(self, task: Callable[[], T]) -> T:
        """Run a change that asks hooks, in a thread of those that may wait for them."""
        return await asyncio.get_running_loop().run_in_executor(self._changing, task)

    async def prepare_and_write(self, prepare: Callable[[], Callable[[Session], T]]) -> T:
        """Run `prepare` in a thread and the change it returns on the writer, waking the event loop only at the end."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(future: Future[T]) -> None:
            if done.cancelled():
                return
            problem = future.exception()
            if problem is None:
                done.set_result(future.result())
            else:
                done.set_exception(problem)

        def run() -> None:
            failed: Future[T] = Future()
            try:
                written = self.store.database.write(prepare())
            except BaseException as problem:
                failed.set_exception(problem)
                written = failed
            written.add_done_callback(lambda future: loop.call_soon_threadsafe(settle, future))

        self._threads.submit(run)
        return await done

    def close(self) -> None:
        """Wait for running work and close the store."""
        self.imports.close()
        self._threads.shutdown()
        self.guarded.leave()
        self._changing.shutdown()
        self.guarded.close()
        self.store.close()


class Metrics:
    """What the server counts, in a registry of its own."""

    def __init__(self, data: Path):
        self._registry = CollectorRegistry()
        self._data = data
        self._requests = Counter(
            "lakefs_local_http_requests_total",
            "Requests answered",
            ["operation", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "lakefs_local_http_request_duration_seconds",
            "Time from a request's head to its answer",
            ["operation"],
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._sent = Counter(
            "lakefs_local_http_sent_bytes_total", "Bytes of answers, without headers", registry=self._registry
        )
        self._database = Gauge(
            "lakefs_local_database_bytes", "Size of the database with its log", registry=self._registry
        )
        self._database.set_function(self._database_bytes)
        self._started = Gauge(
            "lakefs_local_start_time_seconds", "When the server started", registry=self._registry
        )
        self._started.set_to_current_time()

    def observe(self, operation: str, status: int, seconds: float, sent: int) -> None:
        """Count one request."""
        self._requests.labels(operation, str(status)).inc()
        self._seconds.labels(operation).observe(seconds)
        self._sent.inc(sent)

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)

    def _database_bytes(self) -> float:
        return float(sum(file.stat().st_size for file in self._data.glob("metadata.db*")))


class AccessLog:
    """One line a request, written once a second, rotated once at 16 MB."""

    def __init__(self, path: Path):
        self._path = path
        self._lines: list[str] = []
        self._written = 0.0

    def add(
        self, client: str, key: str, method: str, target: str, status: int, sent: int, seconds: float
    ) -> None:
        """Note a request; `target` is as the client sent it, its odd characters escaped."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        shown = target if target.isascii() and target.isprintable() else ascii(target)[1:-1]
        self._lines.append(
            f"{stamp} {client} {key or '-'} {method} {shown} {status} {sent} {seconds * 1000:.1f}ms\n"
        )
        if time.monotonic() - self._written > 1:
            self.flush()

    def flush(self) -> None:
        """Write what is noted. A log that cannot be written does not stop the server."""
        lines, self._lines = self._lines, []
        self._written = time.monotonic()
        try:
            if self._path.exists() and self._path.stat().st_size > _LOG_LIMIT:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            with self._path.open("a", encoding="ascii") as file:
                file.writelines(lines)
        except OSError:
            return
