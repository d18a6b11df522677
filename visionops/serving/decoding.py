"""Images of requests become pictures, each by itself, before the model sees any: who sends a bad one harms nobody else.

What takes next to nothing is decoded where it came, other plain images by threads, and what may do harm by workers:
three ways, so that nobody waits behind an image that takes long.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from edge.image_limits import image_limits, image_workers
from edge.images.decode_pool import workers
from edge.images.header import Header, look
from visionops_assets.inference.shipped_model import ShippedModel
from visionops_assets.monitoring.prediction import Picture, picture

# JPEG and PNG decode outside the interpreter's lock.
_THREADS = 2
# What a thread would take longer to hear of than to decode.
_AT_ONCE_BYTES, _AT_ONCE_PIXELS = 64 << 10, 1 << 16
# A worker that has begun ends within seconds; behind so many others nobody should wait.
_WAITING_PER_WORKER = 16
NAME = "the image"


class Busy(Exception):
    """More images wait than are taken; the sender may try again."""


class Decoding:
    """Decodes for a server. `seconds` of processor time is what one image may take."""

    def __init__(self, seconds: float) -> None:
        self._limits = image_limits().within(seconds, "--decode-seconds")
        most = image_workers()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")
        self._guarded = ThreadPoolExecutor(most, thread_name_prefix="guarded")
        self._waiting, self._most_waiting = 0, most * _WAITING_PER_WORKER
        self._running: list[bytes] = []

    async def picture(self, data: bytes, shipped: ShippedModel) -> Picture:
        """An image for a model. Raises `UnreadableImage`, and `Busy`."""
        loop = asyncio.get_running_loop()
        if len(data) > _AT_ONCE_BYTES:
            header = await loop.run_in_executor(self._threads, look, data, NAME, self._limits)
        else:
            header = look(data, NAME, self._limits)
        if header is None or not header.plain:
            return await self._by_a_worker(data, shipped)
        if len(data) <= _AT_ONCE_BYTES and header.height * header.width <= _AT_ONCE_PIXELS:
            return self.picture_now(data, shipped, header)
        return await loop.run_in_executor(self._threads, self.picture_now, data, shipped, header)

    def picture_now(self, data: bytes, shipped: ShippedModel, header: Header | None = None) -> Picture:
        """The same, in this thread."""
        return picture(NAME, data, shipped, self._limits, header)

    async def _by_a_worker(self, data: bytes, shipped: ShippedModel) -> Picture:
        if self._waiting >= self._most_waiting:
            raise Busy
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._guarded, self._guarded_picture, data, shipped
            )
        finally:
            self._waiting -= 1

    def _guarded_picture(self, data: bytes, shipped: ShippedModel) -> Picture:
        self._running.append(data)
        try:
            return self.picture_now(data, shipped)
        finally:
            self._running.remove(data)

    def close(self) -> None:
        """End the threads; what workers still decode is for nobody any more."""
        self._threads.shutdown()
        self._guarded.shutdown(wait=False, cancel_futures=True)
        if self._running:
            workers(self._limits).end()
        self._guarded.shutdown()
