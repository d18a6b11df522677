"""Imports, and objects whose bytes the client puts into place itself."""

import time
from typing import Any

from lakefs_local.catalog import branches, objects, repositories
from lakefs_local.catalog.committing import Statement
from lakefs_local.http import parameters, render, schemas
from lakefs_local.http.call import NO_CONTENT, Call, Refusal, Reply, reply_json
from lakefs_local.http.object_routes import checked_header, only_if_new
from lakefs_local.http.routes.actions import stamp
from lakefs_local.http.server import Server
from lakefs_local.import_job import Status
from lakefs_local.import_sources import SCHEME, Source
from lakefs_local.storage.database import Session
from lakefs_local.storage.records import DEFAULT_CONTENT_TYPE, Entry


async def import_start(server: Server, call: Call) -> Reply:
    """Starts in the background; answers its id."""
    body = await parameters.body(call, schemas.IMPORT)
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
    job = parameters.required(call, "id")
    with server.store.database.read() as session:
        repository = repositories.get(session, call.parameters["repository"])
        return reply_json(
            200, _status(server.imports.status(session, repository, call.parameters["branch"], job))
        )


async def import_cancel(server: Server, call: Call) -> Reply:
    """Stops an import that has not ended."""
    job = parameters.required(call, "id")
    with server.store.database.read() as session:
        repository = repositories.get(session, call.parameters["repository"])
        server.imports.cancel(session, repository, call.parameters["branch"], job)
    return NO_CONTENT


async def get_physical_address(server: Server, call: Call) -> Reply:
    """A file that the client may write and then link; signed, so that nothing else can be linked."""
    path = parameters.required(call, "path")
    with server.store.database.read() as session:
        repository = repositories.writable(session, call.parameters["repository"])
        objects.check_put(session, repository, call.parameters["branch"], path)
    if parameters.boolean(call, "presign"):
        raise Refusal(500, "local adapter presigned URL: operation not supported")
    address = server.store.staged.address(repository.name, call.parameters["branch"], path)
    return reply_json(200, {"physical_address": SCHEME + address, "presigned_url": None})


async def link_physical_address(server: Server, call: Call) -> Reply:
    """Stages an object whose bytes lie at an address given out before."""
    path = parameters.required(call, "path")
    body = await parameters.body(call, schemas.STAGING)
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
        repository = repositories.writable(session, call.parameters["repository"], force=force)
        branches.check_writable(repository, branch)
        if not server.store.staged.gave_out(location, repository.name, branch, path):
            raise Refusal(400, "address is not signed: link address invalid")
        return objects.put(session, repository, branch, path, entry, only_if_new=must_be_new)

    return server.objects.stats(path, await server.write(link))


def _status(value: Status) -> dict[str, Any]:
    said: dict[str, Any] = {
        "completed": value.completed,
        "update_time": stamp(value.updated),
        "ingested_objects": value.ingested,
    }
    if value.commit is not None:
        said |= {"metarange_id": (value.commit.root or b"").hex(), "commit": render.commit(value.commit)}
    if value.error:
        said["error"] = {"message": value.error}
    return said
