"""The record of what hooks ran, and how they ended."""

from dataclasses import dataclass

from lakefs_local.catalog.errors import NotFound
from lakefs_local.catalog.paging import Page, Paging, cut
from lakefs_local.catalog.repositories import Repository
from lakefs_local.storage.database import Session

_RUN = "id, branch, event, source, commit_id, started, ended, passed"
_HOOK = "id, action, hook, started, ended, status, output"


@dataclass(frozen=True, slots=True)
class Run:
    """All hooks of one event. Times are in nanoseconds since the epoch."""

    id: str
    branch: str
    event: str
    source: str
    commit_id: str
    started: int
    ended: int
    passed: bool


@dataclass(frozen=True, slots=True)
class HookRun:
    """One hook of a run; `status` is completed, failed or skipped."""

    id: str
    action: str
    hook: str
    started: int
    ended: int
    status: str
    output: str


def add(session: Session, repository_id: int, run: Run, hook_runs: list[HookRun]) -> None:
    """Record a run with its hooks."""
    session.run(
        f"INSERT INTO runs (repository, {_RUN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(
            repository_id,
            run.id,
            run.branch,
            run.event,
            run.source,
            run.commit_id,
            run.started,
            run.ended,
            run.passed,
        ),
    )
    for hook in hook_runs:
        session.run(
            f"INSERT INTO hook_runs (repository, run, {_HOOK}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(
                repository_id,
                run.id,
                hook.id,
                hook.action,
                hook.hook,
                hook.started,
                hook.ended,
                hook.status,
                hook.output,
            ),
        )


def set_commit(session: Session, repository_id: int, run_id: str, commit_id: str) -> None:
    """Say which commit a run before a commit led to."""
    session.run(
        "UPDATE runs SET commit_id = ? WHERE repository = ? AND id = ?", commit_id, repository_id, run_id
    )


def get(session: Session, repository: Repository, run_id: str) -> Run:
    """Raises NotFound."""
    row = session.one(f"SELECT {_RUN} FROM runs WHERE repository = ? AND id = ?", repository.id, run_id)
    if row is None:
        raise NotFound("not found: not found")
    return Run(*row)


def listing(
    session: Session, repository: Repository, branch: str, commit_id: str, paging: Paging
) -> Page[Run]:
    """Runs, newest first, of a branch or a commit if given."""
    conditions, values = "", []
    for column, value in (("branch", branch), ("commit_id", commit_id)):
        if value:
            conditions += f" AND {column} = ?"
            values.append(value)
    rows = session.rows(
        f"SELECT {_RUN} FROM runs WHERE repository = ? AND id > ?{conditions} ORDER BY id LIMIT ?",
        *(repository.id, paging.after, *values, paging.amount + 1),
    )
    return cut([Run(*row) for row in rows], paging.amount, lambda run: run.id)


def hooks(session: Session, repository: Repository, run_id: str, paging: Paging) -> Page[HookRun]:
    """The hooks of a run, in order. Raises NotFound."""
    get(session, repository, run_id)
    rows = session.rows(
        f"SELECT {_HOOK} FROM hook_runs WHERE repository = ? AND run = ? AND id > ? ORDER BY id LIMIT ?",
        *(repository.id, run_id, paging.after, paging.amount + 1),
    )
    return cut([HookRun(*row) for row in rows], paging.amount, lambda run: run.id)


def hook(session: Session, repository: Repository, run_id: str, hook_run_id: str) -> HookRun:
    """Raises NotFound."""
    row = session.one(
        f"SELECT {_HOOK} FROM hook_runs WHERE repository = ? AND run = ? AND id = ?",
        *(repository.id, run_id, hook_run_id),
    )
    if row is None:
        raise NotFound("not found: not found")
    return HookRun(*row)
