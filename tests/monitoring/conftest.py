"""Worlds in which something runs in production."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from logged import project
from production_world import ProductionWorld

from resources.lakefs.client import LakeFSResource
from resources.models.registry import ModelRegistry
from tests.world import World, copy_registry


@pytest.fixture
def production(world: World) -> ProductionWorld:
    """A world with a project whose production began in June 2026; no model is registered yet."""
    return ProductionWorld(world.root, world.lakefs, world.registry, world.instance, [project()])


@pytest.fixture
def models(tmp_path: Path, mlflow_template: Path) -> Iterator[ProductionWorld]:
    """The same without lakeFS and Dagster: what predicts needs neither."""
    copy_registry(mlflow_template, tmp_path)
    lakefs = LakeFSResource(endpoint="http://127.0.0.1:1", access_key_id="none", secret_access_key="none")
    registry = ModelRegistry(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    with dg.DagsterInstance.ephemeral() as instance:
        yield ProductionWorld(tmp_path, lakefs, registry, instance, [project()])
