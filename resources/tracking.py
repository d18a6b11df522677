"""Where a run's parameters and epochs are told: MLflow, Weights & Biases, or both.

The MLflow run itself always exists: it holds the model's files, digests and dataset, and the registry is MLflow's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from resources.model_records import FINISHED, Run
from resources.models.training_runs import Runs
from resources.wandb_run import WandbRun

Backend = Literal["mlflow", "wandb"]


class Tracking:
    """One run's account of itself. `run` is the MLflow run; `say` gets a line on what a person should know."""

    def __init__(
        self, backends: Sequence[Backend], runs: Runs, project: str, run: Run, say: Callable[[str], None]
    ) -> None:
        self._backends, self._runs, self._project, self._run, self._say = backends, runs, project, run, say
        self._wandb: WandbRun | None = None
        self._last: dict[str, float] = {}

    def start(self, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Record what the run is made with. Raises `WandbMissing`, `RegistryUnavailable`."""
        if "mlflow" in self._backends:
            self._runs.log_params(self._run.id, params)
        if "wandb" in self._backends:
            self._wandb = WandbRun.open(
                self._project, self._run.id, self._run.name, params=params, tags=tags, say=self._say
            )

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record the metrics of one epoch (`step`)."""
        self._last = dict(metrics)
        if "mlflow" in self._backends:
            self._runs.log_metrics(self._run.id, metrics, step=step)
        if self._wandb is not None:
            self._wandb.log(metrics, step)

    def end(self, status: str = FINISHED) -> None:
        """Close the MLflow run and what was opened beside it."""
        if "mlflow" not in self._backends and self._last:
            # The last ones are evidence of what is registered.
            self._runs.log_metrics(self._run.id, self._last)
        self._runs.end(self._run.id, status)
        if self._wandb is not None:
            self._wandb.end(status == FINISHED)
