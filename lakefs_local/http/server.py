"""What routes work with: the store, waiting for its writer, and threads for what would hold up the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from lakefs_local.hooks.guarded import Guarded
from lakefs_local.http.render import ObjectRenderer
from lakefs_local.import_job import Imports
from lakefs_local.metrics import Metrics
from lakefs_local.storage.database import Session
from lakefs_local.store import Store

T = TypeVar("T")

_THREADS = 16
# For changes, which wait for webhooks: one that is silent keeps no upload and no reading waiting.
_CHANGING_THREADS = 64


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
