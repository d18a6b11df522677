"""What every test shares."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.world import World

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")


@pytest.fixture(scope="session")
def count() -> Callable[[int, int], int]:
    """Choose how often a simulation or kill is repeated: `count(reduced, stated)`.

    `make test` uses the reduced count, `make test-all` (VISIONOPS_FULL_COUNTS=1) the stated one.
    """
    full = os.environ.get("VISIONOPS_FULL_COUNTS") == "1"
    return lambda reduced, stated: stated if full else reduced


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty MLflow database: migrating takes seconds, copying does not."""
    from resources.model_registry import ModelRegistry

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    ModelRegistry(tracking_uri=f"sqlite:///{path}").models.get("nothing")
    return path


@pytest.fixture
def world(tmp_path: Path, mlflow_template: Path) -> "Iterator[World]":
    """A fresh VisionOps with one small project."""
    from tests.world import new_world

    with new_world(tmp_path, mlflow_template) as made:
        yield made
