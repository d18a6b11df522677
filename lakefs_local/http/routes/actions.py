"""What hooks ran and what they said."""

from datetime import UTC, datetime
from typing import Any

from lakefs_local.catalog import repositories
from lakefs_local.hooks import runs
from lakefs_local.hooks.runs import HookRun, Run
from lakefs_local.http import parameters, render
from lakefs_local.http.call import Call, Reply, reply_json
from lakefs_local.http.server import Server


async def list_repository_runs(server: Server, call: Call) -> Reply:
    """Newest first, of a branch or commit if asked."""
    branch, commit_id = parameters.text(call, "branch", ""), parameters.text(call, "commit", "")
    with server.store.database.read() as session:
        repository = repositories.get(session, call.parameters["repository"])
        return render.page(
            runs.listing(session, repository, branch, commit_id, parameters.paging(call)), _run
        )


async def get_run(server: Server, call: Call) -> Reply:
    """One run."""
    with server.store.database.read() as session:
        repository = repositories.get(session, call.parameters["repository"])
        return reply_json(200, _run(runs.get(session, repository, call.parameters["run_id"])))


async def list_run_hooks(server: Server, call: Call) -> Reply:
    """The hooks of a run."""
    with server.store.database.read() as session:
        repository = repositories.get(session, call.parameters["repository"])
        return render.page(
            runs.hooks(session, repository, call.parameters["run_id"], parameters.paging(call)), _hook
        )


async def get_run_hook_output(server: Server, call: Call) -> Reply:
    """What was sent to a hook and what it answered."""
    with server.store.database.read() as session:
        repository = repositories.get(session, call.parameters["repository"])
        found = runs.hook(session, repository, call.parameters["run_id"], call.parameters["hook_run_id"])
    return Reply(
        200, found.output.encode(), "application/octet-stream", {"x-content-type-options": "nosniff"}
    )


def _run(value: Run) -> dict[str, Any]:
    return {
        "run_id": value.id,
        "branch": value.branch,
        "commit_id": value.commit_id,
        "event_type": value.event,
        "start_time": stamp(value.started),
        "end_time": stamp(value.ended),
        "status": "completed" if value.passed else "failed",
    }


def _hook(value: HookRun) -> dict[str, Any]:
    return {
        "hook_run_id": value.id,
        "action": value.action,
        "hook_id": value.hook,
        "start_time": stamp(value.started),
        "end_time": stamp(value.ended),
        "status": value.status,
    }


def stamp(nanoseconds: int) -> str:
    """A time as lakeFS writes it."""
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
