"""Worlds in which something runs in production."""

import pytest
from logged import project
from production_world import ProductionWorld

from tests.world import World


@pytest.fixture
def production(world: World) -> ProductionWorld:
    """A world with a project whose production began in June 2026; no model is registered yet."""
    return ProductionWorld(world.root, world.lakefs, world.registry, world.instance, [project()])
