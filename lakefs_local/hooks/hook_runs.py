"""Running the hooks of an event, one action after the other, and the record of how they ended."""

import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lakefs_local.catalog import objects
from lakefs_local.catalog.conventions import (
    BrokenActions,
    CatalogError,
    NotFound,
    Page,
    Paging,
    PreconditionFailed,
    cut_page,
    prefixed,
)
from lakefs_local.catalog.repositories import Repository
from lakefs_local.hooks import action_files
from lakefs_local.hooks.action_files import (
    PREFIX,
    Action,
    Calls,
    Hook,
    HookFailed,
    InvalidAction,
    parse_action,
)
from lakefs_local.storage import encoding
from lakefs_local.storage.database import Session
from lakefs_local.store import Store, new_id

_RUN_COLUMNS = "id, branch, event, source, commit_id, started, ended, passed"
_HOOK_COLUMNS = "id, action, hook, started, ended, status, output"
_FILE_LIMIT = 64 << 10
_ALL_FILES_LIMIT = 1 << 20
_MAX_FILES = 1000


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


def add_run(session: Session, repository_id: int, run: Run, hook_runs: list[HookRun]) -> None:
    """Record a run with its hooks."""
    session.run(
        f"INSERT INTO runs (repository, {_RUN_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
            f"INSERT INTO hook_runs (repository, run, {_HOOK_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
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


def set_commit_of_run(session: Session, repository_id: int, run_id: str, commit_id: str) -> None:
    """Say which commit a run before a commit led to."""
    session.run(
        "UPDATE runs SET commit_id = ? WHERE repository = ? AND id = ?", commit_id, repository_id, run_id
    )


def get_run(session: Session, repository: Repository, run_id: str) -> Run:
    """Raises NotFound."""
    row = session.one(
        f"SELECT {_RUN_COLUMNS} FROM runs WHERE repository = ? AND id = ?", repository.id, run_id
    )
    if row is None:
        raise NotFound("not found: not found")
    return Run(*row)


def page_of_runs(
    session: Session, repository: Repository, branch: str, commit_id: str, paging: Paging
) -> Page[Run]:
    """Runs, newest first, of a branch or a commit if given."""
    conditions, values = "", []
    for column, value in (("branch", branch), ("commit_id", commit_id)):
        if value:
            conditions += f" AND {column} = ?"
            values.append(value)
    rows = session.rows(
        f"SELECT {_RUN_COLUMNS} FROM runs WHERE repository = ? AND id > ?{conditions} ORDER BY id LIMIT ?",
        *(repository.id, paging.after, *values, paging.amount + 1),
    )
    return cut_page([Run(*row) for row in rows], paging.amount, lambda run: run.id)


def hooks_of_run(session: Session, repository: Repository, run_id: str, paging: Paging) -> Page[HookRun]:
    """The hooks of a run, in order. Raises NotFound."""
    get_run(session, repository, run_id)
    rows = session.rows(
        f"SELECT {_HOOK_COLUMNS} FROM hook_runs WHERE repository = ? AND run = ? AND id > ? ORDER BY id LIMIT ?",
        *(repository.id, run_id, paging.after, paging.amount + 1),
    )
    return cut_page([HookRun(*row) for row in rows], paging.amount, lambda run: run.id)


def hook_of_run(session: Session, repository: Repository, run_id: str, hook_run_id: str) -> HookRun:
    """Raises NotFound."""
    row = session.one(
        f"SELECT {_HOOK_COLUMNS} FROM hook_runs WHERE repository = ? AND run = ? AND id = ?",
        *(repository.id, run_id, hook_run_id),
    )
    if row is None:
        raise NotFound("not found: not found")
    return HookRun(*row)


@dataclass(frozen=True)
class Event:
    """What hooks are told. `source` is the reference whose action files count."""

    type: str
    repository: Repository
    source: str
    branch: str = ""
    tag: str = ""
    commit_id: str = ""
    message: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    merge_source: str = ""
    run_id: str = field(default_factory=new_id)

    def told(self, action: Action, hook: Hook) -> dict[str, Any]:
        """The JSON object that a hook gets; what is empty is left out."""
        values = {
            "event_type": self.type,
            "event_time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "action_name": action.name,
            "hook_id": hook.id,
            "repository_id": self.repository.name,
            "branch_id": self.branch,
            "source_ref": self.source,
            "tag_id": self.tag,
            "commit_id": self.commit_id,
            "commit_message": self.message,
            "committer": "admin",
            "commit_metadata": self.metadata,
            "merge_source": self.merge_source,
        }
        return {name: value for name, value in values.items() if value}


def load_actions(store: Store, session: Session, event: Event) -> list[Action]:
    """The actions that the event's source holds. Raises BrokenActions, NotFound."""
    aborted = f"{event.type} hook aborted, run id '{event.run_id}': "
    try:
        found = objects.page_of_objects(
            session, event.repository, event.source, Paging(PREFIX, "", _MAX_FILES, "/")
        )
    except CatalogError as problem:
        raise prefixed(f"{aborted}list actions from commit: listing actions: ", problem) from None
    actions: list[Action] = []
    problems = []
    left = _ALL_FILES_LIMIT
    for path, record in found.results:
        if record is None:
            continue
        try:
            content = _content(store, record)
            left -= len(content)
            if left < 0:
                raise InvalidAction(f"all action files together are larger than {_ALL_FILES_LIMIT} bytes")
            actions.append(parse_action(content))
        except (InvalidAction, OSError) as problem:
            problems.append(f"parsing file {path.decode()}: {problem}")
    names = [action.name for action in actions]
    problems += [
        f"action name '{name}' already loaded: invalid action" for name in names if names.count(name) > 1
    ][:1]
    if problems:
        raise BrokenActions(aborted + _several(problems))
    return actions


def run_hooks(store: Store, event: Event, actions: list[Action], calls: Calls | None = None) -> str | None:
    """Run the hooks of the matching actions, within `webhook.TOTAL_SECONDS` in all; the run's id if there were any.

    Raises PreconditionFailed.
    """
    by = time.monotonic() + action_files.TOTAL_SECONDS
    hook_runs: list[HookRun] = []
    problems = []
    for number, action in enumerate(action for action in actions if action.matches(event.type, event.branch)):
        problem = _run_action(event, action, number, hook_runs, by, calls)
        if problem:
            problems.append(problem)
    if not hook_runs:
        return None
    started = [hook.started for hook in hook_runs if hook.started]
    ended = max(hook.ended for hook in hook_runs)
    done = Run(
        *(event.run_id, event.branch, event.type, event.source, event.commit_id),
        *(min(started, default=ended), ended, not problems),
    )
    store.database.write(lambda session: add_run(session, event.repository.id, done, hook_runs)).result()
    if problems:
        raise PreconditionFailed(f"{event.type} hook aborted, run id '{event.run_id}': {_several(problems)}")
    return event.run_id


def _run_action(
    event: Event, action: Action, number: int, hook_runs: list[HookRun], by: float, calls: Calls | None
) -> str:
    """Run an action's hooks until one fails; those after it only if they ask for that. The first problem."""
    problem = ""
    for place, hook in enumerate(action.hooks):
        hook_id = f"{number:04d}_{place:04d}"
        output: list[str] = []
        started, status = time.time_ns(), "completed"
        try:
            if not _wanted(hook.condition, failed=bool(problem)):
                hook_runs.append(HookRun(hook_id, action.name, hook.id, 0, 0, "skipped", ""))
                continue
            if hook.type != "webhook":
                raise HookFailed(f"hooks of type {hook.type} are not supported by lakefs_local")
            within = by - time.monotonic()
            action_files.call_webhook(
                hook.properties, event.told(action, hook), output, within=within, calls=calls
            )
        except HookFailed as failure:
            status = "failed"
            output.append(f"Error: {failure}\n")
            problem = problem or (
                f"hook run id '{hook_id}' failed on action '{action.name}' hook '{hook.id}': {failure}"
            )
        hook_runs.append(
            HookRun(hook_id, action.name, hook.id, started, time.time_ns(), status, "".join(output))
        )
    return problem


def _wanted(condition: str, *, failed: bool) -> bool:
    answers = {"": not failed, "success()": not failed, "failure()": failed, "true": True, "false": False}
    if condition.strip() not in answers:
        raise HookFailed(
            f"the condition {condition[:100]!r} is not supported: use success(), failure(), true or false"
        )
    return answers[condition.strip()]


def _content(store: Store, record: bytes) -> bytes:
    entry = encoding.unpack_record(record)
    if entry.size > _FILE_LIMIT:
        raise InvalidAction(f"larger than {_FILE_LIMIT} bytes: invalid action")
    with os.fdopen(store.open_content(entry), "rb") as file:
        return file.read(_FILE_LIMIT)


def _several(problems: list[str]) -> str:
    count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
    return f"{count} occurred:\n\t* " + "\n\t* ".join(problems) + "\n\n"
