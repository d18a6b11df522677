"""Rollouts from end to end: real agents, reports, sensors and assets; a good version completes, a bad one goes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk
from rolled_out import Group

from visionops_assets.champions.history import production, read_history


@pytest.fixture
def group(desk_of_two: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Group]:
    """Four devices that run version 2, of a group that rollouts lead."""
    found = Group(desk_of_two, tmp_path / "devices", monkeypatch)
    desk_of_two.run("fleet", "keys", "init", "shapes")
    found.declare()
    found.provision("cam-1", "cam-2", "cam-3", "cam-4")
    found.tick()
    found.live()
    found.tick()
    yield found
    found.close()


def start(group: Group, *options: str) -> str:
    """Begin a rollout of version 1 and publish its first wave; its name."""
    group.desk.run(
        *("rollout", "start", "shapes", "--group", "line-1", "--model-version", "1", "--why", "the lamp"),
        *options,
    )
    group.tick()
    return group.rollouts()[-1].id


def test_a_good_version_completes_in_waves_and_a_bad_one_is_stopped_at_its_first_device(group: Group) -> None:
    desk = group.desk
    assert group.runs() == dict.fromkeys(group.devices, 2)
    rollout = start(group)
    first, second, third, last = group.in_order(rollout)
    group.live(2)
    assert {name for name, version in group.runs().items() if version == 1} == {first, second}
    (told,) = [each for each in group.goes_on() if "wave 1 of 3" in each]
    assert "line-1: PASS, wave 1 of 3 did well: the next has 3 devices" in told
    group.live()
    assert group.runs() == {first: 1, second: 1, third: 1, last: 2}, "a control arm until the last wave"
    group.goes_on(2)
    group.live()
    assert group.runs() == dict.fromkeys(group.devices, 1)
    group.goes_on()
    found = group.status()
    assert (found["state"], found["verdict"], found["waves"]) == ("complete", "PASS", [2, 3, 4])
    assert found["ways"] == ["undo: `visionops rollback shapes --group line-1 --why TEXT`"]

    model = desk.world.registry.models.get("shapes")
    entry = read_history(model.tags).entries[-1]
    assert (entry.kind, entry.group, entry.from_version, entry.to_version) == ("delivery", "line-1", 2, 1)
    assert entry.verdict == rollout and production(model, "line-1").version == 1
    assert group.assignment()["candidate"] is None
    shown = desk.world.latest("rollout", rollout).metadata
    assert shown["state"].value == "complete" and "data:image/png" in str(shown["evidence"].value)
    assert "waves" in str(shown["in_detail"].value).casefold()
    assert not any("line-1" in each for each in group.goes_on()), "what a person gave it, it keeps"

    # Its way back is a command, and what follows of it goes by itself.
    desk.run("rollback", "shapes", "--group", "line-1", "--why", "it was better before")
    group.tick()
    group.live()
    assert group.runs() == dict.fromkeys(group.devices, 2)
