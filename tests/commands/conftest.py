"""A terminal for the tests of commands."""

import sys
from collections.abc import Iterator

import pytest
from desk import LENIENT, Desk

from tests.world import World


@pytest.fixture
def desk(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A terminal in a fresh world whose gate lets every honest challenger pass."""
    yield from _desk_in(world, monkeypatch)


@pytest.fixture
def desk_of_promoted(promoted: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The same where the first version, week-01, is champion."""
    yield from _desk_in(promoted, monkeypatch)


def _desk_in(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name in ("LAKEFS_ENDPOINT", "MLFLOW_TRACKING_URI", "VISIONOPS_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VISIONOPS_HOME", str(world.root))
    monkeypatch.setenv("VISIONOPS_PROJECTS", str(world.root / "projects"))
    monkeypatch.setenv("VISIONOPS_ACTOR", "ada@example.com")
    made = Desk(world)
    made.use(**LENIENT)
    yield made
    sys.modules.pop("definitions", None)
