"""A process killed at any instant loses nothing: run again, the end is that of an undisturbed run."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from lakefs_local import discovery
from resources import model_artifacts, model_versions
from resources.model_registry import ModelRegistry
from tests import processes
from tests.world import copy_registry, shapes_project, write_batch
from visionops_assets.promotion.history import production
from visionops_assets.training import progress


class Home:
    """A VISIONOPS_HOME with one small project, worked on by separate processes only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {
            **os.environ,
            "VISIONOPS_HOME": str(root / "home"),
            "VISIONOPS_PROJECTS": str(root / "projects"),
        }
        self.environment.pop("DAGSTER_HOME", None)

    def visionops(self, *arguments: str, before: processes.Dying | None = None) -> processes.Ended:
        return processes.visionops(
            *arguments, environment=self.environment, said=self.root / "said", before=before
        )

    def killed_at(self, place: str, number: int) -> None:
        owner = OWNERS.get(place, model_versions.Models)
        killed = self.visionops("tick", before=processes.Dying(owner, place, number))
        assert killed.code == -signal.SIGKILL, killed.said

    def champion(self) -> tuple[str, int]:
        """Weights in production, and the number of versions that were ever in production."""
        registry = ModelRegistry(tracking_uri=f"sqlite:///{self.root / 'home' / 'mlflow' / 'mlflow.db'}")
        now = production(registry.models.get("shapes"))
        assert now.version is not None
        assert not now.foreign
        assert now.incomplete is None
        return registry.models.version("shapes", now.version).weights_sha256, len(now.intervals)


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def undisturbed(new_home: Callable[[], Home]) -> tuple[str, int]:
    """Where a run ends that nobody kills."""
    home = new_home()
    done = home.visionops("tick")
    assert done.code == 0, done.said
    return home.champion()


OWNERS: dict[str, type] = {"_report": progress.EpochReporter, "put_bytes": model_artifacts.RunArtifacts}
PLACES = [
    ("_report", 3),
    ("set_alias", 1),
    ("put_bytes", 2),
    ("create_version", 1),
    ("set_tag", 1),
    ("set_tag", 3),
]


def test_a_killed_run_ends_like_an_undisturbed_one(new_home, undisturbed, count):
    for place, number in PLACES[: count(2, len(PLACES))]:
        home = new_home()
        home.killed_at(place, number)
        again = home.visionops("tick")
        assert again.code == 0, f"killed at {place} {number}: {again.said}"
        assert "promoted" in again.said, f"killed at {place} {number}: {again.said}"
        assert home.champion() == undisturbed, f"killed at {place} {number}"
