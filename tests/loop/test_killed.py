"""A process killed at any instant loses nothing: run again, the end is that of an undisturbed run."""

import signal
from collections.abc import Callable

import pytest
from homes import Home

from resources.models import artifacts, model_versions
from tests import processes
from visionops_assets.training import training_task

pytestmark = pytest.mark.slow

NewHome = Callable[[], Home]
OWNERS: dict[str, type] = {"_report": training_task.EpochReporter, "put_bytes": artifacts.RunArtifacts}
PLACES = [
    ("set_alias", 1),
    ("_report", 3),
    ("put_bytes", 2),
    ("create_version", 1),
    ("set_tag", 1),
    ("set_tag", 3),
]


def kill_at(home: Home, place: str, number: int) -> None:
    owner = OWNERS.get(place, model_versions.Models)
    killed = home.visionops("tick", before=processes.Dying(owner, place, number))
    assert killed.code == -signal.SIGKILL, killed.said


def test_a_run_killed_after_the_promotion_is_followed_by_one_that_tells_what_runs(new_home: NewHome) -> None:
    home = new_home()
    dying = processes.Dying(artifacts.RunArtifacts, "put_bytes", about="reports/in_production")
    assert home.visionops("tick", before=dying).code == -signal.SIGKILL
    version, told = home.champion()[1], home.latest("in_production")
    assert (version, told) == (1, None), "what runs has changed, and nobody was told"
    again = home.visionops("tick")
    assert again.code == 0 and "promoted" in again.said, again.said
    told = home.latest("in_production")
    assert told is not None and told.metadata["version"].value == home.champion()[1] == 1


def test_a_killed_run_ends_like_an_undisturbed_one(new_home, undisturbed, count):
    for place, number in PLACES[: count(1, len(PLACES))]:
        home = new_home()
        kill_at(home, place, number)
        again = home.visionops("tick")
        assert again.code == 0, f"killed at {place} {number}: {again.said}"
        assert "promoted" in again.said, f"killed at {place} {number}: {again.said}"
        assert home.champion() == undisturbed, f"killed at {place} {number}"
