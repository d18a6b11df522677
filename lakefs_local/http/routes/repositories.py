"""Repositories, their metadata, and which of their branches are protected."""

import hashlib
import json

from lakefs_local import sample
from lakefs_local.catalog import repositories
from lakefs_local.catalog.repositories import Protection
from lakefs_local.http import parameters, render, schemas
from lakefs_local.http.call import NO_CONTENT, Call, Refusal, Reply, reply_json
from lakefs_local.http.server import Server
from lakefs_local.storage.database import Session


async def create_repository(server: Server, call: Call) -> Reply:
    """With a first commit, "Repository created"; on request with sample objects, or bare."""
    body, bare = await parameters.body(call, schemas.REPOSITORY), parameters.boolean(call, "bare")
    name, default_branch = body["name"], body.get("default_branch") or "main"

    def create(session: Session) -> repositories.Repository:
        repositories.check_new(session, name)
        if body.get("storage_id"):
            # There is one store here, and it has no id.
            raise Refusal(400, f"no such storage: {body['storage_id']}: invalid storage id")
        return repositories.create(
            session,
            name,
            body["storage_namespace"],
            default_branch,
            read_only=body.get("read_only", False),
            metadata={},
            bare=bare,
        )

    # As in lakeFS, a bare repository stays empty whatever else is asked for.
    if bare or not body.get("sample_data"):
        return reply_json(201, render.repository(await server.write(create)))
    made = await server.work(lambda: sample.populate(server.store, create))
    return reply_json(201, render.repository(made))


async def list_repositories(server: Server, call: Call) -> Reply:
    """By name."""
    with server.store.database.read() as session:
        return render.page(repositories.listing(session, parameters.paging(call)), render.repository)


async def get_repository(server: Server, call: Call) -> Reply:
    """One repository."""
    with server.store.database.read() as session:
        return reply_json(200, render.repository(repositories.get(session, call.parameters["repository"])))


async def delete_repository(server: Server, call: Call) -> Reply:
    """With all it holds; its blobs go with the next collection."""
    name, force = call.parameters["repository"], parameters.boolean(call, "force")
    await server.write(lambda session: repositories.delete(session, name, force=force))
    return NO_CONTENT


async def get_repository_metadata(server: Server, call: Call) -> Reply:
    """A map of strings."""
    with server.store.database.read() as session:
        return reply_json(200, repositories.get(session, call.parameters["repository"]).metadata)


async def set_repository_metadata(server: Server, call: Call) -> Reply:
    """Add or replace keys."""
    body = await parameters.body(call, schemas.REPOSITORY_METADATA)
    name = call.parameters["repository"]
    await server.write(
        lambda session: repositories.set_metadata(
            session, repositories.writable(session, name), body["metadata"]
        )
    )
    return Reply(201)


async def delete_repository_metadata(server: Server, call: Call) -> Reply:
    """Remove keys."""
    body = await parameters.body(call, schemas.REPOSITORY_METADATA_KEYS)
    name = call.parameters["repository"]
    await server.write(
        lambda session: repositories.delete_metadata(
            session, repositories.writable(session, name), body["keys"]
        )
    )
    return NO_CONTENT


async def get_branch_protection_rules(server: Server, call: Call) -> Reply:
    """The rules, with an ETag to change them by."""
    with server.store.database.read() as session:
        rules = repositories.get(session, call.parameters["repository"]).protection
    reply = reply_json(200, [{"pattern": rule.pattern} for rule in rules])
    reply.headers["etag"] = _etag(rules)
    return reply


async def set_branch_protection_rules(server: Server, call: Call) -> Reply:
    """Replace the rules; with `If-Match` only if nobody else has meanwhile."""
    rules = await parameters.body_list(call, schemas.PROTECTION_RULE)
    expected = call.headers.get("if-match")
    name = call.parameters["repository"]

    def replace(session: Session) -> None:
        repository = repositories.writable(session, name)
        if expected is not None and expected != _etag(repository.protection):
            raise Refusal(412, "the branch protection rules have changed: precondition failed")
        repositories.set_protection(session, repository, [Protection(rule["pattern"]) for rule in rules])

    await server.write(replace)
    return NO_CONTENT


def _etag(rules: tuple[Protection, ...]) -> str:
    return hashlib.sha256(json.dumps(rules).encode()).hexdigest() if rules else ""
