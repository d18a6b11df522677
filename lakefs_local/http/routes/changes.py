"""Commits, merges and what undoes them; logs and differences."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from lakefs_local.catalog import branches, commits, committing, diffs, history, refs, repositories
from lakefs_local.catalog.commits import Commit
from lakefs_local.catalog.committing import Statement
from lakefs_local.catalog.errors import CatalogError, prefixed
from lakefs_local.catalog.history import LogFilter
from lakefs_local.catalog.merge import Strategy
from lakefs_local.hooks.runner import Event
from lakefs_local.http import parameters, render, schemas
from lakefs_local.http.call import NO_CONTENT, Call, Refusal, Reply, reply_json
from lakefs_local.http.server import Server
from lakefs_local.storage.database import Session


async def commit(server: Server, call: Call) -> Reply:
    """What is staged on a branch."""
    body = await parameters.body(call, schemas.COMMIT)
    said = Statement(
        body["message"], body.get("metadata", {}), body.get("date"), body.get("allow_empty", False)
    )

    repository, branch, force = (
        call.parameters["repository"],
        call.parameters["branch"],
        body.get("force", False),
    )
    made = await server.change(lambda: server.guarded.commit(repository, branch, said, force=force))
    return reply_json(201, render.commit(made))


async def merge_into_branch(server: Server, call: Call) -> Reply:
    """The committed head of a reference into a branch."""
    body = await parameters.body(call, schemas.MERGE, optional=True)
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
        repository = repositories.get(session, call.parameters["repository"])
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
    body = await parameters.body(call, schemas.REVERT)
    said = _overridden(body)

    def make(session: Session) -> Commit:
        repository = repositories.writable(
            session, call.parameters["repository"], force=body.get("force", False)
        )
        branch, number = call.parameters["branch"], body["parent_number"]
        return committing.revert(session, repository, branch, body["ref"], number, said)

    await server.change(lambda: server.guarded.around(_plan("pre-revert", call, said), make))
    return NO_CONTENT


async def cherry_pick(server: Server, call: Call) -> Reply:
    """Repeat a commit on top of a branch."""
    body = await parameters.body(call, schemas.CHERRY_PICK)
    said = _overridden(body)

    def make(session: Session) -> Commit:
        repository = repositories.writable(
            session, call.parameters["repository"], force=body.get("force", False)
        )
        branch, number = call.parameters["branch"], body.get("parent_number")
        return committing.cherry_pick(session, repository, branch, body["ref"], number, said)

    made = await server.change(lambda: server.guarded.around(_plan("pre-cherry-pick", call, said), make))
    return reply_json(201, render.commit(made))


async def hard_reset_branch(server: Server, call: Call) -> Reply:
    """Point a clean branch at another commit."""
    reference, force = parameters.required(call, "ref"), parameters.boolean(call, "force")

    def reset(session: Session) -> None:
        repository = repositories.writable(session, call.parameters["repository"], force=force)
        committing.hard_reset(session, repository, call.parameters["branch"], reference)

    await server.write(reset)
    return NO_CONTENT


async def log_commits(server: Server, call: Call) -> Reply:
    """History, newest first."""
    paging = parameters.paging(call)
    chosen = LogFilter(
        first_parent=parameters.boolean(call, "first_parent"),
        since=_time(parameters.text(call, "since", "")),
        stop_at=parameters.text(call, "stop_at", ""),
        objects=parameters.strings(call, "objects"),
        prefixes=parameters.strings(call, "prefixes"),
        limit=parameters.boolean(call, "limit"),
    )

    def read(session: Session) -> Reply:
        repository = repositories.get(session, call.parameters["repository"])
        return render.page(
            history.log(session, repository, call.parameters["ref"], paging, chosen), render.commit
        )

    return await server.read(read)


async def diff_refs(server: Server, call: Call) -> Reply:
    """Two-dot, or by default three-dot: what a merge would bring."""
    paging = parameters.paging(call)
    kind = parameters.choice(call, "type", ["two_dot", "three_dot"], "three_dot")
    compare = diffs.two_dot if kind == "two_dot" else diffs.three_dot

    def read(session: Session) -> Reply:
        repository = repositories.get(session, call.parameters["repository"])
        left, right = call.parameters["leftRef"], call.parameters["rightRef"]
        return render.page(compare(session, repository, left, right, paging), render.difference)

    return await server.read(read)


async def diff_branch(server: Server, call: Call) -> Reply:
    """What is staged."""
    paging = parameters.paging(call)

    def read(session: Session) -> Reply:
        repository = repositories.get(session, call.parameters["repository"])
        return render.page(
            diffs.uncommitted(session, repository, call.parameters["branch"], paging), render.difference
        )

    return await server.read(read)


def _overridden(body: dict[str, Any]) -> Statement:
    overrides = body.get("commit_overrides", {})
    message, metadata = overrides.get("message") or "", overrides.get("metadata") or {}
    return Statement(message, metadata, None, body.get("allow_empty", False))


def _plan(event: str, call: Call, said: Statement) -> Callable[[Session], Event]:
    def plan(session: Session) -> Event:
        repository = repositories.get(session, call.parameters["repository"])
        branch = branches.get(session, repository.id, call.parameters["branch"])
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
