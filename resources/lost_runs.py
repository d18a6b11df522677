"""A run whose record MLflow lost, while its files still lie where a local store keeps them: it is recorded again.

Under its own id, so that versions, verdicts and reports that cite it find it. MLflow gives every run that it is asked
for an id of its own, so the record is written into the store's database, in one transaction.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlparse

from resources.databases import sqlite_path
from resources.masking import shown
from resources.model_connection import ModelConnection
from resources.model_records import (
    FINISHED,
    ONNX_ARTIFACT,
    TAG_ONNX,
    TAG_RESTORED,
    TAG_WEIGHTS,
    WEIGHTS_ARTIFACT,
    ModelVersion,
)

_DIGESTS = {WEIGHTS_ARTIFACT: TAG_WEIGHTS, ONNX_ARTIFACT: TAG_ONNX}
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
            return f"{lost}, and where {shown(self._connection.uri)} kept its files is not known here"
        kept = self._kept(version.run_id)
        if kept is None:
            return f"{lost}, and none of its files is left in {root}"
        for name, tag in _DIGESTS.items():
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

    def record(self, version: ModelVersion, experiment_id: str) -> None:
        """Record the run of a version, whose files suffice, in an experiment: finished, with the version's tags, and
        `BEGUN`.

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


def _rows(tags: Mapping[str, str], version: ModelVersion) -> list[tuple[str, str, str]]:
    return [(key, value, version.run_id) for key, value in sorted(tags.items())]
