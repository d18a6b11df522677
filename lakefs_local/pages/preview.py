"""Contents for pages: what is stored is shown only if its first bytes are those of a raster image, else kept as a file.

The type comes from the bytes, never from the name or the stored type, so that no stored page or SVG can run.
"""

import os
from urllib.parse import quote

from lakefs_local.catalog import objects, repositories
from lakefs_local.http import parameters
from lakefs_local.http.call import Call, Refusal, Reply
from lakefs_local.http.object_routes import get_object
from lakefs_local.http.server import Server
from lakefs_local.pages.render import HEADERS
from lakefs_local.storage import records
from lakefs_local.storage.records import Entry
from lakefs_local.store import Store

_LIMIT = 32 << 20
_HEAD_BYTES = 16
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)
_NAMES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp")


def looks_like_image(path: str) -> bool:
    """Whether a listing should try to show a picture."""
    return path.lower().endswith(_NAMES)


def image_type(head: bytes) -> str | None:
    """The type of a raster image by its first bytes, or None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for signature, kind in _SIGNATURES if head.startswith(signature)), None)


async def page_preview(server: Server, call: Call) -> Reply:
    """The picture at a path."""
    path = parameters.required(call, "path")
    with server.store.database.read() as session:
        repository = repositories.get(session, call.parameters["repository"])
        entry = records.unpack(objects.find(session, repository, parameters.required(call, "ref"), path))
    if entry.size > _LIMIT:
        raise Refusal(415, "too large to show")
    data = await server.work(lambda: read(server.store, entry, entry.size))
    kind = image_type(data[:_HEAD_BYTES])
    if kind is None:
        raise Refusal(415, "not a picture")
    # What a path shows on a branch changes; what it shows at a commit does not, but revalidating is cheap.
    return Reply(
        200, data, kind, {**HEADERS, "cache-control": "private, no-cache", "etag": f'"{entry.checksum}"'}
    )


async def page_download(server: Server, call: Call) -> Reply:
    """The bytes at a path, for a browser to keep in a file."""
    call.parameters["ref"] = parameters.required(call, "ref")
    reply = await get_object(server, call)
    name = parameters.required(call, "path").rpartition("/")[2]
    reply.headers |= {
        **HEADERS,
        "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
    }
    return reply


def read(store: Store, entry: Entry, limit: int) -> bytes:
    """At most `limit` bytes of an object. Raises Refusal (410) if they are gone."""
    try:
        file = store.open_content(entry)
    except OSError:
        raise Refusal(410, "No data") from None
    with os.fdopen(file, "rb") as stream:
        return stream.read(limit)
