"""Branches and tags."""

from lakefs_local.catalog import branches, commits, refs, repositories, staging, tags
from lakefs_local.catalog.errors import CatalogError, prefixed
from lakefs_local.hooks.runner import Event
from lakefs_local.http import parameters, render, schemas
from lakefs_local.http.call import NO_CONTENT, Call, Refusal, Reply, reply_json, reply_text
from lakefs_local.http.server import Server
from lakefs_local.storage.database import Session


async def create_branch(server: Server, call: Call) -> Reply:
    """From a reference; answers the commit id as text."""
    body = await parameters.body(call, schemas.BRANCH)
    name, source, force = body["name"], body["source"], body.get("force", False)

    def resolve(session: Session) -> tuple[repositories.Repository, bytes]:
        repository = repositories.writable(session, call.parameters["repository"], force=force)
        try:
            return repository, refs.resolve_commit(session, repository.id, source)
        except CatalogError as problem:
            raise prefixed(f"source reference '{source}': ", problem) from None

    def plan(session: Session) -> Event:
        repository, head = resolve(session)
        return Event("pre-create-branch", repository, source, name, commit_id=head.hex())

    def create(session: Session) -> str:
        repository, head = resolve(session)
        branches.create(session, repository, name, head, hidden=body.get("hidden", False))
        return head.hex()

    return reply_text(201, await server.change(lambda: server.guarded.around(plan, create)))


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
    name, force = call.parameters["branch"], parameters.boolean(call, "force")

    def plan(session: Session) -> Event:
        repository = repositories.writable(session, call.parameters["repository"], force=force)
        branch = branches.get(session, repository.id, name)
        return Event("pre-delete-branch", repository, branch.head.hex(), name, commit_id=branch.head.hex())

    def delete(session: Session) -> None:
        repository = repositories.writable(session, call.parameters["repository"], force=force)
        branches.delete(session, repository, name)

    await server.change(lambda: server.guarded.around(plan, delete))
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
    name, reference, force = body["id"], body["ref"], body.get("force", False)

    def resolve(session: Session) -> tuple[repositories.Repository, bytes]:
        repository = repositories.writable(session, call.parameters["repository"], force=force)
        return repository, refs.resolve_commit(session, repository.id, reference)

    def plan(session: Session) -> Event:
        repository, target = resolve(session)
        return Event("pre-create-tag", repository, target.hex(), tag=name, commit_id=target.hex())

    def create(session: Session) -> tags.Tag:
        repository, target = resolve(session)
        return tags.create(session, repository, name, target)

    return reply_json(201, render.tag(await server.change(lambda: server.guarded.around(plan, create))))


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
    name, force = call.parameters["tag"], parameters.boolean(call, "force")

    def plan(session: Session) -> Event:
        repository = repositories.writable(session, call.parameters["repository"], force=force)
        target = tags.get(session, repository, name).target.hex()
        return Event("pre-delete-tag", repository, target, tag=name, commit_id=target)

    def delete(session: Session) -> None:
        repository = repositories.writable(session, call.parameters["repository"], force=force)
        tags.delete(session, repository, name)

    await server.change(lambda: server.guarded.around(plan, delete))
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
