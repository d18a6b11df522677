"""Changes with their hooks: asked before, told after. Everything here blocks, so it runs in a thread."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TypeVar

from lakefs_local.catalog import committing, repositories
from lakefs_local.catalog.commits import Commit
from lakefs_local.catalog.committing import PreparedMerge, Statement
from lakefs_local.catalog.conventions import CatalogError, TooManyTries, prefixed
from lakefs_local.catalog.merge import Strategy
from lakefs_local.catalog.repositories import Repository
from lakefs_local.hooks import hook_runs
from lakefs_local.hooks.action_files import Action, Calls
from lakefs_local.hooks.hook_runs import Event
from lakefs_local.storage.database import Session
from lakefs_local.store import Gate, Store, new_id

T = TypeVar("T")

_MERGE_TRIES = 5
# Of those told afterwards, where a silent one keeps the others waiting.
_MOST_WAITING = 1000
_LAST_WORDS_SECONDS = 5.0
_log = logging.getLogger("lakefs_local")


class Guarded:
    """Makes changes to a store, running hooks around them; those told afterwards run in a thread of their own."""

    def __init__(self, store: Store):
        self._store = store
        self.gate = Gate()
        self._afterwards = ThreadPoolExecutor(4, thread_name_prefix="hooks")
        self._calls = Calls()
        self._waiting: set[Future[None]] = set()

    def leave(self) -> None:
        """Wait for hooks still being told, for so long as a silent one may hold up the end; then end them all, also
        those that a change waits for."""
        wait(set(self._waiting), timeout=_LAST_WORDS_SECONDS)
        self._calls.end()

    def close(self) -> None:
        """Wait for hooks that have been ended."""
        self._afterwards.shutdown(cancel_futures=True)

    def commit(self, repository_name: str, branch_name: str, statement: Statement, *, force: bool) -> Commit:
        """Commit what is staged. Raises as `committing.commit`, BrokenActions, PreconditionFailed."""
        with self.gate.shared():
            return self._commit(repository_name, branch_name, statement, force=force)

    def _commit(self, repository_name: str, branch_name: str, statement: Statement, *, force: bool) -> Commit:
        with self._store.database.read() as session:
            repository = repositories.writable_repository(session, repository_name, force=force)
            repositories.check_committable(repository, branch_name)
            event = _event("prepare-commit", repository, branch_name, branch_name, statement)
            actions = hook_runs.load_actions(self._store, session, event)
        sealed = None
        run_id = None
        if _any_matches(actions, branch_name, "prepare-commit", "pre-commit"):
            hook_runs.run_hooks(self._store, event, actions, self._calls)
            sealed = self._write(
                lambda s: repositories.seal_branch(s, repositories.get_branch(s, repository.id, branch_name))
            )
            before = _event("pre-commit", repository, branch_name, branch_name, statement)
            run_id = hook_runs.run_hooks(self._store, before, actions, self._calls)

        def commit(session: Session) -> Commit:
            current = repositories.writable_repository(session, repository_name, force=force)
            made = committing.commit(session, current, branch_name, statement, sealed)
            if run_id:
                hook_runs.set_commit_of_run(session, repository.id, run_id, made.id.hex())
            return made

        made = self._write(commit)
        self._tell(_of_commit("post-commit", repository, branch_name, made), actions)
        return made

    def merge(
        self,
        repository_name: str,
        source: str,
        destination: str,
        statement: Statement,
        strategy: Strategy,
        *,
        squash: bool,
        force: bool,
    ) -> Commit:
        """Merge into a branch. Raises as `committing.prepare_merge`, TooManyTries and those of hooks."""
        with self.gate.shared():
            return self._merge(
                repository_name, source, destination, statement, strategy, squash=squash, force=force
            )

    def _merge(
        self,
        repository_name: str,
        source: str,
        destination: str,
        statement: Statement,
        strategy: Strategy,
        *,
        squash: bool,
        force: bool,
    ) -> Commit:
        def prepare(session: Session) -> tuple[Repository, PreparedMerge, list[Action], bool]:
            repository = repositories.writable_repository(session, repository_name, force=force)
            prepared = committing.prepare_merge(
                session, repository, source, destination, statement, strategy, squash=squash
            )
            event = _of_commit("pre-merge", repository, destination, prepared.commit)
            actions = hook_runs.load_actions(self._store, session, event)
            finished = False
            if not _any_matches(actions, destination, "pre-merge"):
                finished = committing.finish_merge(session, repository, prepared)
            return repository, prepared, actions, finished

        for _ in range(_MERGE_TRIES):
            repository, prepared, actions, finished = self._write(prepare)
            if not finished:
                before = replace(
                    _of_commit("pre-merge", repository, destination, prepared.commit), merge_source=source
                )
                try:
                    hook_runs.run_hooks(self._store, before, actions, self._calls)
                except CatalogError as problem:
                    raise prefixed(f"update branch {destination}: ", problem) from None
                finished = self._write(
                    lambda session, at=(repository, prepared): committing.finish_merge(session, *at)  # type: ignore[misc]
                )
            if finished:
                after = _of_commit("post-merge", repository, destination, prepared.commit)
                self._tell(replace(after, merge_source=source), actions)
                return prepared.commit
        raise TooManyTries(f"update branch {destination}: too many tries: the branch keeps moving")

    def import_commit(
        self,
        repository_name: str,
        branch_name: str,
        base: bytes | None,
        root: bytes,
        statement: Statement,
        *,
        force: bool,
    ) -> Commit:
        """Commit a tree built from tree `base` of a branch. Raises as `committing.commit_tree` and those of hooks."""
        with self._store.database.read() as session:
            repository = repositories.writable_repository(session, repository_name, force=force)
            before = _event("pre-commit", repository, branch_name, branch_name, statement)
            actions = hook_runs.load_actions(self._store, session, before)
        run_id = hook_runs.run_hooks(self._store, before, actions, self._calls)

        def commit(session: Session) -> Commit:
            current = repositories.writable_repository(session, repository_name, force=force)
            made = committing.commit_tree(session, current, branch_name, base, root, statement)
            if run_id:
                hook_runs.set_commit_of_run(session, repository.id, run_id, made.id.hex())
            return made

        made = self._write(commit)
        self._tell(_of_commit("post-commit", repository, branch_name, made), actions)
        return made

    def around(self, plan: Callable[[Session], Event], change: Callable[[Session], T]) -> T:
        """Make any other change. `plan` gives its `pre-` event, or raises what is wrong. Raises those of hooks."""
        with self.gate.shared():
            with self._store.database.read() as session:
                event = plan(session)
                actions = hook_runs.load_actions(self._store, session, event)
            hook_runs.run_hooks(self._store, event, actions, self._calls)
            result = self._write(change)
        afterwards = replace(event, type=event.type.replace("pre-", "post-", 1), run_id=new_id())
        self._tell(afterwards, actions)
        return result

    def _write(self, change: Callable[[Session], T]) -> T:
        return self._store.database.write(change).result()

    def _tell(self, event: Event, actions: list[Action]) -> None:
        if _any_matches(actions, event.branch, event.type):
            if len(self._waiting) >= _MOST_WAITING:
                _log.warning(
                    "%s of %s: told nobody, %d wait to be", event.type, event.repository.name, _MOST_WAITING
                )
                return
            told = self._afterwards.submit(self._run_afterwards, event, actions)
            self._waiting.add(told)
            told.add_done_callback(self._waiting.discard)

    def _run_afterwards(self, event: Event, actions: list[Action]) -> None:
        try:
            hook_runs.run_hooks(self._store, event, actions, self._calls)
        except CatalogError as problem:
            # The change is made: what a hook says now is on record in its run, and stops nothing.
            _log.warning("%s of %s: %s", event.type, event.repository.name, problem)


def _any_matches(actions: list[Action], branch: str, *events: str) -> bool:
    return any(action.matches(event, branch) for action in actions for event in events)


def _event(kind: str, repository: Repository, branch: str, source: str, statement: Statement) -> Event:
    return Event(kind, repository, source, branch, message=statement.message, metadata=statement.metadata)


def _of_commit(kind: str, repository: Repository, branch: str, commit: Commit) -> Event:
    commit_id = commit.id.hex()
    return Event(
        kind,
        repository,
        commit_id,
        branch,
        commit_id=commit_id,
        message=commit.message,
        metadata=commit.metadata,
    )
