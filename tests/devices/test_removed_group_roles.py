"""A device group that is removed: devices of it keep their model, and take what a later group of that name gets."""

from pathlib import Path

import pytest

from edge.trust import Distrusted
from tests.devices.small_fleet import GROUP, Fleet, frame, update


def test_a_device_of_a_removed_group_keeps_its_model_and_goes_on_with_the_next_of_that_name(
    tmp_path: Path,
) -> None:
    fleet = Fleet(tmp_path)
    fleet.publish(fleet.bundle(1))
    agent = fleet.device().start()
    assert update(agent)["model"]["release"] == 1
    assignment = fleet.repository.assignment(GROUP)
    assert assignment is not None

    assert fleet.repository.remove_group(GROUP) and not fleet.repository.remove_group(GROUP)
    assert GROUP not in fleet.repository.read().groups
    for _ in range(2):
        with pytest.raises(Distrusted, match=f"nothing is assigned to group {GROUP}"):
            agent.look()
        assert agent.answering.answer(frame())["model"]["release"] == 1
        # A new key of assignments leaves no role to the old one.
        fleet.repository.rotate("assign")

    assert fleet.repository.add_group(GROUP)
    told = fleet.publish(fleet.bundle(2))
    assert told["serial"] == assignment["serial"] + 1, "a lower one would be a replay"
    assert update(agent)["model"]["release"] == 2 and agent.problems == {}
