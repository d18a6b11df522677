"""Requests that arrive while the model is busy are answered together."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """So many batches `at_once` run in threads; the next is whatever came meanwhile, at most `most` items.

    Nobody waits for company: a lone request is a batch of one. `run` gives one result an item, in order.
    """

    def __init__(
        self, run: Callable[[Sequence[Item]], Sequence[Result]], most: int, *, at_once: int = 1
    ) -> None:
        self._run, self._most, self._at_once = run, most, at_once
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="model")
        self._waiting: asyncio.Queue[tuple[Item, asyncio.Future[Result]]] = asyncio.Queue()
        self._work: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Batcher[Item, Result]":
        self._work = [asyncio.create_task(self._forever()) for _ in range(self._at_once)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self._work:
            each.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        self._threads.shutdown()

    async def ask(self, item: Item) -> Result:
        """The result of one item. Raises what `run` raised of its batch."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((item, done))
        return await done

    async def _forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._most and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            try:
                results = await loop.run_in_executor(self._threads, self._run, [item for item, _ in batch])
                for (_, done), result in zip(batch, results, strict=True):
                    if not done.done():
                        done.set_result(result)
            except Exception as error:
                # It is the askers' to hear of, each its own copy of the fact; the next batch is served.
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
