"""A process killed at any instant loses nothing: run again, the end is that of an undisturbed run."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from lakefs_local import discovery
from resources.model_registry import ModelRegistry
from tests.world import shapes_project, write_batch
from visionops_assets.promotion.history import production

# Kills its own process in the middle of the named registry call, then does what the command line does.
KILLED_AT = """
import os, signal, sys
from resources import model_versions, model_artifacts
from visionops_assets.training import progress
place, count = sys.argv.pop(1), int(sys.argv.pop(1))
owner = {"report": progress.EpochReporter, "put_bytes": model_artifacts.RunArtifacts}.get(place, model_versions.Models)
name = "_report" if place == "report" else place
original, calls = getattr(owner, name), []
def dying(*arguments, **options):
    calls.append(1)
    if len(calls) == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)
setattr(owner, name, dying)
from visionops.__main__ import main
main()
"""


class Home:
    """A VISIONOPS_HOME with one small project, worked on by separate processes only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "projects").mkdir(parents=True)
        content = shapes_project().model_dump(mode="json")
        (root / "projects" / "shapes.yaml").write_text(yaml.safe_dump(content))
        self.environment = {
            **os.environ,
            "VISIONOPS_HOME": str(root / "home"),
            "VISIONOPS_PROJECTS": str(root / "projects"),
        }
        self.environment.pop("DAGSTER_HOME", None)

    def visionops(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._python("-m", "visionops", *arguments)

    def killed_at(self, place: str, count: int) -> None:
        done = self._python("-c", KILLED_AT, place, str(count), "tick")
        assert done.returncode == -signal.SIGKILL, done.stderr

    def champion(self) -> tuple[str, int]:
        """Weights in production, and the number of versions that were ever in production."""
        registry = ModelRegistry(tracking_uri=f"sqlite:///{self.root / 'home' / 'mlflow' / 'mlflow.db'}")
        now = production(registry.models.get("shapes"))
        assert now.version is not None
        assert not now.foreign
        assert now.incomplete is None
        return registry.models.version("shapes", now.version).weights_sha256, len(now.intervals)

    def _python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], env=self.environment, capture_output=True, text=True, timeout=300
        )


@pytest.fixture(scope="module")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Home]]:
    """Makes homes with the same first batch imported."""
    made: list[Home] = []
    source = write_batch(tmp_path_factory.mktemp("drop") / "week", 90, 1)

    def make() -> Home:
        home = Home(tmp_path_factory.mktemp("killed"))
        made.append(home)
        imported = home.visionops("import", "shapes", str(source), "--batch", "week-01")
        assert imported.returncode == 0, imported.stderr
        return home

    yield make
    for home in made:
        discovery.stop(home.root / "home" / "lakefs")


@pytest.fixture(scope="module")
def undisturbed(new_home: Callable[[], Home]) -> tuple[str, int]:
    """Where a run ends that nobody kills."""
    home = new_home()
    done = home.visionops("tick")
    assert done.returncode == 0, done.stdout + done.stderr
    return home.champion()


PLACES = [
    ("report", 3),
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
        assert again.returncode == 0, f"killed at {place} {number}: {again.stdout}{again.stderr}"
        assert "promoted" in again.stdout, f"killed at {place} {number}: {again.stdout}"
        assert home.champion() == undisturbed, f"killed at {place} {number}"
