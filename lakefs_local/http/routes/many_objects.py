"""Many small objects in one request, made durable together: an operation of this server's own, no part of lakeFS's API.

The body is, object after object, a line of JSON `{"path": …, "size": …}` and as many bytes. All of them are staged, or
none. A client asks `GET /_lakefs_local/operations` whether the server at hand has the operation.
"""

import json
import time
from collections.abc import Callable, Iterator

from lakefs_local.catalog import objects, repositories
from lakefs_local.catalog.names import check_path
from lakefs_local.http.call import Call, Refusal, Reply, reply_json
from lakefs_local.http.server import Server
from lakefs_local.storage.database import Session
from lakefs_local.storage.records import Entry

MAX_BODY = 64 << 20
MAX_OBJECTS = 10_000
_MAX_LINE = 8192


async def own_operations(server: Server, call: Call) -> Reply:
    """What this server does beside lakeFS's API, with the limits of a request."""
    limits = {"bytes": MAX_BODY, "objects": MAX_OBJECTS}
    return reply_json(200, {"server": "lakefs_local", "operations": {"upload_objects": limits}})


async def upload_objects(server: Server, call: Call) -> Reply:
    """Durable before it is acknowledged, with two syncs for all."""
    branch = call.parameters["branch"]

    def repository_in(session: Session) -> repositories.Repository:
        return repositories.writable(session, call.parameters["repository"])

    with server.store.database.read() as session:
        objects.check_branch(session, repository_in(session), branch)
    body = await call.body(MAX_BODY)
    found = list(_objects(body))
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
            return lambda session: objects.put_many(session, repository_in(session), branch, entries)

        await server.prepare_and_write(store)
    return reply_json(201, {"objects": len(found)})


OPERATIONS = [
    ("GET", "/_lakefs_local/operations", own_operations),
    ("POST", "/_lakefs_local/repositories/{repository}/branches/{branch}/objects", upload_objects),
]


def _objects(body: bytes) -> Iterator[tuple[str, memoryview]]:
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
