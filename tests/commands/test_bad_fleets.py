"""What people and devices get wrong about groups and reports: one clear line with the fix, and the rest goes on."""

import gzip
import os
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from desk import Desk, ways_back
from test_delivery_follows import assigned, declare, outcomes, ticked
from test_device_reports import photograph
from test_fleet import fails
from typer.testing import CliRunner

from edge.agent import Surroundings
from edge.device import Device
from edge.runner import OpenedHere
from edge.selftest import examine
from edge.settings import Settings
from resources import home
from tests.operations_table import require_told

pytestmark = pytest.mark.slow


def printed(*arguments: str) -> str:
    """All that a command prints, on either channel."""
    from visionops.cli.command_line import app

    sys.modules.pop("definitions", None)
    return CliRunner().invoke(app, list(arguments)).output


def joined(said: str) -> str:
    return " ".join(said.split())


def test_groups_without_keys_devices_or_a_version_that_passed(desk_of_two: Desk) -> None:
    desk, why = desk_of_two, ("--why", "a typing error")
    declare(desk, {"line-1": {}, "line-2": {}})
    said = printed("tick", "shapes")
    (line,) = [each for each in said.splitlines() if "delivery repository" in each]
    assert line.startswith("shapes: error: ") and "`visionops fleet keys init shapes`" in line
    require_told("device groups are declared and nobody made keys", line)
    assert "is decided: promoted" in said, "the rest goes on"
    assert "`visionops fleet keys init PROJECT`" in printed("fleet", "refresh")
    desk.run("fleet", "keys", "init", "shapes")

    # A group that no device is in gets its assignment, and is told.
    assert outcomes(ticked(desk)) == ["delivered"]
    said = joined(desk.run("fleet", "status", "shapes"))
    assert "no device is in line-1, line-2: `visionops fleet provision shapes --group line-1" in said
    require_told("no device is in a group", said)
    said = desk.run("promote", "shapes", "--group", "line-9", *why)
    assert "`delivery.groups` of shapes does not name line-9" in said
    (back,) = ways_back(said)
    desk.run(*back[:-1], "a typing error")

    # Nothing but what was judged reaches devices.
    registry = desk.world.registry
    run = registry.models.version("shapes", 2).run_id
    registry.models.create_version("shapes", run, registry.runs.get(run).tags)
    for words in (
        ("fleet", "publish", "shapes", "--group", "line-7"),
        ("promote", "shapes", "--group", "line-1", *why),
    ):
        said = fails(desk, *words, "--model-version", "3")
        assert "version 3 of shapes was never in production" in said and "there are: 1, 2" in said.lower()
    assert "line-7" not in {row["group"] for row in desk.json("fleet", "status", "shapes")["groups"]}

    # A group that is held takes nothing new, and another one does.
    desk.run("rollback", "shapes", "--group", "line-1", "--model-version", "1", *why)
    said = fails(desk, "promote", "shapes", "--group", "line-1", *why)
    assert "line-1 of shapes is on hold" in said and "`visionops release shapes --group line-1" in said
    again = ("promote", "shapes", "--group", "line-1", "--model-version", "2", *why)
    assert "line-1 of shapes is on hold" in fails(desk, *again), "what it was rolled back from"
    ticked(desk)
    assert {group: found[0] for group, found in assigned(desk).items()} == {"line-1": 1, "line-2": 2}
    ways = ways_back(fails(desk, "fleet", "publish", "shapes", "--group", "line-1"))
    assert [each[0] for each in ways] == ["release", "rollback"], "nothing that is refused is suggested"

    registry.models.set_alias("shapes", "champion-line-2", 1)
    wrong = [each for each in printed("tick", "shapes").splitlines() if "champion-line-2" in each]
    assert len(wrong) == 1, "told once, not once a sensor"
    (command,) = ways_back(wrong[0])
    desk.run(*command[:-1], "as it was")
    assert outcomes(ticked(desk)) == [] and desk.json("status", "shapes")["wrong"] == []

    # What keeps several groups from their model is one thing, and is told once.
    declare(desk, {"line-3": {}, "line-4": {}})
    ticked(desk)
    registry.models.delete_alias("shapes", "champion")
    told = [each for each in printed("tick", "shapes").splitlines() if "was removed by hand" in each]
    assert len(told) == 1 and told[0].count("was removed by hand") == 1
    groups = desk.json("fleet", "status", "shapes", code=1)["wrong"]
    assert [each.partition(": ")[0] for each in groups] == ["line-3, line-4"]


def test_a_spool_full_of_strangers_files_and_a_report_of_a_future_day(
    desk_of_promoted: Desk, tmp_path: Path
) -> None:
    desk = desk_of_promoted
    desk.run("fleet", "keys", "init", "shapes")
    declare(desk, {"line-1": {"observe": 2}})
    desk.run("tick", "shapes")
    for name, ahead in (("cam-0", 0), ("cam-1", 2)):
        folder = tmp_path / name
        desk.run("fleet", "provision", "shapes", "--group", "line-1", "--device", name, "--to", str(folder))

        def clock(days: int = ahead) -> datetime:
            return datetime.now(UTC) + timedelta(days=days)

        around = Surroundings(clock, lambda: True, open_runner=OpenedHere, examine=examine)
        # Closed, not entered: nothing else looks meanwhile.
        with closing(Device(Settings.read(folder), around)) as device:
            device.agent.look()
            device.agent.settle()
            device.answer(photograph(1))
            device.agent.settle()
            device.agent.deliver()
    spool = Path(home.spool()) / "shapes"
    for name in ("holiday.jpg", "cam-0/notes.txt", "cam-0/core.17", "cam-0/old/x.parquet", ".on-its-way"):
        (spool / name).parent.mkdir(exist_ok=True)
        (spool / name).write_bytes(b"anything")
    (spool / "cam-7").mkdir()
    (spool / "cam-7" / "1.jsonl.gz").write_bytes(gzip.compress(b"{}\n"))
    (spool / "cam-0" / "7.jsonl.gz").write_bytes(b"anything")
    (spool / "cam-0" / "passwords.jsonl.gz").symlink_to("/etc/passwd")
    os.mkfifo(spool / "cam-0" / "pipe.jsonl.gz")

    found = desk.json("tick", "shapes")
    assert [each["outcome"] for each in found if each["outcome"]] == ["logged"]
    assert any("1 rows" in each["reason"] for each in found), "of cam-0, whose reports are its own"
    said = joined(desk.run("fleet", "status", "shapes"))
    assert "did not count: cam-7 is not enrolled" in said and "did not count: cam-0/7.jsonl.gz" in said
    assert "ahead of our clock; set the clock of cam-1" in said
    assert "is what nobody collects: cam-0/core.17, cam-0/notes.txt, cam-0/old and 3 more; delete it" in said
    require_told("the spool has files that nobody collects", said)
    assert outcomes(desk.json("tick", "shapes")) == [], "the same is taken once"
    states = {each["device"]: each["state"] for each in desk.json("fleet", "status", "shapes")["devices"]}
    assert states["cam-0"] != "never" and states["cam-1"] == "never"
