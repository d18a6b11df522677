"""Fixtures of the training tests."""

from pathlib import Path

import pytest
from training_world import Processes, train_here

from tests.processes import context
from visionops_assets.training.train import TrainingResult


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
