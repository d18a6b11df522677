"""Fixtures of the training tests."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest
from training_world import Processes, train_here

from visionops_assets.training.train import TrainingResult


@pytest.fixture(scope="session")
def processes() -> Processes:
    context = multiprocessing.get_context("forkserver")
    # The server that preloads finds modules by the environment alone.
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    context.set_forkserver_preload(["training_world", "foreign_models"])
    return Processes(context)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """One finished training, for tests that only read it."""
    return train_here(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    return tmp_path / "work"
