"""Homes with one small project, whose first batch is imported."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from homes import Home

from lakefs_local import discovery
from tests.world import copy_registry, shapes_project, write_batch


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """The folder of a home, worked on by nobody, whose first batch is imported."""
    root = tmp_path_factory.mktemp("imported")
    copy_registry(mlflow_template, root / "home" / "mlflow")
    (root / "projects").mkdir()
    content = shapes_project().model_dump(mode="json")
    (root / "projects" / "shapes.yaml").write_text(yaml.safe_dump(content))
    source = write_batch(tmp_path_factory.mktemp("drop") / "week", 90, 1)
    done = Home(root).visionops("import", "shapes", str(source), "--batch", "week-01")
    discovery.stop(root / "home" / "lakefs")
    assert done.code == 0, done.said
    return root


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory, imported: Path) -> Iterator[Callable[[], Home]]:
    """Makes homes with the same first batch imported."""
    made: list[Home] = []

    def make() -> Home:
        root = tmp_path_factory.mktemp("killed")
        made.append(Home(shutil.copytree(imported, root, symlinks=True, dirs_exist_ok=True)))
        return made[-1]

    yield make
    for home in made:
        discovery.stop(home.root / "home" / "lakefs")


@pytest.fixture(scope="session")
def undisturbed(new_home: Callable[[], Home]) -> tuple[str, int]:
    """Where a run ends that nobody kills."""
    home = new_home()
    done = home.visionops("tick")
    assert done.code == 0, done.said
    return home.champion()
