"""A terminal for the tests of commands."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from desk import LENIENT, Desk

from tests.world import World, copied_world, shapes_project

SecondWeek = Callable[..., Path]
DeskAfter = Callable[..., Desk]


@pytest.fixture
def desk(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A terminal in a fresh world whose gate lets every honest challenger pass."""
    yield _desk_in(world, monkeypatch)
    sys.modules.pop("definitions", None)


@pytest.fixture
def desk_of_promoted(promoted: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The same where the first version, week-01, is champion."""
    yield _desk_in(promoted, monkeypatch)
    sys.modules.pop("definitions", None)


@pytest.fixture(scope="session")
def second_week(tmp_path_factory: pytest.TempPathFactory, promoted_template: Path) -> SecondWeek:
    """Closed worlds in which week-02, of 90 images, was decided, each made once: `second_week(outcome, wrong, ...)`."""
    known: dict[str, Path] = {}

    def make(outcome: str, wrong: float, **gate: Any) -> Path:
        name = repr((wrong, sorted(gate.items())))
        if name not in known:
            folder = tmp_path_factory.mktemp("second-week")
            with copied_world(promoted_template, folder) as world:
                rules = {**world.project.gate.model_dump(mode="json"), **LENIENT, **gate}
                world.projects = [shapes_project(gate=rules)]
                world.publish("week-02", 90, seed=2, wrong=wrong)
                assert world.tick().outcome == outcome
            known[name] = folder
        return known[name]

    return make


@pytest.fixture
def desk_after(
    tmp_path: Path, second_week: SecondWeek, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DeskAfter]:
    """Makes the one desk of a test, in a copy of such a world: `desk_after(outcome, wrong=0.0, **gate)`."""
    with ExitStack() as opened:

        def make(outcome: str, wrong: float = 0.0, **gate: Any) -> Desk:
            template = second_week(outcome, wrong, **gate)
            made = _desk_in(opened.enter_context(copied_world(template, tmp_path)), monkeypatch)
            made.use(**gate)
            return made

        yield make
    sys.modules.pop("definitions", None)


@pytest.fixture
def desk_of_two(desk_after: DeskAfter) -> Desk:
    """A desk where the second version, of week-02, was promoted after the first."""
    return desk_after("promoted")


def _desk_in(world: World, monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name in ("LAKEFS_ENDPOINT", "MLFLOW_TRACKING_URI", "VISIONOPS_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VISIONOPS_HOME", str(world.root))
    monkeypatch.setenv("VISIONOPS_PROJECTS", str(world.root / "projects"))
    monkeypatch.setenv("VISIONOPS_ACTOR", "ada@example.com")
    made = Desk(world)
    made.use(**LENIENT)
    return made
