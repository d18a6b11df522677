"""Fixtures of the tests that run the whole loop."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.model_registry import ModelRegistry
from tests.world import World, new_world


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty MLflow database: migrating takes seconds, copying does not."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    ModelRegistry(tracking_uri=f"sqlite:///{path}").models.get("nothing")
    return path


@pytest.fixture
def world(tmp_path: Path, mlflow_template: Path) -> Iterator[World]:
    """A fresh VisionOps with one small project."""
    with new_world(tmp_path, mlflow_template) as made:
        yield made
