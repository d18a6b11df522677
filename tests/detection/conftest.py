"""Fixtures of the detection tests."""

import pytest
from detection_world import train_here

from visionops_assets.training.train import TrainingResult


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """One finished training of the default detector, for tests that only read it."""
    return train_here(tmp_path_factory.mktemp("trained"))
