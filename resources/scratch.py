"""Local disk that may be deleted at any time: decoded samples and unfinished trainings."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from filelock import FileLock


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

    @contextmanager
    def exclusive_training(self, identity: str) -> Iterator[Path]:
        """The same folder, while no other process of this machine trains the same; waits for one that does."""
        folder = self.training(identity)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside the folder, which whoever trained removes while others wait for the lock.
        with FileLock(f"{folder}.lock"):
            folder.mkdir(parents=True, exist_ok=True)
            yield folder
