"""Homes with one small project, whose first batch is imported."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from homes import Home
from verbs import IMAGES, Verb, filled

from lakefs_local import discovery
from tests.world import copy_registry, shapes_project, write_batch


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Path:
    """The folder of a home, worked on by nobody, whose first batch is imported and whose third lies beside it."""
    root = tmp_path_factory.mktemp("imported")
    copy_registry(mlflow_template, root / "home" / "mlflow")
    (root / "projects").mkdir()
    content = shapes_project().model_dump(mode="json")
    (root / "projects" / "shapes.yaml").write_text(yaml.safe_dump(content))
    write_batch(root / "week-03", IMAGES, 3)
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


@pytest.fixture(scope="session")
def grown(new_home: Callable[[], Home]) -> Home:
    """A home with two versions of which the second is in production, an experiment, and a day with wanted labels."""
    home = new_home()
    declared = shapes_project(production={"captures": {"share": 1.0}}).model_dump(
        mode="json", exclude_none=True
    )
    (home.root / "projects" / "shapes.yaml").write_text(yaml.safe_dump(declared))
    week = write_batch(home.root / "week-02", 120, 2)
    seen = write_batch(home.root / "seen", 60, 9)
    for arguments in (
        ("tick",),
        ("import", "shapes", str(week), "--batch", "week-02"),
        ("tick",),
        ("override", "shapes", "--why", "a second version"),
        ("train", "shapes", "--set", "epochs=5"),
        ("predict", "shapes", str(seen), "--log"),
        ("tick",),
    ):
        done = home.visionops(*arguments)
        assert done.code == 0, done.said
    discovery.stop(home.root / "home" / "lakefs")
    return home


@pytest.fixture
def home_of(
    tmp_path: Path, new_home: Callable[[], Home], request: pytest.FixtureRequest
) -> Iterator[Callable[[Verb], Home]]:
    made: list[Home] = []

    def make(verb: Verb) -> Home:
        if verb.grown:
            root = tmp_path / str(len(made))
            home = Home(shutil.copytree(request.getfixturevalue("grown").root, root, symlinks=True))
        else:
            home = new_home()
        if verb.name == "demo":
            del home.environment["VISIONOPS_PROJECTS"]
        made.append(home)
        for line in verb.first:
            done = home.visionops(*filled(line, home))
            assert done.code == 0, done.said
        return home

    yield make
    for home in made:
        discovery.stop(home.root / "home" / "lakefs")
