"""The demo's devices: they take what is promoted, one is killed meanwhile, and a rollback reaches all of them."""

import json
from pathlib import Path

import psutil
import pytest
from desk import Desk
from test_delivery_follows import declare

from tests.devices.broken_disks import Killed
from visionops import services
from visionops.cli.demo import by_hand
from visionops.demo.demo_fleet import WHO, ByHand, DemoFleet, repository_made
from visionops.simulation.device_processes import processes
from visionops.simulation.provisioned_devices import folder_of
from visionops_assets.champions.history import production, read_history

QUICK = {"poll_every": 1, "observe": 3, "log_share": 0}


@pytest.mark.slow
def test_devices_take_what_is_promoted_through_a_kill_and_go_back_with_a_rollback(
    desk_of_promoted: Desk, tmp_path: Path
) -> None:
    desk, said, path = desk_of_promoted, list[str](), tmp_path / "demo-fleet.json"
    declare(desk, {"line-1": QUICK, "line-2": QUICK})
    project = services.project("shapes")
    repository_made(project)
    repository_made(project)
    desk.run("tick", "shapes")
    import definitions

    def fleet() -> DemoFleet:
        return DemoFleet(project, 2, path, said.append)

    with services.dagster() as instance, fleet() as devices:
        devices.takes("first")
        assert said[-1].startswith("  2 devices of line-1, line-2 run version 1 (")
        hand = by_hand(definitions.defs, instance, project)
        with devices.one_is_killed("killed", hand):
            desk.world.publish("week-02", 90, seed=2)
            desk.run("tick", "shapes")
        assert "line-2-sim-01 was killed while it" in said[-1] and "goes on" in said[-1]
        assert "all 2 devices run version 2 (" in said[-1]
        started = processes(folder_of("shapes"))
        assert {name: each["starts"] for name, each in started.items() if each["ended"]} == {
            "line-2-sim-01": 2
        }
        assert started["line-2-sim-01"]["ended"] == "signal 9"

        # Interrupted when the alias is set, the demo is taken up where it was.
        with pytest.raises(Killed):
            devices.rolled_back(ByHand(_killed, _killed, _killed, _killed))
    assert desk.world.champion() == 1
    assert not [each for each in started.values() if each["pid"] and psutil.pid_exists(each["pid"])]
    with services.dagster() as instance, fleet() as devices:
        devices.rolled_back(by_hand(definitions.defs, instance, project))
    assert "rolled back: all 2 devices run version 1 (" in said[-2]
    assert "promoted again by its verdict: all 2 devices run version 2 (" in said[-1]
    model = desk.world.registry.models.get("shapes")
    told = [(each.kind, each.to_version) for each in read_history(model.tags).entries]
    assert told[-4:] == [("promotion", 2), ("rollback", 1), ("release", 1), ("promotion", 2)]
    assert read_history(model.tags).entries[-3].who == WHO

    account, before = path.read_text(), len(said)
    assert [each["step"] for each in json.loads(account)["steps"]] == ["first", "killed", "rollback", "again"]
    with services.dagster() as instance, fleet() as devices:
        devices.takes("first")
        with devices.one_is_killed("killed", by_hand(definitions.defs, instance, project)):
            pass
        devices.rolled_back(by_hand(definitions.defs, instance, project))
    assert path.read_text() == account and len(said) == before, "a second demo adds nothing"
    assert desk.json("status", "shapes")["wrong"] == []


@pytest.mark.stated
def test_two_lines_complete_in_three_waves_and_slow_hardware_refuses_it_before_one_image(
    desk_of_promoted: Desk, tmp_path: Path
) -> None:
    desk, said, path = desk_of_promoted, list[str](), tmp_path / "demo-fleet.json"
    waves = {"waves": [0.3, 0.6, 1.0], "dwell": "PT2S", "max_duration": "PT1H"}
    line = {**QUICK, "report_every": 1, "rollout": waves}
    declare(desk, {"line-1": line, "line-2": line, "line-3": {**line, "budget": {"cpu_ms": 1.0}}})
    project = services.project("shapes")
    repository_made(project)
    desk.run("tick", "shapes")
    import definitions

    with services.dagster() as instance, DemoFleet(project, 9, path, said.append) as devices:
        devices.takes("first")
        hand = by_hand(definitions.defs, instance, project)
        with devices.one_is_killed("killed", hand):
            desk.world.publish("week-02", 90, seed=2)
            desk.run("tick", "shapes")
        model = desk.world.registry.models.get("shapes")
        lines = {name: production(model, name) for name in ("line-1", "line-2", "line-3")}
        assert {name: each.version for name, each in lines.items()} == {"line-1": 2, "line-2": 2, "line-3": 1}
        assert [name for name, each in lines.items() if each.on_hold] == ["line-3"]
        found = {each["group"]: each for each in desk.json("rollout", "status", "shapes")["rollouts"]}
        assert {name: (each["state"], len(each["waves"])) for name, each in found.items()} == {
            "line-1": ("complete", 3),
            "line-2": ("complete", 3),
            "line-3": ("FAIL", 3),
        }
        (failure,) = found["line-3"]["failures"]
        assert (failure["event"], failure["why"]) == ("refused", "slow")
        # The drill takes the lines along that run it, and brings them back at once.
        devices.rolled_back(hand)
    assert "devices of line-1, line-2 run version 2 and devices of line-3 run version 1" in said[-1]
    assert desk.json("status", "shapes")["wrong"] == []


def test_without_devices_nothing_of_it_happens(desk_of_promoted: Desk, tmp_path: Path) -> None:
    desk, said = desk_of_promoted, list[str]()
    declare(desk, {"line-1": QUICK})
    project = services.project("shapes")
    repository_made(project)
    import definitions

    with (
        services.dagster() as instance,
        DemoFleet(project, 0, tmp_path / "demo-fleet.json", said.append) as none,
    ):
        none.takes("first")
        with none.one_is_killed("killed", by_hand(definitions.defs, instance, project)):
            pass
        none.rolled_back(by_hand(definitions.defs, instance, project))
    assert said == [] and list(tmp_path.glob("demo-fleet*")) == []
    assert desk.world.champion() == 1 and not folder_of("shapes").exists()


def _killed(*_: object) -> None:
    raise Killed
