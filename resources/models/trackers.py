"""Where a run's parameters and epochs are told: MLflow, Weights & Biases, or both. Nothing else talks to W&B.

The MLflow run itself always exists: it holds the model's files, digests and dataset, and the registry is MLflow's.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from netrc import NetrcParseError, netrc
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlparse

from resources.error_family import NotFound
from resources.home import home
from resources.models.records import FINISHED, Run
from resources.models.training_runs import Runs
from resources.settings import given

if TYPE_CHECKING:
    import wandb


Backend = Literal["mlflow", "wandb"]
_HOST = "https://api.wandb.ai"
_PATIENCE_SECONDS = 30.0


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


class WandbMissing(NotFound, RuntimeError):
    """The package is not installed."""


class WandbRun:
    """One W&B run, online where there is a key, else offline under VISIONOPS_HOME."""

    def __init__(self, run: "wandb.Run") -> None:
        self._run = run

    @classmethod
    def open(
        cls,
        project: str,
        run_id: str,
        name: str,
        *,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        say: Callable[[str], None],
    ) -> "WandbRun":
        """Start the run `run_id`, or take it up again where it was interrupted.

        Without a key, or where W&B does not let this one in, it is kept offline, and `say` is told so. Raises
        `WandbMissing`.
        """
        os.environ.setdefault("WANDB_SILENT", "true")
        try:
            import wandb
        except ImportError as error:
            raise WandbMissing(
                "the project file says `tracking: wandb`, but the package is not installed: "
                "`pip install 'visionops[wandb]'`, or remove wandb from `tracking`"
            ) from error

        folder = home() / "wandb"
        folder.mkdir(parents=True, exist_ok=True)

        def start(mode: Literal["online", "offline", "disabled"]) -> "wandb.Run":
            return wandb.init(
                project=project,
                id=run_id,
                name=name,
                config={**params, **tags},
                dir=folder,
                mode=mode,
                resume="allow",
                # What it would send of the machine and the code is nobody's business.
                settings=wandb.Settings(
                    init_timeout=_PATIENCE_SECONDS,
                    console="off",
                    silent=True,
                    disable_git=True,
                    disable_code=True,
                    save_code=False,
                    x_disable_machine_info=True,
                    x_disable_meta=True,
                    x_disable_stats=True,
                ),
            )

        chosen = os.environ.get("WANDB_MODE")
        upload = f"`wandb sync {folder / 'wandb' / 'offline-run-*'}` uploads it later"
        if chosen in ("offline", "disabled", "dryrun"):
            return cls(start("disabled" if chosen == "disabled" else "offline"))
        if not _has_key():
            say(f"W&B: no key (WANDB_API_KEY or `wandb login`), so the run is kept offline; {upload}")
            return cls(start("offline"))
        try:
            return cls(start("online"))
        except wandb.Error as error:
            reason = str(error).strip().partition("\n")[0]
            say(f"W&B did not let the run in ({reason}), so it is kept offline; {upload}")
            return cls(start("offline"))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record the metrics of one epoch (`step`)."""
        self._run.log(dict(metrics), step=step)

    def end(self, succeeded: bool) -> None:
        """Close the run."""
        self._run.finish(exit_code=0 if succeeded else 1)


def _has_key() -> bool:
    """Whether W&B would find a key: in the environment, or where `wandb login` left it."""
    if given("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or _HOST).hostname or ""
    try:
        return netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False
