"""A disk that is full costs no commit an attempt, and is told as what it is."""

import errno
import os

import pytest

from tests.operations_table import require_told
from tests.world import World, shapes_project
from visionops_assets.common import run_tags
from visionops_assets.shells.run_outcomes import is_attempt
from visionops_assets.training.training_task import EpochReporter


@pytest.mark.slow
def test_a_commit_whose_training_met_a_full_disk_is_trained_once_there_is_room(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    world.projects = [shapes_project(trigger={"attempts": 1})]
    world.publish("week-01", 90, seed=1)

    def full(reporter: EpochReporter, epoch: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/visionops/cache/part")

    with monkeypatch.context() as patched:
        patched.setattr(EpochReporter, "_report", full)
        for _ in range(world.project.trigger.attempts + 1):
            found = world.tick()
            assert found.outcome == run_tags.ERROR
            assert "no room is left on the disk of /srv/visionops/cache/part" in found.reason
            require_told("the disk is full, or fills while", found.reason)
            (run,) = world.instance.get_runs(limit=1)
            assert run.tags[run_tags.ATTEMPT] == "1" and not is_attempt(run)
    assert world.tick().outcome == run_tags.PROMOTED
