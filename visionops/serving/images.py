"""The image of a request: its body as it is, or the file of a form, as `curl -F file=@image.png` sends it."""

from collections.abc import AsyncGenerator

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

MAX_IMAGE_BYTES = 32 << 20
# What a form says around its file.
_FORM_BYTES = 64 << 10
_FORM = "multipart/form-data"
_HOW = "`curl -F file=@image.png ADDRESS` or `curl --data-binary @image.png ADDRESS` sends one"
# What curl and most clients say of a body when nobody tells them.
_ALTERED = "application/x-www-form-urlencoded"


class NoImage(ValueError):
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
    body = await _body(receive, MAX_IMAGE_BYTES + (_FORM_BYTES if is_form else 0))
    image = await _file_of(Headers(scope=scope), body) if is_form else body
    if len(image) > MAX_IMAGE_BYTES:
        raise _too_large()
    if not image:
        raise NoImage(f"the image is empty: {_HOW}")
    return image


def hint(scope: Scope) -> str:
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


async def _body(receive: Receive, limit: int) -> bytes:
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
