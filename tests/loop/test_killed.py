"""A process killed at any instant loses nothing: run again, the end is that of an undisturbed run."""

import signal

from homes import Home

from resources import model_artifacts, model_versions
from tests import processes
from visionops_assets.training import progress

OWNERS: dict[str, type] = {"_report": progress.EpochReporter, "put_bytes": model_artifacts.RunArtifacts}
PLACES = [
    ("_report", 3),
    ("set_alias", 1),
    ("put_bytes", 2),
    ("create_version", 1),
    ("set_tag", 1),
    ("set_tag", 3),
]


def kill_at(home: Home, place: str, number: int) -> None:
    owner = OWNERS.get(place, model_versions.Models)
    killed = home.visionops("tick", before=processes.Dying(owner, place, number))
    assert killed.code == -signal.SIGKILL, killed.said


def test_a_killed_run_ends_like_an_undisturbed_one(new_home, undisturbed, count):
    for place, number in PLACES[: count(2, len(PLACES))]:
        home = new_home()
        kill_at(home, place, number)
        again = home.visionops("tick")
        assert again.code == 0, f"killed at {place} {number}: {again.said}"
        assert "promoted" in again.said, f"killed at {place} {number}: {again.said}"
        assert home.champion() == undisturbed, f"killed at {place} {number}"
