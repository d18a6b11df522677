"""A run whose record MLflow lost, while its files still lie where it kept them: it is recorded again.

In a local store under its own id: MLflow gives every run that it is asked for one of its own, so the record is written
into the store's database, in one transaction. A server takes no such record: there the run has another id, and the tag
`TAG_RECORDED_FOR` says whose place it takes, so that versions, verdicts and reports that cite the first find it.
"""

import contextlib
import hashlib
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from resources.databases import sqlite_path
from resources.escaping import masked
from resources.models.mlflow_client import ModelConnection
from resources.models.records import (
    FINISHED,
    ONNX_ARTIFACT,
    TAG_ONNX,
    TAG_PROJECT,
    TAG_RECORDED_FOR,
    TAG_RESTORED,
    TAG_WEIGHTS,
    ModelVersion,
    weights_artifact,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

_NAME = "mlflow.runName"
# Values of TAG_RESTORED: what the run says of itself is not written yet, or is.
BEGUN, DONE = "begun", "from its files"


class LostRuns:
    """Runs that a local store does not know any more; `artifact_root` is where it keeps their files."""

    def __init__(self, connection: ModelConnection, artifact_root: str | None) -> None:
        self._connection = connection
        self._root = artifact_root

    def lacking(self, version: ModelVersion) -> str | None:
        """What keeps the run of a version from being recorded again, in words; None where its files suffice."""
        lost = f"MLflow has no run {version.run_id}"
        root = self._folder()
        if root is None:
            return f"{lost}, and where {masked(self._connection.uri)} kept its files is not known here"
        kept = self._kept(version.run_id)
        if kept is None:
            return f"{lost}, and none of its files is left in {root}"
        for name, tag in _digests(version):
            file = kept / name
            if not file.is_file():
                return f"{lost}, and {name} is not among its files in {kept}"
            with file.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != version.tags.get(tag):
                    return f"{lost}, and {file} is not the file that was registered"
        return None

    def read(self, version: ModelVersion, path: str) -> bytes | None:
        """A file of the run of a version; None where it is not there."""
        kept = self._kept(version.run_id)
        try:
            return (kept / path).read_bytes() if kept is not None else None
        except FileNotFoundError:
            return None

    def record(self, version: ModelVersion, experiment_id: str) -> str:
        """Record the run of a version, whose files suffice, in an experiment: finished, with the version's tags, and
        `BEGUN`. Returns its id.

        Raises what `ModelConnection.client` raises.
        """
        database, kept = sqlite_path(self._connection.uri), self._kept(version.run_id)
        assert database is not None and kept is not None
        when = round(version.created.timestamp() * 1000)
        name = version.partition or version.run_id[:12]
        tags = {**version.tags, _NAME: name, TAG_RESTORED: BEGUN}
        with self._connection.client(f"run {version.run_id}"):
            connection = sqlite3.connect(database)
            with contextlib.closing(connection), connection:
                connection.execute(
                    "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, "
                    "start_time, end_time, source_version, lifecycle_stage, artifact_uri, experiment_id) "
                    "VALUES (?, ?, 'UNKNOWN', '', '', '', ?, ?, ?, '', 'active', ?, ?)",
                    (version.run_id, name, FINISHED, when, when, kept.as_uri(), int(experiment_id)),
                )
                connection.executemany(
                    "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", _rows(tags, version)
                )
        return version.run_id

    def _kept(self, run_id: str) -> Path | None:
        """The folder of a run's files; a project that was renamed keeps them under its old name."""
        root = self._folder()
        if root is None or not run_id.isalnum():
            return None
        return next((found for found in sorted(root.glob(f"*/{run_id}/artifacts")) if found.is_dir()), None)

    def _folder(self) -> Path | None:
        parts = urlparse(self._root or "")
        local = parts.scheme == "file" and sqlite_path(self._connection.uri) is not None
        return Path(unquote(parts.path)) if local else None


def _digests(version: ModelVersion) -> tuple[tuple[str, str], ...]:
    """The files without which a version is none, and the tags with their digests."""
    return ((weights_artifact(version.tags), TAG_WEIGHTS), (ONNX_ARTIFACT, TAG_ONNX))


def _rows(tags: Mapping[str, str], version: ModelVersion) -> list[tuple[str, str, str]]:
    return [(key, value, version.run_id) for key, value in sorted(tags.items())]


class LostRunsOfServer:
    """Runs that an MLflow server does not know any more, whose artifacts it still serves, or that lie in a bucket that
    this machine may read: `<experiment>/<run>/artifacts`, as MLflow lays them."""

    def __init__(self, connection: ModelConnection, artifact_root: str | None) -> None:
        self._connection = connection
        self._root = artifact_root

    def lacking(self, version: ModelVersion) -> str | None:
        """As `LostRuns.lacking`; what has to be looked at is fetched."""
        lost = f"MLflow has no run {version.run_id}"
        with self._files(version.run_id) as found:
            if found is None:
                return (
                    f"{lost}, and none of its files is left where {masked(self._connection.uri)} keeps them"
                )
            for name, tag in _digests(version):
                content = found.read(name)
                if content is None:
                    return f"{lost}, and {name} is not among its files"
                if hashlib.sha256(content).hexdigest() != version.tags.get(tag):
                    return f"{lost}, and its {name} is not the file that was registered"
        return None

    def read(self, version: ModelVersion, path: str) -> bytes | None:
        """A file of the run of a version; None where it is not there."""
        with self._files(version.run_id) as found:
            return found.read(path) if found is not None else None

    def record(self, version: ModelVersion, experiment_id: str) -> str:
        """As `LostRuns.record`, under another id and without the version's tags. The files are copied: a server gives a
        run a folder of its own."""
        begun = recorded_as(self._connection, version.run_id, BEGUN)
        with self._connection.client(f"run {version.run_id}") as client:
            tags = {TAG_PROJECT: version.project, TAG_RECORDED_FOR: version.run_id, TAG_RESTORED: BEGUN}
            name = version.partition or version.run_id[:12]
            when = round(version.created.timestamp() * 1000)
            run_id = begun or str(
                client.create_run(experiment_id, start_time=when, run_name=name, tags=tags).info.run_id
            )
            with self._files(version.run_id) as found, tempfile.TemporaryDirectory() as folder:
                assert found is not None
                client.log_artifacts(run_id, found.fetched(Path(folder)))
            client.set_terminated(run_id, FINISHED)
        return run_id

    @contextlib.contextmanager
    def _files(self, run_id: str) -> "Iterator[_Files | None]":
        """The files of a run, in whatever experiment it was."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with self._connection.client(f"the files of run {run_id}") as client:
            if not run_id.isalnum():
                yield None
                return
            files = get_artifact_repository(self._root or _root(client), tracking_uri=self._connection.uri)
            folders = [each.path for each in files.list_artifacts() or () if each.is_dir]
            places = (f"{folder}/{run_id}/artifacts" for folder in sorted(folders))
            place = next((place for place in places if files.list_artifacts(place)), None)
            yield _Files(files, place) if place is not None else None


@dataclass(frozen=True)
class _Files:
    """The files of one run, under `place` of all artifacts."""

    artifacts: "ArtifactRepository"
    place: str

    def read(self, path: str) -> bytes | None:
        folder = f"{self.place}/{path}".rpartition("/")[0]
        named = {each.path for each in self.artifacts.list_artifacts(folder) or () if not each.is_dir}
        if f"{self.place}/{path}" not in named:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            return Path(self.artifacts.download_artifacts(f"{self.place}/{path}", scratch)).read_bytes()

    def fetched(self, folder: Path) -> str:
        """All of them, in a folder."""
        return str(self.artifacts.download_artifacts(self.place, str(folder)))


def _root(client: "MlflowClient") -> str:
    """Where a server keeps the artifacts of all experiments, by those of its first one."""
    first = client.get_experiment("0").artifact_location
    return f"{first.rstrip('/').rpartition('/')[0]}/"


def recorded_as(connection: ModelConnection, run_id: str, state: str = DONE) -> str | None:
    """The run that takes the place of one that MLflow lost; None where there is none."""
    if not run_id.isalnum():
        return None
    with connection.client(f"run {run_id}") as client:
        experiments, token = [], None
        while True:
            page = client.search_experiments(page_token=token)
            experiments += [each.experiment_id for each in page]
            token = page.token
            if not token:
                break
        wanted = f"tags.`{TAG_RECORDED_FOR}` = '{run_id}' and tags.`{TAG_RESTORED}` = '{state}'"
        found = client.search_runs(experiments, wanted, max_results=1)
        return str(found[0].info.run_id) if found else None
