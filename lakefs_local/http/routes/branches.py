"""Branches and tags."""

from lakefs_local.catalog import branches, commits, refs, repositories, staging, tags
from lakefs_local.catalog.errors import CatalogError, prefixed
from lakefs_local.http import parameters, render, schemas
from lakefs_local.http.call import NO_CONTENT, Call, Refusal, Reply, reply_json, reply_text
from lakefs_local.http.server import Server
from lakefs_local.storage.database import Session


async def create_branch(server: Server, call: Call) -> Reply:
    """From a reference; answers the commit id as text."""
    body = await parameters.body(call, schemas.BRANCH)
    repository_name, force = call.parameters["repository"], body.get("force", False)

    def create(session: Session) -> str:
        repository = repositories.writable(session, repository_name, force=force)
        try:
            head = refs.resolve_commit(session, repository.id, body["source"])
        except CatalogError as problem:
            raise prefixed(f"source reference '{body['source']}': ", problem) from None
        branches.create(session, repository, body["name"], head, hidden=body.get("hidden", False))
        return head.hex()

    return reply_text(201, await server.write(create))


async def list_branches(server: Server, call: Call) -> Reply:
    """By name."""
    with server.store.database.read() as session:
        repository = repositories.get(session, call.parameters["repository"])
        hidden = parameters.boolean(call, "show_hidden")
        return render.page(
            branches.listing(session, repository, parameters.paging(call), hidden=hidden), render.branch
        )


async def get_branch(server: Server, call: Call) -> Reply:
    """Its name and head."""
    with server.store.database.read() as session:
        repository = repositories.get(session, call.parameters["repository"])
        return reply_json(200, render.branch(branches.get(session, repository.id, call.parameters["branch"])))


async def delete_branch(server: Server, call: Call) -> Reply:
    """With what is staged on it."""
    force = parameters.boolean(call, "force")

    def delete(session: Session) -> None:
        repository = repositories.writable(session, call.parameters["repository"], force=force)
        branches.delete(session, repository, call.parameters["branch"])

    await server.write(delete)
    return NO_CONTENT


async def reset_branch(server: Server, call: Call) -> Reply:
    """Forget what is staged: all, under a prefix, or one object."""
    body = await parameters.body(call, schemas.RESET)
    kind, path = body["type"], body.get("path", "").encode()
    if kind != "reset" and not path:
        raise Refusal(
            400, f"argument path: invalid value: validation error: a reset of type {kind} needs one"
        )

    def reset(session: Session) -> None:
        repository = repositories.writable(
            session, call.parameters["repository"], force=body.get("force", False)
        )
        branches.check_writable(repository, call.parameters["branch"])
        branch = branches.get(session, repository.id, call.parameters["branch"])
        if kind == "object":
            staging.drop(session, branch, path)
        else:
            staging.drop_prefix(session, branch, path if kind == "common_prefix" else b"")

    await server.write(reset)
    return NO_CONTENT


async def create_tag(server: Server, call: Call) -> Reply:
    """On the commit a reference points to."""
    body = await parameters.body(call, schemas.TAG)

    def create(session: Session) -> tags.Tag:
        repository = repositories.writable(
            session, call.parameters["repository"], force=body.get("force", False)
        )
        target = refs.resolve_commit(session, repository.id, body["ref"])
        return tags.create(session, repository, body["id"], target)

    return reply_json(201, render.tag(await server.write(create)))


async def list_tags(server: Server, call: Call) -> Reply:
    """By name."""
    with server.store.database.read() as session:
        repository = repositories.get(session, call.parameters["repository"])
        return render.page(tags.listing(session, repository, parameters.paging(call)), render.tag)


async def get_tag(server: Server, call: Call) -> Reply:
    """Its name and commit."""
    with server.store.database.read() as session:
        repository = repositories.get(session, call.parameters["repository"])
        return reply_json(200, render.tag(tags.get(session, repository, call.parameters["tag"])))


async def delete_tag(server: Server, call: Call) -> Reply:
    """The commit stays as long as anything reaches it."""
    force = parameters.boolean(call, "force")

    def delete(session: Session) -> None:
        repository = repositories.writable(session, call.parameters["repository"], force=force)
        tags.delete(session, repository, call.parameters["tag"])

    await server.write(delete)
    return NO_CONTENT


async def get_commit(server: Server, call: Call) -> Reply:
    """By id, or anything else that names a commit."""
    with server.store.database.read() as session:
        repository = repositories.get(session, call.parameters["repository"])
        try:
            commit_id = refs.resolve_commit(session, repository.id, call.parameters["commitId"])
        except CatalogError as problem:
            raise type(problem)("commit not found") from None
        return reply_json(200, render.commit(commits.get(session, repository.id, commit_id)))
