"""HTML out of templates, in which everything is escaped and nothing may run; and contents for pages: what is stored
is shown only if its first bytes are those of a raster image, else kept as a file.
"""

import os
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from lakefs_local.catalog import objects, repositories
from lakefs_local.http import exchange
from lakefs_local.http.exchange import Call, Refusal, Reply
from lakefs_local.http.object_routes import get_object
from lakefs_local.http.server import Server
from lakefs_local.storage import encoding
from lakefs_local.storage.encoding import Entry
from lakefs_local.store import Store

# No scripts at all, pictures and style from here only, shown in nobody else's frame.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_PREVIEW_LIMIT = 32 << 20
_HEAD_BYTES = 16
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)
_NAMES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp")


def address_of(repository: str, *parts: str, **query: str) -> str:
    """The address of a page about a repository."""
    path = "/".join(["/repositories", quote(repository, safe=""), *(quote(part, safe="") for part in parts)])
    return path + (f"?{urlencode(query)}" if query else "")


def render_page(template: str, status: int = 200, **values: Any) -> Reply:
    """A page; `repository` among the values gives it the repository's links."""
    repository = values.get("repository", "")
    text = (
        _templates()
        .get_template(template)
        .render(
            link=lambda *parts, **query: address_of(repository, *parts, **query),
            **{"next": None, "ref": "", "repository": "", **values},
        )
    )
    return Reply(status, text.encode(), "text/html; charset=utf-8", dict(HEADERS))


def moment(seconds: int) -> str:
    """A time to read."""
    return datetime.fromtimestamp(min(seconds, 253402300799), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def size_in_words(count: int) -> str:
    """A number of bytes to read."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


@cache
def _templates() -> Any:
    # Imported at the first page: most servers are never looked at.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(loader=PackageLoader("lakefs_local.pages"), autoescape=True, undefined=StrictUndefined)


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
    path = exchange.required_text(call, "path")
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        entry = encoding.unpack_record(
            objects.find_object(session, repository, exchange.required_text(call, "ref"), path)
        )
    if entry.size > _PREVIEW_LIMIT:
        raise Refusal(415, "too large to show")
    data = await server.work(lambda: read_content(server.store, entry, entry.size))
    kind = image_type(data[:_HEAD_BYTES])
    if kind is None:
        raise Refusal(415, "not a picture")
    # What a path shows on a branch changes; what it shows at a commit does not, but revalidating is cheap.
    return Reply(
        200, data, kind, {**HEADERS, "cache-control": "private, no-cache", "etag": f'"{entry.checksum}"'}
    )


async def page_download(server: Server, call: Call) -> Reply:
    """The bytes at a path, for a browser to keep in a file."""
    call.parameters["ref"] = exchange.required_text(call, "ref")
    reply = await get_object(server, call)
    name = exchange.required_text(call, "path").rpartition("/")[2]
    reply.headers |= {
        **HEADERS,
        "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
    }
    return reply


def read_content(store: Store, entry: Entry, limit: int) -> bytes:
    """At most `limit` bytes of an object. Raises Refusal (410) if they are gone."""
    try:
        file = store.open_content(entry)
    except OSError:
        raise Refusal(410, "No data") from None
    with os.fdopen(file, "rb") as stream:
        return stream.read(limit)
