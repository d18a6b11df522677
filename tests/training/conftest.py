"""Fixtures of the training tests."""

from pathlib import Path

import pytest
from training_world import Processes, train_here

from tests.processes import context
from visionops_assets.training.train import TrainingResult


@pytest.fixture(scope="session")
def model_libraries() -> None:
    """The libraries that models by name come from: skips where an environment is older than their being required."""
    for name in ("torchvision", "timm", "transformers", "yolox"):
        pytest.importorskip(
            name, reason=f"{name} is not installed here: `make test` on a new clone installs it"
        )


@pytest.fixture(scope="session")
def processes() -> Processes:
    return Processes(context)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """One finished training, for tests that only read it."""
    return train_here(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    return tmp_path / "work"
