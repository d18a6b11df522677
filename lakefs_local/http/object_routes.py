"""Objects: upload, read, list, delete, copy."""

import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from lakefs_local.catalog import objects, repositories
from lakefs_local.catalog.conventions import Forbidden, Gone
from lakefs_local.http import content, exchange, schemas
from lakefs_local.http.content import ContentPart, boundary_of
from lakefs_local.http.exchange import NO_CONTENT, Call, Refusal, Reply, reply_json
from lakefs_local.http.server import Server
from lakefs_local.storage import encoding
from lakefs_local.storage.blobs import Incoming
from lakefs_local.storage.database import Session
from lakefs_local.storage.encoding import DEFAULT_CONTENT_TYPE, Entry

MAX_BULK_DELETE = 1000
_CHUNK = 1 << 20
_READ_AT_ONCE = 256 << 10
_METADATA_HEADER = "x-lakefs-meta-"
# What is stored was written by somebody else: a browser shows it, but never runs it with this server's rights.
SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "content-security-policy": "default-src 'none'; sandbox",
}


async def upload_object(server: Server, call: Call) -> Reply:
    """The raw body, or the part `content` of a multipart form. Durable before it is acknowledged."""
    path = exchange.required_text(call, "path")
    must_be_new = only_if_new(call)
    branch, force = call.parameters["branch"], exchange.boolean_of(call, "force")

    def repository_in(session: Session) -> repositories.Repository:
        return repositories.writable_repository(session, call.parameters["repository"], force=force)

    with server.store.database.read() as session:
        objects.check_put_object(session, repository_in(session), branch, path)
    content_type = call.headers.get("content-type", "")
    boundary = boundary_of(content_type)
    part = ContentPart(boundary) if boundary is not None else None
    chunks = part.chunks(call.chunks()) if part else call.chunks()
    metadata = _user_metadata(call)
    with server.store.blobs.receive() as incoming:
        rest = await _receive(server, incoming, chunks)
        kind = checked_header((part.content_type if part else content_type) or DEFAULT_CONTENT_TYPE)

        def store() -> Callable[[Session], bytes]:
            incoming.write(rest)
            stored = incoming.store()
            entry = Entry(stored.md5, stored.size, int(time.time()), stored.digest, "", kind, metadata)
            return lambda session: objects.put_object(
                session, repository_in(session), branch, path, entry, only_if_new=must_be_new
            )

        record = await server.prepare_and_write(store)
    reply = server.objects.stats(path, record)
    return replace(reply, status=201)


async def get_object(server: Server, call: Call) -> Reply:
    """The bytes, or a range of them. HEAD gives the same headers without."""
    path = exchange.required_text(call, "path")
    if exchange.boolean_of(call, "presign"):
        raise Refusal(400, "local adapter presigned URL: operation not supported")
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        entry = encoding.unpack_record(objects.find_object(session, repository, call.parameters["ref"], path))
    etag = f'"{entry.checksum}"'
    if call.headers.get("if-none-match") == etag:
        return Reply(304)
    headers = {"etag": etag, **SAFE_HEADERS, "last-modified": _http_date(entry.mtime)}
    status, first, last = 200, 0, entry.size - 1
    if "range" in call.headers:
        first, last = content.parse_range(call.headers["range"], entry.size, etag)
        status = 206
        headers["content-range"] = f"bytes {first}-{last}/{entry.size}"
    headers["content-length"] = str(last - first + 1)
    if call.method == "HEAD":
        return Reply(status, b"", entry.content_type, headers | {"accept-ranges": "bytes"})
    return Reply(status, _contents(server, entry, first, last - first + 1), entry.content_type, headers)


async def stat_object(server: Server, call: Call) -> Reply:
    """What is known about one object."""
    path = exchange.required_text(call, "path")
    if exchange.boolean_of(call, "presign"):
        raise Refusal(400, "local adapter presigned URL: operation not supported")
    with_metadata = exchange.boolean_of(call, "user_metadata", True)
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        record = objects.find_object(session, repository, call.parameters["ref"], path)
    return server.objects.stats(path, record, with_metadata=with_metadata)


async def list_objects(server: Server, call: Call) -> Reply:
    """By path, with prefix, delimiter and offset."""
    paging = exchange.paging_of(call)
    if exchange.boolean_of(call, "presign"):
        raise Refusal(400, "local adapter presigned URL: operation not supported")
    with_metadata = exchange.boolean_of(call, "user_metadata", True)
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        found = objects.page_of_objects(session, repository, call.parameters["ref"], paging)
    listed = server.objects.listed
    return schemas.render_page_of_json(
        found, [listed(result, with_metadata=with_metadata) for result in found.results]
    )


async def delete_object(server: Server, call: Call) -> Reply:
    """Absent ones are no error."""
    await _delete(server, call, [exchange.required_text(call, "path")], exchange.boolean_of(call, "force"))
    return NO_CONTENT


async def delete_objects(server: Server, call: Call) -> Reply:
    """At most 1,000 at once; empty paths are passed over, a protected branch refuses each path."""
    body = await exchange.json_body(call, schemas.PATHS)
    paths = [path for path in body["paths"] if path]
    if len(body["paths"]) > MAX_BULK_DELETE:
        raise Refusal(400, f"request size exceeded, max paths is set to {MAX_BULK_DELETE}")
    refused = []
    try:
        await _delete(server, call, paths, exchange.boolean_of(call, "force"))
    except Forbidden as problem:
        refused = [{"path": path, "status_code": 403, "message": str(problem)} for path in paths]
    return reply_json(200, {"errors": refused})


async def copy_object(server: Server, call: Call) -> Reply:
    """Within a repository; the copy shares the bytes."""
    destination = exchange.required_text(call, "dest_path")
    body = await exchange.json_body(call, schemas.COPY)
    branch = call.parameters["branch"]

    def copy(session: Session) -> bytes:
        repository = repositories.writable_repository(
            session, call.parameters["repository"], force=body.get("force", False)
        )
        source = body.get("src_ref") or branch
        return objects.copy_object(session, repository, branch, destination, source, body["src_path"])

    return replace(server.objects.stats(destination, await server.write(copy)), status=201)


async def update_object_user_metadata(server: Server, call: Call) -> Reply:
    """Replaces an object's user metadata."""
    path = exchange.required_text(call, "path")
    body = await exchange.json_body(call, schemas.USER_METADATA)

    def update(session: Session) -> None:
        repository = repositories.writable_repository(session, call.parameters["repository"])
        objects.set_object_metadata(session, repository, call.parameters["branch"], path, body["set"])

    await server.write(update)
    return NO_CONTENT


async def upload_object_preflight(server: Server, call: Call) -> Reply:
    """Whether an upload would be allowed."""
    path = exchange.required_text(call, "path")
    with server.store.database.read() as session:
        repository = repositories.writable_repository(session, call.parameters["repository"])
        objects.check_put_object(session, repository, call.parameters["branch"], path)
    return NO_CONTENT


async def get_underlying_properties(server: Server, call: Call) -> Reply:
    """Files have no storage class."""
    path = exchange.required_text(call, "path")
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        objects.find_object(session, repository, call.parameters["ref"], path)
    return reply_json(200, {"storage_class": None})


def checked_header(value: str) -> str:
    """A value that goes back out as a header. Raises Refusal (400) for control characters and beyond Latin-1."""
    if not all(" " <= character <= "ÿ" and character != "\x7f" for character in value) or len(value) > 1024:
        raise Refusal(400, "argument content type: invalid value: validation error")
    return value


def only_if_new(call: Call) -> bool:
    """Whether the request asks for no object to be there (`If-None-Match: *`). Raises Refusal (501) for more."""
    condition = call.headers.get("if-none-match")
    if "if-match" in call.headers or condition not in (None, "*"):
        raise Refusal(501, "Not Implemented")
    return condition == "*"


async def _delete(server: Server, call: Call, paths: list[str], force: bool) -> None:
    def delete(session: Session) -> None:
        repository = repositories.writable_repository(session, call.parameters["repository"], force=force)
        objects.delete_objects(session, repository, call.parameters["branch"], paths)

    await server.write(delete)


async def _receive(server: Server, incoming: Incoming, chunks: AsyncIterator[bytes]) -> bytes:
    """Take the body in, writing what is large as it comes; what is left to write."""
    pending: list[bytes] = []
    waiting = total = 0
    async for chunk in chunks:
        pending.append(chunk)
        waiting += len(chunk)
        total += len(chunk)
        if total > server.max_upload:
            raise Refusal(413, f"the object is larger than this server takes ({server.max_upload} bytes)")
        if waiting >= _CHUNK:
            data, pending, waiting = b"".join(pending), [], 0
            await server.work(partial(incoming.write, data))
    return b"".join(pending)


def _contents(server: Server, entry: Entry, first: int, length: int) -> bytes | AsyncIterator[bytes]:
    path = entry.location if entry.blob is None else server.store.blobs.path(entry.blob)
    try:
        file = server.store.open_content(entry)
    except OSError:
        raise Gone(f"No data: {Path(path).name} is no longer there") from None
    if os.fstat(file).st_size != entry.size:
        os.close(file)
        raise Gone(f"No data: {Path(path).name} is no longer the {entry.size} bytes it was")
    if length > _READ_AT_ONCE:
        return _stream(server, file, first, length)
    try:
        return os.pread(file, length, first)
    finally:
        os.close(file)


async def _stream(server: Server, file: int, first: int, length: int) -> AsyncIterator[bytes]:
    try:
        end = first + length
        while first < end:
            data = await server.work(partial(os.pread, file, min(_CHUNK, end - first), first))
            if not data:
                return
            first += len(data)
            yield data
    finally:
        os.close(file)


def _user_metadata(call: Call) -> dict[str, str]:
    found = {}
    for name, value in call.headers.items():
        if name.startswith(_METADATA_HEADER):
            try:
                found[name.removeprefix(_METADATA_HEADER)] = value.encode("latin-1").decode()
            except UnicodeDecodeError:
                found[name.removeprefix(_METADATA_HEADER)] = value
    return found


def _http_date(seconds: int) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(min(seconds, 253402300799)))
