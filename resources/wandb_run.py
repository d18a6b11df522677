"""A run in Weights & Biases, beside the MLflow run of the same id. Nothing else in the project talks to W&B."""

import os
from collections.abc import Callable, Mapping
from netrc import NetrcParseError, netrc
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlparse

from resources.home import home

if TYPE_CHECKING:
    import wandb

_HOST = "https://api.wandb.ai"
_PATIENCE_SECONDS = 30.0


class WandbMissing(RuntimeError):
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
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or _HOST).hostname or ""
    try:
        return netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False
