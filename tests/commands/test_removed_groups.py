"""A device group is removed once nobody needs it, by a command that is typed again after a kill."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from desk import Desk
from test_delivery_follows import assigned, declare, outcomes, ticked, with_fleet
from test_device_reports import opened, photograph
from test_fleet import fails

from edge.device import Device
from edge.trust import Distrusted
from resources import home
from resources.storage import ArtifactStore
from tests.devices.broken_disks import DyingStore, Killed
from tests.operations_table import require_told
from visionops import services
from visionops.edge_repository import repository_of
from visionops_assets.champions.history import production
from visionops_assets.delivery.removed_groups import remove_group
from visionops_assets.delivery.repository import Repository
from visionops_assets.delivery.signers import Keys, load_keys
from visionops_assets.promotion.production_change import Attribution

REMOVE = ("fleet", "remove-group", "shapes", "line-1", "--why", "the line was dismantled")


def looks(device: Device) -> None:
    device.agent.look()
    device.agent.settle()
    device.agent.deliver()


def groups_of_status(desk: Desk) -> list[str]:
    return [row["group"] for row in desk.json("fleet", "status", "shapes")["groups"]]


def test_a_group_that_nobody_needs_is_removed_and_counts_no_more(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    desk.run("fleet", "keys", "init", "shapes")
    for group in ("line-1", "bench"):
        desk.run("fleet", "publish", "shapes", "--group", group)
    assert "did you mean line-1?" in fails(desk, "fleet", "remove-group", "shapes", "lime-1", "--why", "x")
    declare(desk, {"line-1": {}})
    assert "is named in `delivery.groups`" in fails(desk, *REMOVE)
    declare(desk, {})
    said = desk.run(*REMOVE)
    assert "line-1 of shapes is removed: its assignment is gone, its history stays" in said
    assert groups_of_status(desk) == ["bench"]
    assert "is removed already" in desk.run(*REMOVE)


@pytest.mark.stated
def test_a_group_goes_once_its_devices_have_gone_and_may_come_back(desk_of_two: Desk, tmp_path: Path) -> None:
    desk = desk_of_two
    with_fleet(desk, {"line-1": {"observe": 1}, "line-2": {"observe": 1}})
    ticked(desk)
    desk.run("rollback", "shapes", "--group", "line-1", "--model-version", "1", "--why", "its lamp is older")
    ticked(desk)
    device = opened(desk, "cam-1", tmp_path / "cam-1")
    gone = opened(desk, "cam-2", tmp_path / "cam-2")
    for each in (device, gone):
        looks(each)
        each.answer(photograph(1))
        looks(each)
    ticked(desk)

    assert "is named in `delivery.groups`" in fails(desk, *REMOVE)
    declare(desk, {"line-2": {"observe": 1}})
    said = fails(desk, *REMOVE)
    assert (
        "devices are in line-1 of shapes: cam-1, cam-2" in said
        and "`visionops fleet move shapes cam-1" in said
    )
    require_told("a device group is wanted no more", said)
    desk.run("fleet", "move", "shapes", "cam-1", "--group", "line-2")
    desk.run("fleet", "revoke", "shapes", "cam-2", "--why", "scrapped")
    desk.run("fleet", "status", "shapes")
    assert "cam-1 of shapes was moved to line-2 and reported last from line-1" in fails(desk, *REMOVE)
    looks(device)
    looks(device)
    device.answer(photograph(2))
    looks(device)
    ticked(desk)
    assert "did you mean line-1?" in fails(desk, "fleet", "remove-group", "shapes", "lime-1", "--why", "x")

    serial = assigned(desk)["line-1"][2]

    told = desk.json(*REMOVE)
    assert told == {
        "project": "shapes",
        "group": "line-1",
        "assignment": True,
        "champion": True,
        "hold": True,
    }
    assert "is removed already" in desk.run(*REMOVE)
    assert groups_of_status(desk) == ["line-2"]
    assert desk.json("status", "shapes")["wrong"] == [] and outcomes(ticked(desk)) == []
    assert "assign-line-1" not in desk.run("fleet", "keys", "show", "shapes")
    shown = desk.world.latest("in_production").metadata["groups"]
    assert isinstance(shown, dg.TableMetadataValue)
    assert [row.data["group"] for row in shown.records] == ["all", "line-2"]
    history = production(desk.world.registry.models.get("shapes"), "line-1")
    assert history.version is None and history.held_by is None and history.intervals, "it is kept"
    # The repository is one that devices of both groups still believe, and whoever slept keeps its model.
    looks(device)
    assert device.answer(photograph(3))["model"]["version"] == 2 and not device.agent.problems
    with pytest.raises(Distrusted, match="nothing is assigned to group line-1"):
        looks(gone)
    assert gone.answer(photograph(3))["model"]["version"] == 1
    for role in ("assign", "timestamp"):
        desk.run("fleet", "keys", "rotate", role)
    ends = repository_of("shapes", Keys({})).read().expiries()
    assert "assign-line-2" in ends and "assign-line-1" not in ends

    declare(desk, {"line-1": {"observe": 1}, "line-2": {"observe": 1}})
    ticked(desk)
    assert assigned(desk)["line-1"][2] == serial + 1
    looks(gone)
    assert not gone.agent.problems, "its serial goes on where it was: no replay"
    for each in (device, gone):
        each.close()


@pytest.mark.stated
def test_killed_before_any_write_the_same_command_completes_it(desk_of_two: Desk) -> None:
    desk = desk_of_two
    with_fleet(desk, {"line-1": {}, "line-2": {}})
    project = services.project("shapes")
    left, whole = 0, 0
    while not whole:
        declare(desk, {"line-1": {}, "line-2": {}})
        desk.run("rollback", "shapes", "--group", "line-1", "--model-version", "1", "--why", f"number {left}")
        ticked(desk)
        declare(desk, {"line-2": {}})
        project = services.project("shapes")
        by = Attribution("ada@example.com", datetime.now(UTC), f"number {left}")
        repository = Repository(DyingStore(root=home.edge(), left=left), "shapes", load_keys())
        try:
            remove_group(
                project,
                "line-1",
                by,
                registry=services.registry(),
                artifacts=ArtifactStore(root=str(desk.world.root / "artifacts")),
                repository=repository,
            )
            whole += 1
        except Killed:
            assert "line-1" in groups_of_status(desk), "nothing is half gone"
            desk.json("fleet", "remove-group", "shapes", "line-1", "--why", f"number {left}")
        assert groups_of_status(desk) == ["line-2"]
        assert desk.json("status", "shapes")["wrong"] == []
        left += 1
    assert left >= 3
