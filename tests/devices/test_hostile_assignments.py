"""What is signed and yet does harm: numbers that silence a device, and orders that send it about."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from edge.formats import FormatError, assignment_of, canonical, manifest_of
from tests.devices.small_fleet import GROUP, Device, Fleet, update
from visionops_assets.delivery.publishing import move_device

NUMBERS: list[Any] = [
    float("inf"),
    float("-inf"),
    float("nan"),
    1e308,
    10**400,
    0,
    -1,
    1e-300,
    "many",
    [],
    {},
]


@pytest.mark.parametrize("number", NUMBERS, ids=[str(each)[:8] for each in NUMBERS])
@pytest.mark.parametrize("where", ["poll_every", "report_every", "max_kbps", "frames", "seconds"])
def test_no_number_of_an_assignment_silences_a_device(where: str, number: Any) -> None:
    """A stolen online key may ask for anything: what it asked for ends with the key, so a device looks on."""
    observe = {"frames": 3, "seconds": 10} | ({where: number} if where in ("frames", "seconds") else {})
    content = {
        "format": 1,
        "project": "shapes",
        "group": "line-1",
        "serial": 1,
        "issued_at": "2026-11-30T12:00:00Z",
        "base": {"bundle": "b", "release": 1},
        "observe": observe,
        **({where: number} if where not in observe else {}),
    }
    try:
        found = assignment_of(canonical(content))
    except FormatError:
        return
    assert 1 <= found.poll_every <= 86400 and 1 <= found.report_every <= 86400
    assert found.max_kbps is None or found.max_kbps >= 1
    assert timedelta(0) <= timedelta(seconds=found.observe_seconds) <= timedelta(days=366)
    assert found.observe_frames < 10**18 or where == "frames"


@pytest.mark.parametrize("read", [assignment_of, manifest_of])
def test_what_nests_without_end_is_broken(read: Callable[[bytes], object]) -> None:
    with pytest.raises(FormatError, match="is broken"):
        read(b'{"format": ' + b"[" * 100_000)


def test_a_trial_that_is_never_over_answers_all_the_same(fleet: Fleet, device: Device) -> None:
    update(device.start())
    fleet.publish(fleet.bundle(2), observe={"frames": 10**9, "seconds": 1e308})
    agent = device.start()
    assert update(agent)["model"]["release"] == 2 and agent.state.phase == "TRIAL"
    assert not agent.problems


@pytest.mark.parametrize("part", ["budget", "golden"])
def test_a_manifest_whose_limits_are_no_numbers_is_refused(fleet: Fleet, part: str) -> None:
    changes: dict[str, Any] = {part: {"cpu_ms": "fast"}}
    bundle = fleet.bundle(1, **changes)
    with pytest.raises(FormatError, match=f"cpu_ms in the {part} of a bundle is a number, not 'fast'"):
        manifest_of(canonical(bundle.manifest))


def test_a_device_that_was_away_for_several_moves_arrives_at_one_look(fleet: Fleet, device: Device) -> None:
    first = fleet.bundle(1)
    fleet.publish(first)
    update(device.start())
    chain = ["line-2", "line-3", "line-4"]
    second = fleet.bundle(2)
    assert fleet.repository.add_bundle(second.manifest, second.blobs)
    for group, to in zip(chain, [*chain[1:], None], strict=True):
        fleet.repository.add_group(group)
        runs = {"base": second.named if to is None else first.named}
        fleet.repository.assign(
            group, {**runs, "observe": {"frames": 3, "seconds": 10}, "moved": {"cam-17": to} if to else {}}
        )
    fleet.assign(base=first.named, moved={"cam-17": "line-2"})
    agent = device.start()
    assert update(agent)["model"]["release"] == second.manifest["release"]
    assert agent.state.group == "line-4"


def test_a_device_goes_to_a_group_once_that_has_an_assignment_and_may_be_called_back(
    fleet: Fleet, device: Device
) -> None:
    agent = device.start()
    update(agent)
    fleet.repository.add_group("line-2")
    # Groups that are not there at all, and one that has nothing yet: news come as before.
    for nowhere in ("line-9", "line-2"):
        assert agent.state.good is not None
        base = {"bundle": agent.state.good.id, "release": agent.state.good.release}
        fleet.assign(base=base, moved={"cam-17": nowhere})
        agent.look()
        assert agent.state.group == GROUP and not agent.problems
    second = fleet.bundle(2)
    fleet.publish(second, moved={"cam-17": "line-2"})
    assert update(agent)["model"]["release"] == second.manifest["release"]
    # Called back before it went, by the group that it never left.
    assert move_device(fleet.repository, "cam-17", "line-2", GROUP)
    fleet.repository.assign("line-2", {"base": second.named})
    agent.look()
    assert agent.state.group == GROUP
    move_device(fleet.repository, "cam-17", GROUP, "line-2")
    agent.look()
    assert agent.state.group == "line-2"
