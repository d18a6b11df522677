"""Training runs in MLflow: found by what was trained, resumed after a kill, one dataset entry each."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from resources.escaping import LONGEST_NAME, one_line, storable
from resources.models.lost_runs import DONE, LostRuns, LostRunsOfServer, recorded_as
from resources.models.mlflow_client import ModelConnection
from resources.models.records import (
    FAILED,
    FINISHED,
    KILLED,
    RUNNING,
    TAG_IDENTITY,
    TAG_PROJECT,
    TAG_RESTORED,
    ModelVersion,
    Run,
    RunNotFound,
)

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

BATCH = 100
DATASET_DIGEST_LENGTH = 36


class Runs:
    """The runs of every project; one MLflow experiment a project, of the same name.

    `artifact_root` is where a new experiment keeps its files; None leaves the choice to MLflow's server.
    """

    def __init__(self, connection: ModelConnection, artifact_root: str | None = None) -> None:
        self._connection = connection
        self._artifact_root = artifact_root

    def open(
        self, project: str, identity: str, name: str, tags: Mapping[str, str], *, fresh: bool = False
    ) -> Run:
        """The finished run of a training identity, else the interrupted one set running, else a new one.

        `identity` is kept as tag `visionops.identity`; a caller trains unless `run.finished`. `fresh` starts
        a new run whatever exists.
        """
        if not fresh:
            found = self.find(project, identity)
            if found is not None:
                return found
            interrupted = self.find(project, identity, statuses=(RUNNING, FAILED, KILLED))
            if interrupted is not None:
                return self.resume(interrupted.id, tags)
        return self.start(project, name, {**tags, TAG_IDENTITY: identity})

    def find(self, project: str, identity: str, statuses: Sequence[str] = (FINISHED,)) -> Run | None:
        """The newest run of a training identity in one of `statuses`."""
        found = self.search(project, {TAG_IDENTITY: identity}, statuses=statuses, limit=1)
        return found[0] if found else None

    def start(self, project: str, name: str, tags: Mapping[str, str]) -> Run:
        """A new run of a project, running."""
        with self._connection.client(f"a new run of {project}") as client:
            experiment = self._experiment(project, create=True)
            stored = {key: storable(value) for key, value in tags.items()}
            run = client.create_run(
                experiment, run_name=one_line(name, LONGEST_NAME), tags={**stored, TAG_PROJECT: project}
            )
        return _record(run)

    def resume(self, run_id: str, tags: Mapping[str, str] | None = None) -> Run:
        """Set an interrupted run running again, with `tags` added. Raises `RunNotFound`."""
        with self._connection.client(f"run {run_id}", missing=RunNotFound) as client:
            client.update_run(run_id, status=RUNNING)
        self.set_tags(run_id, tags or {})
        return self.get(run_id)

    def end(self, run_id: str, status: str = FINISHED) -> None:
        """Close a run. FINISHED promises that all its artifacts are written. Raises `RunNotFound`."""
        with self._connection.client(f"run {run_id}", missing=RunNotFound) as client:
            client.set_terminated(run_id, status=status)

    def rename(self, project: str, name: str) -> int:
        """Give the runs of a project another one's name; how many. An experiment of that name keeps its own runs."""
        with self._connection.client(f"experiment {project}") as client:
            found = client.get_experiment_by_name(project)
            runs = self.search(project, limit=sys.maxsize)
            if found is None:
                return 0
            for run in runs:
                client.set_tag(run.id, TAG_PROJECT, name)
            if client.get_experiment_by_name(name) is None:
                client.rename_experiment(found.experiment_id, name)
            return len(runs)

    def get(self, run_id: str) -> Run:
        """One run, or the one that was recorded in its place. Raises `RunNotFound`."""
        try:
            with self._connection.client(f"run {run_id}", missing=RunNotFound) as client:
                return _record(client.get_run(run_id))
        except RunNotFound:
            other = recorded_as(self._connection, run_id)
            if other is None:
                raise
        return self.get(other)

    def search(
        self,
        project: str,
        tags: Mapping[str, str] | None = None,
        *,
        statuses: Sequence[str] = (),
        limit: int = 1000,
    ) -> list[Run]:
        """Runs of a project that carry all `tags`, newest first; none if the project never trained."""
        clauses = [f"tags.`{key}` = '{value}'" for key, value in (tags or {}).items()]
        experiment = self._experiment(project, create=False)
        if experiment is None:
            return []
        found: list[Run] = []
        token: str | None = None
        # MLflow's filter knows no "or", so the status is chosen here.
        while True:
            with self._connection.client(f"runs of {project}") as client:
                page = client.search_runs(
                    [experiment],
                    " and ".join(clauses),
                    max_results=1000,
                    order_by=["attributes.start_time DESC"],
                    page_token=token,
                )
            found += [_record(run) for run in page if not statuses or run.info.status in statuses]
            token = page.token
            if not token or len(found) >= limit:
                return found[:limit]

    def restore(
        self,
        version: ModelVersion,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        dataset: tuple[str, str, str] | None,
    ) -> None:
        """Record again the run of a version, which MLflow lost; `lost.lacking` says whether its files suffice.

        `dataset` is what `log_dataset` takes. Done again, as after a kill, it adds what is missing.
        """
        try:
            run_id = self.get(version.run_id).id
        except RunNotFound:
            run_id = self.lost.record(version, self._experiment(version.project, create=True))
        self.log_params(run_id, params)
        self.log_points(run_id, {name: {0: value} for name, value in metrics.items()})
        if dataset is not None:
            self.log_dataset(run_id, *dataset)
        self.set_tags(run_id, {**version.tags, TAG_RESTORED: DONE})

    @property
    def lost(self) -> LostRuns | LostRunsOfServer:
        """Runs that MLflow does not know any more."""
        if self._connection.uri.startswith(("http://", "https://")):
            return LostRunsOfServer(self._connection, self._artifact_root)
        return LostRuns(self._connection, self._artifact_root)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Add or replace tags, each at most 8,000 characters."""
        from mlflow.entities import RunTag

        self._log(run_id, "tags", [RunTag(key, storable(str(value))) for key, value in tags.items()])

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Record parameters, each at most 6,000 characters; another value for the same key is refused."""
        from mlflow.entities import Param

        self._log(run_id, "params", [Param(key, _text(value)) for key, value in params.items()])

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record the metrics of one epoch (`step`)."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        self._log(run_id, "metrics", [Metric(key, float(value), now, step) for key, value in metrics.items()])

    def log_points(self, run_id: str, points: Mapping[str, Mapping[int, float]]) -> None:
        """Record values by metric and step. What a step says already is not recorded again."""
        from mlflow.entities import Metric

        now, new = round(time.time() * 1000), []
        with self._connection.client(f"metrics of run {run_id}", missing=RunNotFound) as client:
            for key, values in points.items():
                history = sorted(client.get_metric_history(run_id, key), key=lambda point: point.timestamp)
                known = {point.step: point.value for point in history}
                new += [
                    Metric(key, float(value), now, step)
                    for step, value in values.items()
                    if known.get(step) != value
                ]
        self._log(run_id, "metrics", new)

    def log_dataset(self, run_id: str, uri: str, name: str, digest: str, context: str = "training") -> None:
        """Record the dataset version as ONE input.

        One input an image would make MLflow's search time out at about 50,000. `uri` is
        `lakefs://<repository>/<commit>/…`; of `digest` the first 36 characters are kept, MLflow's limit.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name, digest[:DATASET_DIGEST_LENGTH], "lakefs", json.dumps({"uri": uri}))
        entry = DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
        with self._connection.client(f"dataset of run {run_id}", missing=RunNotFound) as client:
            client.log_inputs(run_id, datasets=[entry])

    def _log(self, run_id: str, kind: str, entities: Sequence[Any]) -> None:
        with self._connection.client(f"{kind} of run {run_id}", missing=RunNotFound) as client:
            for start in range(0, len(entities), BATCH):
                batch: dict[str, Any] = {kind: entities[start : start + BATCH]}
                client.log_batch(run_id, **batch)

    def _experiment(self, project: str, *, create: bool) -> Any:
        from mlflow.exceptions import MlflowException

        with self._connection.client(f"experiment {project}") as client:
            found = client.get_experiment_by_name(project)
            if found is not None:
                if found.lifecycle_stage == "deleted" and create:
                    client.restore_experiment(found.experiment_id)
                return found.experiment_id
            if not create:
                return None
            location = f"{self._artifact_root.rstrip('/')}/{project}" if self._artifact_root else None
            try:
                return client.create_experiment(project, artifact_location=location)
            except MlflowException:
                # Another process was first: MLflow reports that as it reports a bad name.
                found = client.get_experiment_by_name(project)
                if found is None:
                    raise
                return found.experiment_id


def _text(value: Any) -> str:
    return storable(value) if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _record(run: "MlflowRun") -> Run:
    info = run.info
    return Run(
        id=info.run_id,
        experiment_id=info.experiment_id,
        name=info.run_name or "",
        status=info.status,
        started=_time(info.start_time),
        # A resumed run keeps the end of its first attempt in MLflow.
        ended=_time(info.end_time) if info.end_time and info.status != RUNNING else None,
        artifact_uri=info.artifact_uri,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )
