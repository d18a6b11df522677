"""Homes that only separate processes work on."""

import os
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from resources.models.registry import ModelRegistry
from tests import processes
from visionops_assets.champions.history import production


class Home:
    """A VISIONOPS_HOME with one small project, worked on by separate processes only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            **os.environ,
            "VISIONOPS_HOME": str(root / "home"),
            "VISIONOPS_PROJECTS": str(root / "projects"),
            "VISIONOPS_ACTOR": "somebody@example.com",
        }
        self.environment.pop("DAGSTER_HOME", None)

    def visionops(self, *arguments: str, before: Callable[[], None] | None = None) -> processes.Ended:
        """Run a command to its end."""
        return processes.visionops(
            *arguments, environment=self.environment, said=self.root / "said", before=before
        )

    def start(
        self, *arguments: str, said: str = "said", before: Callable[[], None] | None = None
    ) -> processes.Running:
        """Start a command; what it prints goes to a file of the root."""
        return processes.start_visionops(
            *arguments, environment=self.environment, said=self.root / said, before=before
        )

    def latest(self, asset: str) -> dg.AssetMaterialization | None:
        """The newest materialisation of an asset, as the UI shows it."""
        with dg.DagsterInstance.from_config(str(self.root / "home" / "dagster")) as instance:
            event = instance.get_latest_materialization_event(dg.AssetKey(["shapes", asset]))
        return event.asset_materialization if event is not None else None

    @property
    def folder(self) -> Path:
        """The folder of all local state."""
        return Path(self.environment["VISIONOPS_HOME"])

    def registry(self) -> ModelRegistry:
        """MLflow's store in it."""
        return ModelRegistry(tracking_uri=f"sqlite:///{self.folder / 'mlflow' / 'mlflow.db'}")

    def champion(self, project: str = "shapes") -> tuple[str, int]:
        """Weights in production, and the number of versions that were ever in production."""
        registry = self.registry()
        now = production(registry.models.get(project))
        assert now.version is not None
        assert not now.foreign
        assert now.incomplete is None
        return registry.models.version(project, now.version).weights_sha256, len(now.intervals)
