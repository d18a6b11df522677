"""What every test shares."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# First of all that is ours: it switches telemetry off, in the tests' children too.
import resources  # noqa: F401
from tests import compared_pairs, databases, migrations, onnx_exporter

if TYPE_CHECKING:
    from tests.world import World

# Nothing that is imported to be collected is garbage; looking for some took a tenth of the time.
gc.disable()

# Nothing a test does is told to a team.
for webhook in ("VISIONOPS_ERROR_WEBHOOK", "VISIONOPS_VERDICT_WEBHOOK"):
    os.environ.pop(webhook, None)


FULL_COUNTS = os.environ.get("VISIONOPS_FULL_COUNTS") == "1"
# At stated counts one test is many; `timeout` of pyproject.toml is for one.
STATED_WITHIN_SECONDS = 1800
# The longest files first: at the end no worker waits for another that has just begun with one of them.
LONGEST_FIRST = (
    "browser",
    "walk",
    "loop",
    "commands",
    "reproduction",
    "drop",
    "detection",
    "promotion",
    "training",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folders of the longest files first, in the order given there; what is `stated` is for `make test-all`
    alone, which gives each test more time.
    """
    order = {folder: place for place, folder in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))
    for item in items:
        if FULL_COUNTS and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(STATED_WITHIN_SECONDS))
        elif not FULL_COUNTS and item.get_closest_marker("stated"):
            item.add_marker(pytest.mark.skip(reason="for `make test-all`"))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported, which stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


@pytest.fixture(scope="session")
def count() -> Callable[[int, int], int]:
    """Choose how often a simulation or kill is repeated: `count(reduced, stated)`.

    CI and `make test` use the reduced count, `make test-all` (VISIONOPS_FULL_COUNTS=1) the stated one.
    """
    return lambda reduced, stated: stated if FULL_COUNTS else reduced


@pytest.fixture(autouse=True)
def made_once() -> None:
    """What a test has imported of the exporter, Alembic or the comparison of pictures is quicker for those after it."""
    compared_pairs.keep()
    onnx_exporter.keep()
    migrations.keep()


@pytest.fixture(autouse=True)
def databases_closed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Those of a test's own folder are closed with it: a worker with a thousand open files ends in odd ways."""
    databases.watch()
    yield
    if (folder := request.node.funcargs.get("tmp_path")) is not None:
        databases.close_below(folder)


@pytest.fixture(autouse=True)
def spared_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A prediction server that ends gives all that was imported back to the collector, which would look through it.

    To ask `gc.get_freeze_count` instead is to walk through all of it, after each test.
    """
    given_back: list[None] = []
    unfreeze = gc.unfreeze
    monkeypatch.setattr(gc, "unfreeze", lambda: given_back.append(unfreeze()))
    yield
    if given_back:
        gc.collect(1)
        gc.freeze()


@pytest.fixture(autouse=True)
def retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is tried again is so at once: waiting shows nothing."""
    if "dagster" in sys.modules:
        from visionops_assets.shells import job_execution

        monkeypatch.setattr(job_execution, "WAIT_SECONDS", 0)


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty MLflow database: migrating takes seconds, copying does not."""
    from resources.models.registry import ModelRegistry

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    ModelRegistry(tracking_uri=f"sqlite:///{path}").models.get("nothing")
    return path


@pytest.fixture(scope="session")
def empty_template(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """A closed world in which nothing happened yet."""
    from tests.world import new_world

    folder = tmp_path_factory.mktemp("empty")
    with new_world(folder, mlflow_template):
        return folder


@pytest.fixture(scope="session")
def promoted_template(tmp_path_factory: pytest.TempPathFactory, empty_template: Path) -> Path:
    """A closed world whose first version is champion."""
    from tests.world import copied_world

    folder = tmp_path_factory.mktemp("promoted")
    with copied_world(empty_template, folder) as world:
        world.publish("week-01", 150, seed=1)
        ticked = world.tick()
        assert ticked.outcome == "promoted", ticked
    return folder


@pytest.fixture
def world(tmp_path: Path, empty_template: Path) -> "Iterator[World]":
    """A fresh VisionOps with one small project."""
    from tests.world import copied_world

    with copied_world(empty_template, tmp_path) as made:
        yield made


@pytest.fixture
def promoted(tmp_path: Path, promoted_template: Path) -> "Iterator[World]":
    """A VisionOps whose first version, week-01 of 150 images, is champion."""
    from tests.world import copied_world

    with copied_world(promoted_template, tmp_path) as made:
        yield made
