"""Local disk that may be deleted at any time: decoded samples and unfinished trainings."""

from pathlib import Path

import dagster as dg


class Scratch(dg.ConfigurableResource):
    """Folders under `root`, on a disk of the machine that trains."""

    root: str

    @property
    def samples(self) -> Path:
        """Root of the sample cache, shared by all projects and versions."""
        return Path(self.root) / "samples"

    def training(self, identity: str) -> Path:
        """Where a training leaves its checkpoint, so that an interrupted one resumes."""
        return Path(self.root) / "training" / identity[:32]
