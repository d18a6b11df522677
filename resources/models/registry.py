"""MLflow behind a narrow interface: runs, their artifacts, and registered versions.

Nothing else in the project talks to MLflow, and MLflow is imported only when something is asked of it.
"""

from contextlib import AbstractContextManager

from pydantic import BaseModel

from resources.databases import sqlite_path
from resources.escaping import masked
from resources.home import home, mlflow_uri
from resources.models.artifacts import RunArtifacts
from resources.models.lock import LOCK_URL, advisory_lock, file_lock
from resources.models.memory import ModelMemory
from resources.models.mlflow_client import ModelConnection
from resources.models.model_versions import Models
from resources.models.records import Run
from resources.models.training_runs import Runs
from resources.settings import given

LOCAL_UI = "http://127.0.0.1:5000"
# Without it MLflow's UI opens with its language-model features.
TRAINING_VIEW = "?workflowType=machine_learning"
LOCK_SECONDS = 120.0


class ModelRegistry(BaseModel, frozen=True, extra="forbid"):
    """Any MLflow; with no `tracking_uri`, MLFLOW_TRACKING_URI or the sqlite store under VISIONOPS_HOME.

    `artifact_location` is the folder or bucket for new experiments; with none, a local store keeps them
    beside its database and a server decides for itself. `ui_url` is where a browser finds MLflow's pages.
    `memory` is the artifact store that keeps what MLflow last said (`resources.models.memory`); None keeps nothing.
    `lock_url`, or VISIONOPS_LOCK_URL, is a Postgres that serialises promotion where several machines promote.

    Every method raises `RegistryUnavailable` when nothing usable answers and `RegistryRefused` when MLflow
    says no.
    """

    tracking_uri: str | None = None
    artifact_location: str | None = None
    ui_url: str | None = None
    lock_url: str | None = None
    memory: str | None = None

    @property
    def uri(self) -> str:
        """The address in use."""
        return self.tracking_uri or mlflow_uri()

    @property
    def runs(self) -> Runs:
        """Training runs: find, start, resume, log, end."""
        return Runs(self._connection, self._artifact_root)

    @property
    def artifacts(self) -> RunArtifacts:
        """Files of runs: write, read, digest."""
        return RunArtifacts(self._connection)

    @property
    def models(self) -> Models:
        """Registered models, versions, tags and aliases."""
        return Models(self._connection, ModelMemory(self.memory))

    def lock(self, project: str, timeout: float = LOCK_SECONDS) -> AbstractContextManager[None]:
        """Hold the project's promotion lock; see `resources.models.lock`. `timeout` in seconds."""
        url = self.lock_url or given(LOCK_URL)
        if url:
            return advisory_lock(url, project, timeout)
        database = sqlite_path(self.uri)
        folder = database.absolute().parent if database is not None else home() / "mlflow"
        return file_lock(folder / "locks", project, timeout)

    def run_url(self, run: Run, artifact: str = "") -> str:
        """The page of a run, or of one of its artifacts, in MLflow's UI."""
        page = f"{self._ui}/#/experiments/{run.experiment_id}/runs/{run.id}"
        return f"{page}/artifacts/{artifact}{TRAINING_VIEW}" if artifact else f"{page}{TRAINING_VIEW}"

    def version_url(self, project: str, version: int) -> str:
        """The page of a registered version in MLflow's UI."""
        return f"{self._ui}/#/models/{project}/versions/{version}{TRAINING_VIEW}"

    @property
    def _ui(self) -> str:
        served = self.uri if self.uri.startswith(("http://", "https://")) else LOCAL_UI
        # Who looks signs in as who they are.
        return masked(self.ui_url or served).rstrip("/")

    @property
    def _connection(self) -> ModelConnection:
        return ModelConnection(self.uri)

    @property
    def _artifact_root(self) -> str | None:
        if self.artifact_location:
            return self.artifact_location
        database = sqlite_path(self.uri)
        if database is None:
            return None
        return (database.absolute().parent / "artifacts").as_uri()
