"""A DVC repository with history, and a terminal beside it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands.desk import LENIENT, Desk
from tests.world import World

if TYPE_CHECKING:
    from repositories import DVCRepository

pytest.importorskip("dvc.repo", reason="DVC is not installed: pip install 'visionops[dvc]'")


@pytest.fixture(scope="session")
def dvc_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per class under `data`: 30 images at the tag v1, 12 more at v2."""
    from repositories import DVCRepository

    made = DVCRepository.create(tmp_path_factory.mktemp("dvc") / "parts")
    made.draw("data", 30, seed=1)
    made.add("data")
    made.commit("First images", "v1")
    made.draw("data", 12, seed=2)
    made.add("data")
    made.commit("More images", "v2")
    return made.root


@pytest.fixture
def repository(dvc_template: Path, tmp_path: Path) -> "DVCRepository":
    """A copy of it."""
    from repositories import DVCRepository

    return DVCRepository(shutil.copytree(dvc_template, tmp_path / "parts", symlinks=True))


@pytest.fixture
def desk_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[World], Desk]:
    """Give a terminal in a world."""

    def sit_down(world: World) -> Desk:
        for name in ("LAKEFS_ENDPOINT", "MLFLOW_TRACKING_URI", "VISIONOPS_ARTIFACTS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("VISIONOPS_HOME", str(world.root))
        monkeypatch.setenv("VISIONOPS_PROJECTS", str(world.root / "projects"))
        monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(world.root / "dvc-site-cache"))
        made = Desk(world)
        made.use(**LENIENT)
        return made

    return sit_down


@pytest.fixture
def desk(world: World, desk_in: Callable[[World], Desk]) -> Iterator[Desk]:
    """A terminal in a fresh world."""
    yield desk_in(world)
