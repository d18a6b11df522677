"""Branches and tags; commits, merges and what undoes them; logs and differences."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from lakefs_local.catalog import commits, committing, diffs, objects, refs, repositories
from lakefs_local.catalog.commits import Commit
from lakefs_local.catalog.committing import Statement
from lakefs_local.catalog.conventions import CatalogError, prefixed
from lakefs_local.catalog.diffs import LogFilter
from lakefs_local.catalog.merge import Strategy
from lakefs_local.hooks.hook_runs import Event
from lakefs_local.http import exchange, schemas
from lakefs_local.http.exchange import NO_CONTENT, Call, Refusal, Reply, reply_json, reply_text
from lakefs_local.http.server import Server
from lakefs_local.storage.database import Session


async def commit(server: Server, call: Call) -> Reply:
    """What is staged on a branch."""
    body = await exchange.json_body(call, schemas.COMMIT)
    said = Statement(
        body["message"], body.get("metadata", {}), body.get("date"), body.get("allow_empty", False)
    )

    repository, branch, force = (
        call.parameters["repository"],
        call.parameters["branch"],
        body.get("force", False),
    )
    made = await server.change(lambda: server.guarded.commit(repository, branch, said, force=force))
    return reply_json(201, schemas.render_commit(made))


async def merge_into_branch(server: Server, call: Call) -> Reply:
    """The committed head of a reference into a branch."""
    body = await exchange.json_body(call, schemas.MERGE, optional=True)
    strategy = _strategy(body.get("strategy", ""))
    said = Statement(body.get("message", ""), body.get("metadata", {}), None, body.get("allow_empty", False))

    made = await server.change(
        lambda: server.guarded.merge(
            call.parameters["repository"],
            call.parameters["sourceRef"],
            call.parameters["destinationBranch"],
            said,
            strategy,
            squash=body.get("squash_merge", False),
            force=body.get("force", False),
        )
    )
    return reply_json(200, {"reference": made.id.hex()})


async def find_merge_base(server: Server, call: Call) -> Reply:
    """The nearest common ancestor. lakeFS names source and destination the other way round, and so do we."""
    source, destination = call.parameters["sourceRef"], call.parameters["destinationBranch"]

    def find(session: Session) -> tuple[bytes, bytes, bytes]:
        repository = repositories.get_repository(session, call.parameters["repository"])
        ids = []
        for reference in (source, destination):
            try:
                ids.append(refs.resolve_commit(session, repository.id, reference))
            except CatalogError as problem:
                raise prefixed(f"get commit by ref {reference}: ", problem) from None
        return ids[0], ids[1], commits.merge_base(session, repository.id, ids[0], ids[1]).id

    source_id, destination_id, base = await server.read(find)
    return reply_json(
        200,
        {
            "source_commit_id": destination_id.hex(),
            "destination_commit_id": source_id.hex(),
            "base_commit_id": base.hex(),
        },
    )


async def revert_branch(server: Server, call: Call) -> Reply:
    """Undo a commit by a new one."""
    body = await exchange.json_body(call, schemas.REVERT)
    said = _overridden(body)

    def make(session: Session) -> Commit:
        repository = repositories.writable_repository(
            session, call.parameters["repository"], force=body.get("force", False)
        )
        branch, number = call.parameters["branch"], body["parent_number"]
        return committing.revert(session, repository, branch, body["ref"], number, said)

    await server.change(lambda: server.guarded.around(_plan("pre-revert", call, said), make))
    return NO_CONTENT


async def cherry_pick(server: Server, call: Call) -> Reply:
    """Repeat a commit on top of a branch."""
    body = await exchange.json_body(call, schemas.CHERRY_PICK)
    said = _overridden(body)

    def make(session: Session) -> Commit:
        repository = repositories.writable_repository(
            session, call.parameters["repository"], force=body.get("force", False)
        )
        branch, number = call.parameters["branch"], body.get("parent_number")
        return committing.cherry_pick(session, repository, branch, body["ref"], number, said)

    made = await server.change(lambda: server.guarded.around(_plan("pre-cherry-pick", call, said), make))
    return reply_json(201, schemas.render_commit(made))


async def hard_reset_branch(server: Server, call: Call) -> Reply:
    """Point a clean branch at another commit."""
    reference, force = exchange.required_text(call, "ref"), exchange.boolean_of(call, "force")

    def reset(session: Session) -> None:
        repository = repositories.writable_repository(session, call.parameters["repository"], force=force)
        committing.hard_reset(session, repository, call.parameters["branch"], reference)

    await server.write(reset)
    return NO_CONTENT


async def log_commits(server: Server, call: Call) -> Reply:
    """History, newest first."""
    paging = exchange.paging_of(call)
    chosen = LogFilter(
        first_parent=exchange.boolean_of(call, "first_parent"),
        since=_time(exchange.text_of(call, "since", "")),
        stop_at=exchange.text_of(call, "stop_at", ""),
        objects=exchange.strings_of(call, "objects"),
        prefixes=exchange.strings_of(call, "prefixes"),
        limit=exchange.boolean_of(call, "limit"),
    )

    def read(session: Session) -> Reply:
        repository = repositories.get_repository(session, call.parameters["repository"])
        return schemas.render_page(
            diffs.log_of(session, repository, call.parameters["ref"], paging, chosen), schemas.render_commit
        )

    return await server.read(read)


async def diff_refs(server: Server, call: Call) -> Reply:
    """Two-dot, or by default three-dot: what a merge would bring."""
    paging = exchange.paging_of(call)
    kind = exchange.choice_of(call, "type", ["two_dot", "three_dot"], "three_dot")
    compare = diffs.diff_two_dot if kind == "two_dot" else diffs.diff_three_dot

    def read(session: Session) -> Reply:
        repository = repositories.get_repository(session, call.parameters["repository"])
        left, right = call.parameters["leftRef"], call.parameters["rightRef"]
        return schemas.render_page(
            compare(session, repository, left, right, paging), schemas.render_difference
        )

    return await server.read(read)


async def diff_branch(server: Server, call: Call) -> Reply:
    """What is staged."""
    paging = exchange.paging_of(call)

    def read(session: Session) -> Reply:
        repository = repositories.get_repository(session, call.parameters["repository"])
        return schemas.render_page(
            diffs.diff_uncommitted(session, repository, call.parameters["branch"], paging),
            schemas.render_difference,
        )

    return await server.read(read)


def _overridden(body: dict[str, Any]) -> Statement:
    overrides = body.get("commit_overrides", {})
    message, metadata = overrides.get("message") or "", overrides.get("metadata") or {}
    return Statement(message, metadata, None, body.get("allow_empty", False))


def _plan(event: str, call: Call, said: Statement) -> Callable[[Session], Event]:
    def plan(session: Session) -> Event:
        repository = repositories.get_repository(session, call.parameters["repository"])
        branch = repositories.get_branch(session, repository.id, call.parameters["branch"])
        return Event(
            event, repository, branch.name, branch.name, message=said.message, metadata=said.metadata
        )

    return plan


def _strategy(name: str) -> Strategy:
    try:
        return Strategy(name)
    except ValueError:
        raise Refusal(400, "argument strategy: invalid value: validation error") from None


def _time(text: str) -> float | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise Refusal(
            400, f'parameter "since" in query has an error: value {text}: an invalid date-time'
        ) from None


async def create_branch(server: Server, call: Call) -> Reply:
    """From a reference; answers the commit id as text."""
    body = await exchange.json_body(call, schemas.BRANCH)
    name, source, force = body["name"], body["source"], body.get("force", False)

    def resolve(session: Session) -> tuple[repositories.Repository, bytes]:
        repository = repositories.writable_repository(session, call.parameters["repository"], force=force)
        try:
            return repository, refs.resolve_commit(session, repository.id, source)
        except CatalogError as problem:
            raise prefixed(f"source reference '{source}': ", problem) from None

    def plan(session: Session) -> Event:
        repository, head = resolve(session)
        return Event("pre-create-branch", repository, source, name, commit_id=head.hex())

    def create(session: Session) -> str:
        repository, head = resolve(session)
        repositories.create_branch(session, repository, name, head, hidden=body.get("hidden", False))
        return head.hex()

    return reply_text(201, await server.change(lambda: server.guarded.around(plan, create)))


async def list_branches(server: Server, call: Call) -> Reply:
    """By name."""
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        hidden = exchange.boolean_of(call, "show_hidden")
        return schemas.render_page(
            repositories.page_of_branches(session, repository, exchange.paging_of(call), hidden=hidden),
            schemas.render_branch,
        )


async def get_branch(server: Server, call: Call) -> Reply:
    """Its name and head."""
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        return reply_json(
            200,
            schemas.render_branch(repositories.get_branch(session, repository.id, call.parameters["branch"])),
        )


async def delete_branch(server: Server, call: Call) -> Reply:
    """With what is staged on it."""
    name, force = call.parameters["branch"], exchange.boolean_of(call, "force")

    def plan(session: Session) -> Event:
        repository = repositories.writable_repository(session, call.parameters["repository"], force=force)
        branch = repositories.get_branch(session, repository.id, name)
        return Event("pre-delete-branch", repository, branch.head.hex(), name, commit_id=branch.head.hex())

    def delete(session: Session) -> None:
        repository = repositories.writable_repository(session, call.parameters["repository"], force=force)
        repositories.delete_branch(session, repository, name)

    await server.change(lambda: server.guarded.around(plan, delete))
    return NO_CONTENT


async def reset_branch(server: Server, call: Call) -> Reply:
    """Forget what is staged: all, under a prefix, or one object."""
    body = await exchange.json_body(call, schemas.RESET)
    kind, path = body["type"], body.get("path", "").encode()
    if kind != "reset" and not path:
        raise Refusal(
            400, f"argument path: invalid value: validation error: a reset of type {kind} needs one"
        )

    def reset(session: Session) -> None:
        repository = repositories.writable_repository(
            session, call.parameters["repository"], force=body.get("force", False)
        )
        repositories.check_writable(repository, call.parameters["branch"])
        branch = repositories.get_branch(session, repository.id, call.parameters["branch"])
        if kind == "object":
            objects.unstage(session, branch, path)
        else:
            objects.unstage_prefix(session, branch, path if kind == "common_prefix" else b"")

    await server.write(reset)
    return NO_CONTENT


async def create_tag(server: Server, call: Call) -> Reply:
    """On the commit a reference points to."""
    body = await exchange.json_body(call, schemas.TAG)
    name, reference, force = body["id"], body["ref"], body.get("force", False)

    def resolve(session: Session) -> tuple[repositories.Repository, bytes]:
        repository = repositories.writable_repository(session, call.parameters["repository"], force=force)
        return repository, refs.resolve_commit(session, repository.id, reference)

    def plan(session: Session) -> Event:
        repository, target = resolve(session)
        return Event("pre-create-tag", repository, target.hex(), tag=name, commit_id=target.hex())

    def create(session: Session) -> refs.Tag:
        repository, target = resolve(session)
        return refs.create_tag(session, repository, name, target)

    return reply_json(
        201, schemas.render_tag(await server.change(lambda: server.guarded.around(plan, create)))
    )


async def list_tags(server: Server, call: Call) -> Reply:
    """By name."""
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        return schemas.render_page(
            refs.page_of_tags(session, repository, exchange.paging_of(call)), schemas.render_tag
        )


async def get_tag(server: Server, call: Call) -> Reply:
    """Its name and commit."""
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        return reply_json(200, schemas.render_tag(refs.get_tag(session, repository, call.parameters["tag"])))


async def delete_tag(server: Server, call: Call) -> Reply:
    """The commit stays as long as anything reaches it."""
    name, force = call.parameters["tag"], exchange.boolean_of(call, "force")

    def plan(session: Session) -> Event:
        repository = repositories.writable_repository(session, call.parameters["repository"], force=force)
        target = refs.get_tag(session, repository, name).target.hex()
        return Event("pre-delete-tag", repository, target, tag=name, commit_id=target)

    def delete(session: Session) -> None:
        repository = repositories.writable_repository(session, call.parameters["repository"], force=force)
        refs.delete_tag(session, repository, name)

    await server.change(lambda: server.guarded.around(plan, delete))
    return NO_CONTENT


async def get_commit(server: Server, call: Call) -> Reply:
    """By id, or anything else that names a commit."""
    with server.store.database.read() as session:
        repository = repositories.get_repository(session, call.parameters["repository"])
        try:
            commit_id = refs.resolve_commit(session, repository.id, call.parameters["commitId"])
        except CatalogError as problem:
            raise type(problem)("commit not found") from None
        return reply_json(200, schemas.render_commit(commits.get(session, repository.id, commit_id)))
