"""lakeFS behind a narrow interface; nothing else in the project talks to it."""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, PrivateAttr

from resources.escaping import masked
from resources.lakefs.connection import PAGE, LakeFSConnection, upload_many
from resources.lakefs.replies import (
    Change,
    Commit,
    Entry,
    LakeFSConflict,
    LakeFSError,
    LakeFSGone,
    LakeFSNotFound,
    LakeFSRefused,
    LakeFSUnavailable,
    commit_from,
    not_lakefs,
)

MAIN = "main"
# What a server says, with status 400, of a namespace that a deleted repository left objects in.
NAMESPACE_IN_USE = "storage namespace already in use"


class LakeFSResource(BaseModel, frozen=True, extra="forbid"):
    """Any lakeFS server; with no endpoint, the embedded one on `VISIONOPS_HOME/lakefs`, started when needed.

    Every method raises `LakeFSUnavailable` when nothing answers, `LakeFSNotFound`, `LakeFSConflict` or
    `LakeFSRefused` when the server says no; each names the server and the object.
    """

    endpoint: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    ui_url: str | None = None
    timeout_seconds: float = 60.0
    threads: int = 8

    _opened: LakeFSConnection | None = PrivateAttr(default=None)

    @property
    def _connection(self) -> LakeFSConnection:
        if self._opened is None:
            self._opened = LakeFSConnection(
                self.endpoint, self.access_key_id, self.secret_access_key, self.timeout_seconds, self.threads
            )
        return self._opened

    def access(self) -> tuple[str, str, str]:
        """Address, key and secret of the server in use, which is started where it is the embedded one."""
        return self._connection.access()

    def create_repository(self, repository: str) -> bool:
        """Create the repository unless it is there. True if it was created.

        Where one of this name was deleted, its objects still lie in its storage namespace: the new one gets another.
        """
        with self._connection.errors(f"repository {repository}", missing_ok=True):
            self._connection.call(lambda c: c.repositories_api.get_repository(repository))
            return False
        config = self._connection.call(lambda c: c.config_api.get_config())
        prefix = config.storage_config.default_namespace_prefix or "local://"
        namespace = f"{prefix.rstrip('/') + '/' if '://' in prefix[:-3] else prefix}{repository}"
        try:
            self._create_repository(repository, namespace)
        except LakeFSRefused as error:
            if NAMESPACE_IN_USE not in str(error):
                raise
            self._create_repository(repository, f"{namespace}-{uuid.uuid4().hex[:8]}")
        return True

    def _create_repository(self, repository: str, namespace: str) -> None:
        from lakefs_sdk import RepositoryCreation

        creation = RepositoryCreation(name=repository, storage_namespace=namespace, default_branch=MAIN)
        with self._connection.errors(f"repository {repository}"):
            self._connection.call(lambda c: c.repositories_api.create_repository(creation))

    def head(self, repository: str, branch: str = MAIN) -> Commit:
        """The commit at the tip of a branch, or of any reference."""
        for commit in self.log(repository, branch, limit=1):
            return commit
        raise LakeFSNotFound(f"{repository}/{branch} names no commit")

    def log(
        self,
        repository: str,
        reference: str = MAIN,
        *,
        first_parent: bool = True,
        stop_at: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Commit]:
        """Commits from `reference` back, newest first, at most `limit`; stops before `stop_at` (an id)."""
        amount = min(limit, PAGE) if limit else PAGE if stop_at is None else 100
        pages = self._connection.pages(
            f"log of {repository}/{reference}",
            lambda client, after: client.refs_api.log_commits_with_http_info(
                repository,
                reference,
                first_parent=first_parent,
                after=after,
                amount=amount,
                _preload_content=False,
            ),
        )
        for number, found in enumerate(pages):
            if found["id"] == stop_at or number == limit:
                return
            yield commit_from(found)

    def create_branch(self, repository: str, branch: str, source: str = MAIN) -> None:
        """Create a branch; one that exists is left as it is."""
        from lakefs_sdk import BranchCreation

        try:
            with self._connection.errors(f"branch {repository}/{branch}"):
                self._connection.call(
                    lambda c: c.branches_api.create_branch(
                        repository, BranchCreation(name=branch, source=source)
                    )
                )
        except LakeFSConflict:
            self.head(repository, branch)

    def delete_branch(self, repository: str, branch: str) -> None:
        """Delete a branch; one that is absent is fine."""
        with self._connection.errors(f"branch {repository}/{branch}", missing_ok=True):
            self._connection.call(lambda c: c.branches_api.delete_branch(repository, branch))

    def branches(self, repository: str, prefix: str = "") -> list[str]:
        """Names of the branches that start with `prefix`."""
        pages = self._connection.pages(
            f"branches of {repository}",
            lambda client, after: client.branches_api.list_branches_with_http_info(
                repository, prefix=prefix, after=after, amount=PAGE, _preload_content=False
            ),
        )
        return [branch["id"] for branch in pages]

    def objects(self, repository: str, reference: str, prefix: str = "") -> Iterator[Entry]:
        """All objects under `prefix`, by path."""
        for found in self._connection.pages(
            f"listing of {repository}/{reference}/{prefix}",
            lambda c, after: c.objects_api.list_objects_with_http_info(
                repository,
                reference,
                prefix=prefix,
                after=after,
                amount=PAGE,
                presign=False,
                user_metadata=False,
                _preload_content=False,
            ),
        ):
            yield Entry(
                found["path"], found["checksum"], found.get("size_bytes", 0), found["physical_address"]
            )

    def diff(
        self, repository: str, left: str, right: str, prefix: str = "", limit: int | None = None
    ) -> Iterator[Change]:
        """What differs from `left` to `right` (two-dot), by path; at most `limit` changes."""
        amount = min(PAGE, limit) if limit else PAGE
        changes = self._connection.pages(
            f"diff {repository}/{left}..{right}",
            lambda c, after: c.refs_api.diff_refs_with_http_info(
                repository,
                left,
                right,
                prefix=prefix,
                after=after,
                amount=amount,
                type="two_dot",
                _preload_content=False,
            ),
        )
        for number, found in enumerate(changes):
            if limit is not None and number >= limit:
                return
            yield Change(found["path"], found["type"])

    def uncommitted(self, repository: str, branch: str) -> Iterator[Change]:
        """What is staged on a branch and not committed, by path."""
        for found in self._connection.pages(
            f"uncommitted changes of {repository}/{branch}",
            lambda c, after: c.branches_api.diff_branch_with_http_info(
                repository, branch, after=after, amount=PAGE, _preload_content=False
            ),
        ):
            yield Change(found["path"], found["type"])

    def read(self, repository: str, reference: str, path: str) -> bytes:
        """One object's bytes."""
        with self._connection.errors(f"{repository}/{reference}/{path}"):
            return bytes(
                self._connection.call(
                    lambda c: c.objects_api.get_object(repository, reference, path, presign=False)
                )
            )

    def read_many(self, repository: str, reference: str, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Objects' bytes, read by several threads, in the order of `paths`; memory holds a bounded number."""
        return self._connection.bounded(lambda path: (path, self.read(repository, reference, path)), paths)

    def read_each(
        self, repository: str, reference: str, paths: Sequence[str]
    ) -> Iterator[tuple[str, bytes | LakeFSError]]:
        """Like `read_many`, but with the error in the place of an object that cannot be read."""

        def read(path: str) -> tuple[str, bytes | LakeFSError]:
            try:
                return path, self.read(repository, reference, path)
            except LakeFSError as error:
                return path, error

        return self._connection.bounded(read, paths)

    def without_bytes(self, repository: str, reference: str, paths: Sequence[str]) -> list[str]:
        """Those of the objects whose bytes are gone from the server's storage; one byte of each is asked for."""

        def is_gone(path: str) -> bool:
            try:
                with self._connection.errors(f"{repository}/{reference}/{path}"):
                    self._connection.call(
                        lambda c: c.objects_api.get_object(
                            repository, reference, path, range="bytes=0-0", presign=False
                        )
                    )
            except LakeFSGone:
                return True
            return False

        gone = self._connection.bounded(is_gone, paths)
        return [path for path, found in zip(paths, gone, strict=True) if found]

    def write(self, repository: str, branch: str, path: str, content: bytes) -> None:
        """Upload one object, uncommitted."""
        with self._connection.errors(f"{repository}/{branch}/{path}"):
            self._connection.call(
                lambda c: c.objects_api.upload_object(repository, branch, path, content=content)
            )

    def write_many(
        self,
        repository: str,
        branch: str,
        objects: Iterable[tuple[str, Callable[[], bytes]]],
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Upload (path, loader of its bytes) pairs, read by several threads, many in a request where the server takes
        them so. Returns how many."""
        return upload_many(self._connection, self.write, repository, branch, objects, progress)

    def delete_many(self, repository: str, branch: str, paths: Sequence[str]) -> None:
        """Delete objects, uncommitted; absent ones are fine."""
        from lakefs_sdk import PathList

        def delete(start: int) -> None:
            part = PathList(paths=list(paths[start : start + PAGE]))
            self._connection.call(lambda c: c.objects_api.delete_objects(repository, branch, part))

        with self._connection.errors(f"objects of {repository}/{branch}"):
            for start in range(0, len(paths), PAGE):
                delete(start)

    def save(
        self, repository: str, branch: str, message: str, metadata: dict[str, str] | None = None
    ) -> Commit:
        """Commit what is staged on a branch."""
        from lakefs_sdk import CommitCreation

        creation = CommitCreation(message=message, metadata=metadata or {})
        with self._connection.errors(f"commit on {repository}/{branch}"):
            made = self._connection.call(lambda c: c.commits_api.commit(repository, branch, creation))
            return commit_from(made.dict())

    def merge(
        self,
        repository: str,
        source: str,
        destination: str,
        message: str,
        metadata: dict[str, str] | None = None,
    ) -> str:
        """Merge `source` into `destination`; the merge commit's id. Raises `LakeFSConflict` on a conflict."""
        from lakefs_sdk import Merge

        request = Merge(message=message, metadata=metadata or {})
        with self._connection.errors(f"merge {repository}/{source} into {destination}"):
            merged = self._connection.call(
                lambda c: c.refs_api.merge_into_branch(repository, source, destination, merge=request)
            )
            return str(merged.reference)

    def reset(self, repository: str, branch: str) -> None:
        """Drop everything uncommitted on a branch."""
        from lakefs_sdk import ResetCreation

        with self._connection.errors(f"{repository}/{branch}"):
            self._connection.call(
                lambda c: c.branches_api.reset_branch(repository, branch, ResetCreation(type="reset"))
            )

    def revert(
        self,
        repository: str,
        branch: str,
        commit: str,
        parent_number: int = 0,
        *,
        message: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """Commit the inverse of `commit` on a branch; `parent_number` 1 for a merge. `LakeFSConflict` where what it
        changed was changed again since."""
        from lakefs_sdk import CommitOverrides, RevertCreation

        said = CommitOverrides(message=message, metadata=metadata) if message or metadata else None
        with self._connection.errors(f"revert of {commit[:12]} on {repository}/{branch}"):
            creation = RevertCreation(ref=commit, parent_number=parent_number, commit_overrides=said)
            self._connection.call(lambda c: c.branches_api.revert_branch(repository, branch, creation))

    def import_folder(
        self,
        repository: str,
        branch: str,
        source: str,
        destination: str,
        message: str,
        metadata: dict[str, str],
    ) -> str:
        """Zero-copy import of everything under `source` (`local://…/` or `s3://…/`); the commit's id."""
        from lakefs_sdk import CommitCreation, ImportCreation, ImportLocation

        what = f"import of {source} into {repository}/{branch}"
        location = ImportLocation(type="common_prefix", path=source, destination=destination)
        creation = ImportCreation(paths=[location], commit=CommitCreation(message=message, metadata=metadata))
        with self._connection.errors(what):
            job = self._connection.call(lambda c: c.import_api.import_start(repository, branch, creation))
            while True:
                status = self._connection.call(
                    lambda c: c.import_api.import_status(repository, branch, job.id)
                )
                if status.error is not None:
                    raise LakeFSUnavailable(f"{what} failed: {status.error.message}")
                if status.completed:
                    return str(status.commit.id)
                time.sleep(0.05)

    def allow_imports(self, folder: Path) -> None:
        """Let the embedded server refer to files of this folder; any other server has rules of its own."""
        self._connection.allow_imports(folder)

    def version(self) -> str:
        """The version that the server says it is."""
        what = "version"
        with self._connection.errors(what):
            raw = self._connection.call(
                lambda c: c.config_api.get_config_with_http_info(_preload_content=False)
            ).raw_data
            found = json.loads(raw)
        try:
            return str(found["version_config"]["version"])
        except (KeyError, TypeError) as error:
            raise not_lakefs(what, masked(self.address()), "another JSON") from error

    def clock_ahead(self) -> timedelta:
        """How far the server's clock is ahead of this machine's, by its newest answer; 0 where that cannot be told."""
        return self._connection.clock_ahead()

    def address(self) -> str:
        """The server in use, as an http address without `/api/v1`."""
        return self._connection.address()

    def link(self, repository: str, page: str, **query: str) -> str:
        """Address of a page of lakeFS's UI: `link("shop", "objects", ref="main", path="batches/")`."""
        from urllib.parse import urlencode

        base = (self.ui_url or self.address()).rstrip("/")
        return f"{base}/repositories/{repository}/{page}" + (f"?{urlencode(query)}" if query else "")
