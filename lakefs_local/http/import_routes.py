"""Objects that come in otherwise than one by one: imports, bytes that the client puts into place itself, and many
small objects in one request, made durable together.

The last is an operation of this server's own, no part of lakeFS's API: its body is, object after object, a line of
JSON `{"path": …, "size": …}` and as many bytes. All of them are staged, or none.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from lakefs_local.catalog import objects, repositories
from lakefs_local.catalog.committing import Statement
from lakefs_local.catalog.conventions import check_path
from lakefs_local.http import exchange, schemas
from lakefs_local.http.exchange import NO_CONTENT, Call, Refusal, Reply, reply_json
from lakefs_local.http.object_routes import checked_header, only_if_new
from lakefs_local.http.repository_routes import stamp
from lakefs_local.http.server import Server
from lakefs_local.import_job import Status
from lakefs_local.import_sources import SCHEME, Source
from lakefs_local.storage.database import Session
from lakefs_local.storage.encoding import DEFAULT_CONTENT_TYPE, Entry

MAX_BODY = 64 << 20
MAX_OBJECTS = 10_000
_MAX_LINE = 8192


async def import_start(server: Server, call: Call) -> Reply:
    """Starts in the background; answers its id."""
    body = await exchange.json_body(call, schemas.IMPORT)
    sources = [
        Source(item["path"], item["destination"], item["type"] == "common_prefix") for item in body["paths"]
    ]
    made = body["commit"]
    said = Statement(made["message"], made.get("metadata") or {}, made.get("date"))
    repository, branch, force = (
        call.parameters["repository"],
        call.parameters["branch"],
        body.get("force", False),
    )
    job = await server.work(lambda: server.imports.start(repository, branch, sources, said, force=force))
    return reply_json(202, {"id": job})


async def import_status(server: Server, call: Call) -> Reply:
    """How an import stands."""
    job = exchange.required_text(call, "id")
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        return reply_json(
            200, _render_status(server.imports.status(session, repository, call.parameters["branch"], job))
        )


async def import_cancel(server: Server, call: Call) -> Reply:
    """Stops an import that has not ended."""
    job = exchange.required_text(call, "id")
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        server.imports.cancel(session, repository, call.parameters["branch"], job)
    return NO_CONTENT


async def get_physical_address(server: Server, call: Call) -> Reply:
    """A file that the client may write and then link; signed, so that nothing else can be linked."""
    path = exchange.required_text(call, "path")
    with server.store.database.read() as session:
        repository = repositories.writable_repository(session, call.parameters["repository"])
        objects.check_put_object(session, repository, call.parameters["branch"], path)
    if exchange.boolean_of(call, "presign"):
        raise Refusal(500, "local adapter presigned URL: operation not supported")
    address = server.store.staged.address(repository.name, call.parameters["branch"], path)
    return reply_json(200, {"physical_address": SCHEME + address, "presigned_url": None})


async def link_physical_address(server: Server, call: Call) -> Reply:
    """Stages an object whose bytes lie at an address given out before."""
    path = exchange.required_text(call, "path")
    body = await exchange.json_body(call, schemas.STAGING)
    branch, force = call.parameters["branch"], body.get("force", False)
    must_be_new = only_if_new(call)
    location = (body["staging"].get("physical_address") or "").removeprefix(SCHEME)
    if body["size_bytes"] < 0 or body.get("mtime", 0) < 0:
        raise Refusal(400, "argument size_bytes: invalid value: validation error")
    entry = Entry(
        checked_header(body["checksum"]),
        body["size_bytes"],
        body.get("mtime") or int(time.time()),
        location=location,
        content_type=checked_header(body.get("content_type") or DEFAULT_CONTENT_TYPE),
        metadata=body.get("user_metadata", {}),
    )

    def link(session: Session) -> bytes:
        repository = repositories.writable_repository(session, call.parameters["repository"], force=force)
        repositories.check_writable(repository, branch)
        if not server.store.staged.gave_out(location, repository.name, branch, path):
            raise Refusal(400, "address is not signed: link address invalid")
        return objects.put_object(session, repository, branch, path, entry, only_if_new=must_be_new)

    return server.objects.stats(path, await server.write(link))


def _render_status(value: Status) -> dict[str, Any]:
    said: dict[str, Any] = {
        "completed": value.completed,
        "update_time": stamp(value.updated),
        "ingested_objects": value.ingested,
    }
    if value.commit is not None:
        said |= {
            "metarange_id": (value.commit.root or b"").hex(),
            "commit": schemas.render_commit(value.commit),
        }
    if value.error:
        said["error"] = {"message": value.error}
    return said


async def own_operations(server: Server, call: Call) -> Reply:
    """What this server does beside lakeFS's API, with the limits of a request."""
    limits = {"bytes": MAX_BODY, "objects": MAX_OBJECTS}
    return reply_json(200, {"server": "lakefs_local", "operations": {"upload_objects": limits}})


async def upload_objects(server: Server, call: Call) -> Reply:
    """Durable before it is acknowledged, with two syncs for all."""
    branch = call.parameters["branch"]

    def repository_in(session: Session) -> repositories.Repository:
        return repositories.writable_repository(session, call.parameters["repository"])

    with server.store.database.read() as session:
        objects.check_branch_to_write(session, repository_in(session), branch)
    body = await call.body(MAX_BODY)
    found = list(_objects_of_body(body))
    for path, _ in found:
        check_path(path)
    with server.store.blobs.receive_many() as incoming:

        def store() -> Callable[[Session], None]:
            now = int(time.time())
            stored = incoming.store([content for _, content in found])
            entries = [
                (path, Entry(each.md5, each.size, now, each.digest))
                for (path, _), each in zip(found, stored, strict=True)
            ]
            return lambda session: objects.put_objects(session, repository_in(session), branch, entries)

        await server.prepare_and_write(store)
    return reply_json(201, {"objects": len(found)})


OPERATIONS = [
    ("GET", "/_lakefs_local/operations", own_operations),
    ("POST", "/_lakefs_local/repositories/{repository}/branches/{branch}/objects", upload_objects),
]


def _objects_of_body(body: bytes) -> Iterator[tuple[str, memoryview]]:
    """(path, bytes) of each object of a body. Raises Refusal (400) for one that is cut off or malformed."""
    view, at, count = memoryview(body), 0, 0
    while at < len(body):
        end = body.find(b"\n", at, at + _MAX_LINE)
        try:
            said = json.loads(body[at:end]) if end >= 0 else None
        except (ValueError, RecursionError):
            said = None
        path, size = (said.get("path"), said.get("size")) if isinstance(said, dict) else (None, None)
        if not isinstance(path, str) or type(size) is not int or size < 0:
            raise Refusal(400, f'expected {{"path": …, "size": …}} on a line at byte {at} of the body')
        if end + 1 + size > len(body):
            raise Refusal(400, f"the body ends within the {size} bytes of {path[:100]!r}")
        count += 1
        if count > MAX_OBJECTS:
            raise Refusal(413, f"more than {MAX_OBJECTS} objects in one request")
        yield path, view[end + 1 : end + 1 + size]
        at = end + 1 + size
