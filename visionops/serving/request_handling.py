"""What lies between a request and its answer: its image, from a body or the file of a form; decoded, each by
itself, so that who sends a bad one harms nobody else; answered together with those that arrived meanwhile; by the
model in production, which is looked up again and again and swapped between two batches.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Generic, TypeVar

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from edge.images.bounds import image_limits, image_workers
from edge.images.decode_pool import workers
from edge.images.header import Header, look
from edge.onnx_model import ModelFileError
from resources.error_family import Invalid, Unavailable
from resources.models.records import RegistryError
from visionops_assets.champions.registered_model import Registry
from visionops_assets.inference.shipped_model import ShippedModel, processors
from visionops_assets.monitoring.prediction import (
    NothingInProduction,
    Picture,
    RunningModel,
    open_version,
    picture,
    running_version,
)

MAX_IMAGE_BYTES = 32 << 20
# What a client is told with 429, and with 500.
TOO_MANY = "too many images wait; send it again in a second, or less at once"
FAILED = "the prediction failed; the server's log says why"
# What a form says around its file.
_FORM_BYTES = 64 << 10
_FORM = "multipart/form-data"
_HOW = "`curl -F file=@image.png ADDRESS` or `curl --data-binary @image.png ADDRESS` sends one"
# What curl and most clients say of a body when nobody tells them.
_ALTERED = "application/x-www-form-urlencoded"
# JPEG and PNG decode outside the interpreter's lock.
_THREADS = 2
# A worker that has begun ends within seconds; behind so many others nobody should wait.
_WAITING_PER_WORKER = 16
NAME = "the image"
Item = TypeVar("Item")
Result = TypeVar("Result")
_log = logging.getLogger(__name__)
# Each holds what a network computes of a batch.
_MOST_AT_ONCE = 4


class NoImage(Invalid):
    """A request that holds no image; `status` is what HTTP calls it."""

    def __init__(self, said: str, status: int = 400) -> None:
        super().__init__(said)
        self.status = status


class _InMemory(MultiPartParser):
    # The whole form is in memory already: nothing is written to a disk in between.
    spool_max_size = MAX_IMAGE_BYTES + _FORM_BYTES


async def image_of(scope: Scope, receive: Receive) -> bytes:
    """The bytes of the one image that a request is about. Raises `NoImage`, `ClientDisconnect`."""
    is_form = _content_type(scope).startswith(_FORM)
    body = await _body_of(receive, MAX_IMAGE_BYTES + (_FORM_BYTES if is_form else 0))
    image = await _file_of(Headers(scope=scope), body) if is_form else body
    if len(image) > MAX_IMAGE_BYTES:
        raise _too_large()
    if not image:
        raise NoImage(f"the image is empty: {_HOW}")
    return image


def body_hint(scope: Scope) -> str:
    """What a sender of bytes that are no image may have meant to do."""
    kind = _content_type(scope)
    if kind.startswith(_ALTERED):
        return f"; `curl -d` alters bytes: {_HOW}"
    return f"; a body in JSON is not taken: {_HOW}" if kind.startswith("application/json") else ""


def _content_type(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"content-type":
            return str(value, "latin-1").lower()
    return ""


async def _file_of(headers: Headers, body: bytes) -> bytes:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await _InMemory(headers, whole()).parse()
    except (MultiPartException, KeyError) as error:
        said = getattr(error, "message", "").rstrip(".") or "it names no boundary"
        raise NoImage(f"the form cannot be read ({said}): {_HOW}") from error
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise NoImage(
                f"the form has no file; with curl, `@` before its name sends the file itself: {_HOW}"
            )
        if len(files) > 1:
            raise NoImage(f"the form has {len(files)} files, and each image is a request of its own: {_HOW}")
        return await files[0].read()
    finally:
        await form.close()


async def _body_of(receive: Receive, limit: int) -> bytes:
    parts, size, is_more = [], 0, True
    while is_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large()
        parts.append(part)
        is_more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large() -> NoImage:
    return NoImage(f"an image has at most {MAX_IMAGE_BYTES >> 20} MB; scale it down", 413)


# What a thread would take longer to hear of than to decode.
_AT_ONCE_BYTES, _AT_ONCE_PIXELS = 64 << 10, 1 << 16


class Busy(Unavailable):
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


def batches_at_once(threads: int) -> int:
    """How many batches of so many threads each, 0 for as many as it takes, keep this machine's processors busy."""
    return min(_MOST_AT_ONCE, max(1, processors() // max(1, threads)))


class CurrentModel:
    """The model that answers now. A batch takes it once, so each answer is of one model, whole; `at_once` of them may
    be answered."""

    def __init__(self, registry: Registry, project: str, group: str, threads: int) -> None:
        """Opens what is in production. Raises `NothingInProduction`, `ModelFileError`, and what MLflow raises."""
        self.at_once = batches_at_once(threads)
        self._registry, self._project, self._group, self._threads = registry, project, group, threads
        self.problem: str | None = None
        self._set(open_version(registry, running_version(registry, project, group), threads, self.at_once))

    @property
    def model(self) -> RunningModel:
        """The model."""
        return self._model

    def look(self) -> bool:
        """Look what is in production and change to it, opened before the change. True if the model changed.

        Where that fails the present one goes on answering, and `problem` says why.
        """
        try:
            wanted = running_version(self._registry, self._project, self._group)
            if (wanted.version, wanted.onnx_sha256) != (self._model.version, self._model.onnx_sha256):
                self._set(open_version(self._registry, wanted, self._threads, self.at_once))
                _log.info("version %s of %s answers now", wanted.version, self._project)
                return True
            self.problem = None
        except (RegistryError, NothingInProduction, ModelFileError, OSError) as error:
            if self.problem != str(error):
                _log.warning("version %s goes on answering: %s", self._model.version, error)
            self.problem = str(error)
        return False

    async def watch(self, every: float, changed: Callable[[RunningModel], None]) -> None:
        """Look every so many seconds, for ever."""
        while True:
            await asyncio.sleep(every)
            if await asyncio.to_thread(self.look):
                changed(self._model)

    def _set(self, model: RunningModel) -> None:
        self._model, self.since, self.problem = model, datetime.now(UTC), None
