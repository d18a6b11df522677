"""Files of a run: models, predictions, verdicts, reports. Written once, read back by digest."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlparse

from resources.escaping import masked
from resources.models.mlflow_client import ModelConnection
from resources.models.records import Artifact, ArtifactMissing, RegistryRefused, Run, RunNotFound
from resources.models.training_runs import Runs
from resources.safe_files import is_left, whole_file


class RunArtifacts:
    """The artifacts of runs, in a folder, on S3 or behind an MLflow server.

    In a folder a file appears whole or not at all, whatever kills the writer; S3 promises the same of a PUT.
    """

    def __init__(self, connection: ModelConnection) -> None:
        self._connection = connection

    def put_bytes(self, run_id: str, path: str, data: bytes) -> None:
        """Write one artifact; what lay there is replaced."""
        folder = self._local(run_id)
        if folder is not None:
            with whole_file(_inside(folder, path), ours=True) as unfinished:
                unfinished.write_bytes(data)
            return
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch, PurePosixPath(path).name)
            source.write_bytes(data)
            self._upload(run_id, path, source)

    def put_file(self, run_id: str, path: str, source: Path) -> None:
        """Write one artifact from a local file. Raises `FileNotFoundError` if there is none."""
        if not source.is_file():
            raise FileNotFoundError(
                f"{source} is to become artifact {path} of run {run_id}, but is not a file"
            )
        folder = self._local(run_id)
        if folder is not None:
            with whole_file(_inside(folder, path), ours=True) as unfinished:
                shutil.copyfile(source, unfinished)
            return
        with tempfile.TemporaryDirectory() as scratch:
            named = Path(scratch, PurePosixPath(path).name)
            shutil.copyfile(source, named)
            self._upload(run_id, path, named)

    def read_bytes(self, run_id: str, path: str) -> bytes:
        """One artifact's content. Raises `ArtifactMissing`."""
        with self._as_file(run_id, path) as found:
            return found.read_bytes()

    def fetch(self, run_id: str, path: str, target: Path) -> Path:
        """Copy one artifact to the file `target`, which appears whole. Raises `ArtifactMissing`."""
        with self._as_file(run_id, path) as found, whole_file(target) as unfinished:
            shutil.copyfile(found, unfinished)
        return target

    def sha256(self, run_id: str, path: str) -> str:
        """The digest of one artifact's content, read now. Raises `ArtifactMissing`."""
        with self._as_file(run_id, path) as found, found.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def exists(self, run_id: str, path: str) -> bool:
        """Whether the run holds this artifact."""
        folder = self._local(run_id)
        if folder is not None:
            return _inside(folder, path).is_file()
        parent = str(PurePosixPath(path).parent)
        return any(each.path == path for each in self.list(run_id, "" if parent == "." else parent))

    def list(self, run_id: str, folder: str = "") -> list[Artifact]:
        """The files in one folder of the run, by path; sub-folders are left out."""
        root = self._local(run_id)
        if root is not None:
            place = _inside(root, folder) if folder else root
            files = sorted(each for each in place.glob("*") if each.is_file() and not is_left(each.name))
            return [Artifact(each.relative_to(root).as_posix(), each.stat().st_size) for each in files]
        with self._connection.client(f"artifacts of run {run_id}", missing=RunNotFound) as client:
            found = client.list_artifacts(_run(self._connection, run_id).id, folder or None)
        files_only = [Artifact(each.path, each.file_size or 0) for each in found if not each.is_dir]
        return sorted(files_only, key=lambda each: each.path)

    @contextmanager
    def _as_file(self, run_id: str, path: str) -> Iterator[Path]:
        folder = self._local(run_id)
        missing = f"run {run_id} has no artifact {path} in MLflow at {masked(self._connection.uri)}"
        if folder is not None:
            found = _inside(folder, path)
            if not found.is_file():
                raise ArtifactMissing(missing)
            yield found
            return
        if not self.exists(run_id, path):
            raise ArtifactMissing(missing)
        with tempfile.TemporaryDirectory() as scratch:
            with self._connection.client(f"artifact {path} of run {run_id}", ArtifactMissing) as client:
                found = Path(client.download_artifacts(_run(self._connection, run_id).id, path, scratch))
            yield found

    def _upload(self, run_id: str, path: str, source: Path) -> None:
        parent = str(PurePosixPath(path).parent)
        with self._connection.client(f"artifact {path} of run {run_id}", missing=RunNotFound) as client:
            run = _run(self._connection, run_id)
            client.log_artifact(run.id, str(source), None if parent == "." else parent)

    def _local(self, run_id: str) -> Path | None:
        return _folder_of(_run(self._connection, run_id).artifact_uri)


@lru_cache(maxsize=4096)
def _run(connection: ModelConnection, run_id: str) -> Run:
    return Runs(connection).get(run_id)


def _folder_of(uri: str) -> Path | None:
    parts = urlparse(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return Path(uri) if parts.scheme == "" else None


def _inside(root: Path, path: str) -> Path:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise RegistryRefused(f"artifact path {path!r} must be relative and stay inside its run")
    return root / pure
