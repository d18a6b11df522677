"""Rollouts from end to end: real agents, reports, sensors and assets; a good version completes, a bad one goes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk, ways_back
from rolled_out import Group
from test_delivery_follows import declare

from resources.error_family import VisionOpsError
from tests.operations_table import require_told
from tests.world import shapes_project
from visionops.serving.exporter import rollout_samples
from visionops.simulation.declared_faults import Fault
from visionops_assets.champions.history import production, read_history

pytestmark = pytest.mark.slow


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


def test_a_good_version_completes_in_waves_and_is_undone_by_one_command(group: Group) -> None:
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


@pytest.mark.slow
def test_a_group_that_is_taken_out_of_the_file_meanwhile_is_named_with_its_way_back(group: Group) -> None:
    """No sensor leads the only group any more, and its devices would try the candidate for good."""
    desk = group.desk
    start(group)
    group.live(2)
    assert 1 in group.runs().values()
    gate = desk.world.project.gate.model_dump(mode="json")
    desk.world.projects = [shapes_project(gate=gate)]
    desk.save()

    (told,) = [each["reason"] for each in group.tick(code=1) if each["outcome"] == "error"]
    require_told("a group is taken out of the project file while its devices try a version", told)
    assert told in desk.json("fleet", "status", "shapes", code=1)["wrong"]
    assert told in desk.run("fleet", "status", "shapes", code=1)

    (back, *_) = ways_back(told)
    desk.run(*back)
    group.live(2)
    assert group.runs() == dict.fromkeys(group.devices, 2)
    group.tick()
    assert "brings them back" not in desk.run("fleet", "status", "shapes")


def refused(group: Group, *words: str) -> str:
    """The one line that a command is refused with."""
    with pytest.raises(VisionOpsError) as told:
        group.desk.run("rollout", *words)
    said = str(told.value)
    assert "\n" not in said and any(
        fix in said for fix in ("`visionops ", "--", "; leave it out", "There are")
    )
    return said


@pytest.mark.stated
def test_what_fails_on_devices_goes_back_everywhere_and_its_group_is_held(group: Group) -> None:
    desk = group.desk
    why, on = ("--why", "the lamp"), ("shapes", "--group", "line-1")
    registry = desk.world.registry
    run = registry.models.version("shapes", 2).run_id
    registry.models.create_version("shapes", run, registry.runs.get(run).tags)
    assert "version 3 of shapes has neither a PASS nor an override" in refused(
        group, "start", *on, "--model-version", "3", *why
    )
    assert "no device group line-9 that follows" in refused(
        group, "start", "shapes", "--group", "line-9", *why
    )
    assert "line-1 runs version 2 already" in refused(group, "start", *on, *why)
    assert "waves rise: 0.1 comes after 0.5" in refused(group, "start", *on, "--waves", "0.5,0.1,1", *why)
    assert "no list of shares such as" in refused(group, "start", *on, "--waves", "all", *why)
    assert "shapes has no rollout in progress" in refused(group, "abort", "shapes", *why)

    rollout = start(group)
    assert "line-1 has the rollout" in refused(group, "start", *on, "--model-version", "1", *why)
    assert "say why" in refused(group, "override", "shapes", "--why", " ")
    first, second, *_ = group.in_order(rollout)
    for name in (first, second):
        group.suffers(name, Fault("crash-after", 1))
    group.live()
    (told,) = [each for each in group.goes_on(minutes=1) if "FAIL" in each]
    assert "safety: 2 of 2 devices failed" in told and "line-1 is on hold" in told
    group.live()
    assert group.runs() == dict.fromkeys(group.devices, 2), "one look later"
    said = " ".join(desk.run("rollout", "status", "shapes").split())
    assert f"{first} left it in its trial (crash" in said or f"{second} left it in its trial (crash" in said
    require_told("a rollout failed, and its devices went back", said)
    assert "is on hold" in refused(group, "start", *on, "--model-version", "1", *why)
    samples = list(rollout_samples(desk.world.project, registry))
    assert ("line-1", "FAIL") in {each.labels[1::2] for each in samples if "state" in each.family.name}
    assert production(registry.models.get("shapes"), "line-1").on_hold

    # Tried again, it is another release: those that refused the first try it, on hardware that is too slow now.
    release = next(each for each in group.status()["ways"] if "release" in each)
    (words,) = ways_back(release)
    desk.run(*words[:-1], "another lamp")
    again = start(group)
    for name in group.devices:
        group.suffers(name, Fault("slow", 1e8))
    group.live()
    answered = {name: device.agent.state.serving for name, device in group.devices.items()}
    assert {each.release for each in answered.values() if each is not None} == {1}, "not one image"
    group.goes_on(minutes=1)
    found = group.status()
    assert (found["rollout"], found["state"], found["verdict"]) == (again, "FAIL", "FAIL")
    assert {(each["event"], each["why"]) for each in found["failures"]} == {("refused", "slow")}
    assert group.assignment()["candidate"] is None and len(group.assignment()["revoked"]) == 2
    assert group.runs() == dict.fromkeys(group.devices, 2)


def test_what_cannot_begin_changes_nothing_and_an_unreadable_tag_stops_rollouts_alone(
    desk_of_two: Desk,
) -> None:
    desk = desk_of_two
    desk.run("fleet", "keys", "init", "shapes")
    declare(desk, {"line-1": {}, "line-2": {}, "line-3": {"follow": "own"}})
    desk.json("tick", "shapes")
    for group, said in (
        ("line-1", "no device of line-1 was heard of"),
        ("line-3", "line-3 runs nothing that"),
    ):
        with pytest.raises(VisionOpsError, match=said):
            desk.run("rollout", "start", "shapes", "--group", group, "--model-version", "1")
    assert set(desk.world.registry.models.get("shapes").aliases) == {"champion"}
    declare(desk, {"line-1": {"rollout": {}}, "line-2": {}})
    desk.world.registry.models.set_tag("shapes", "visionops.rollout.000001", "{}")
    said = " ".join(each["reason"] for each in desk.json("tick", "shapes", code=1))
    assert "tag visionops.rollout.000001 of the registered model: this is no entry of a rollout" in said
    assert "is decided: promoted" in said, "the rest goes on"
