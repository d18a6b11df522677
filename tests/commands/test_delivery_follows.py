"""Device groups that a project file names are given what the aliases say, by whatever changes them."""

import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from desk import LENIENT, Desk, ways_back
from test_device_reports import opened, photograph

from resources import home
from resources.error_family import Invalid
from resources.storage import ArtifactStore
from tests.devices.agent_process import agent
from tests.devices.broken_disks import DyingStore, Killed
from tests.operations_table import require_told
from tests.world import shapes_project
from visionops import services
from visionops.cli import rollback as rollback_command
from visionops.edge_repository import repository_of
from visionops.services import UnknownGroup
from visionops_assets.common import run_tags
from visionops_assets.common.errors import NothingToRollBackTo, VerdictNotPassed
from visionops_assets.config.project import load_projects
from visionops_assets.delivery import signers
from visionops_assets.delivery.following import Shipping
from visionops_assets.delivery.repository import Repository
from visionops_assets.delivery.signers import Keys, load_keys
from visionops_assets.promotion.production_change import Attribution
from visionops_assets.promotion.rollback import rollback

pytestmark = pytest.mark.slow

Groups = dict[str, dict[str, Any]]


def declare(desk: Desk, groups: Groups) -> None:
    """Write the project file with these device groups."""
    gate = {**desk.world.project.gate.model_dump(mode="json"), **LENIENT}
    desk.world.projects = [shapes_project(gate=gate, delivery={"groups": groups})]
    desk.save()


def with_fleet(desk: Desk, groups: Groups) -> None:
    """Keys and declared groups, before anything was published."""
    desk.run("fleet", "keys", "init", "shapes")
    declare(desk, groups)


def ticked(desk: Desk, code: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = desk.json("tick", "shapes", code=code)
    return found


def outcomes(ticks: Sequence[dict[str, Any]]) -> list[str]:
    return [each["outcome"] for each in ticks if each["outcome"]]


def assigned(desk: Desk) -> dict[str, tuple[int, int, int]]:
    """By group the version, release and serial that it is assigned."""
    running = repository_of("shapes", Keys({})).running()
    return {
        group: (manifest["model"]["version"], manifest["release"], assignment["serial"])
        for group, (assignment, manifest) in running.items()
    }


def test_a_promotion_and_a_rollback_reach_every_group_with_the_next_tick(
    desk_of_promoted: Desk, tmp_path: Path
) -> None:
    desk = desk_of_promoted
    with_fleet(
        desk, {"line-1": {"observe": 1}, "line-2": {"observe": 3, "window": "22:00-05:00 Europe/Berlin"}}
    )
    first = ticked(desk)
    device = opened(desk, "cam-1", tmp_path / "cam-1")

    def answers_by() -> int:
        """The version that a device answers by after one more look."""
        device.agent.look()
        device.agent.settle()
        version: int = device.answer(photograph(1))["model"]["version"]
        return version

    assert answers_by() == 1
    assert outcomes(first) == ["delivered"]
    assert "line-1 gets version 1 (release 1)" in first[-1]["reason"]
    assert assigned(desk) == {"line-1": (1, 1, 1), "line-2": (1, 1, 1)}
    content = repository_of("shapes", Keys({})).assignment("line-2")
    assert content is not None
    assert content["observe"]["frames"] == 3 and content["window"]["zone"] == "Europe/Berlin"
    assert outcomes(ticked(desk)) == [], "nothing is published twice"
    told = desk.json("fleet", "status", "shapes")
    assert [(row["group"], row["version"], row["follows"]) for row in told["groups"]] == [
        ("line-1", 1, True),
        ("line-2", 1, True),
    ]

    desk.world.publish("week-02", 90, seed=2)
    assert outcomes(ticked(desk)) == ["promoted", "delivered"]
    assert {group: found[0] for group, found in assigned(desk).items()} == {"line-1": 2, "line-2": 2}
    assert answers_by() == 2

    desk.run("rollback", "shapes", "--why", "misses scratches")
    ticked(desk)
    assert assigned(desk) == {"line-1": (1, 1, 3), "line-2": (1, 1, 3)}, "what was signed is named again"
    assert answers_by() == 1, "one look later"
    device.close()
    shown = desk.world.latest("edge_bundle").metadata
    assert "line-1 gets version 1 (release 1)" in str(shown["said"].value)


def test_a_group_with_a_champion_of_its_own_does_not_follow_all(desk_of_two: Desk) -> None:
    desk = desk_of_two
    with_fleet(desk, {"line-1": {}, "line-2": {}, "line-3": {"follow": "own"}})
    ticked(desk)
    desk.run("rollback", "shapes", "--group", "line-1", "--model-version", "1", "--why", "its lamp is older")
    ticked(desk)
    assert {group: found[0] for group, found in assigned(desk).items()} == {"line-1": 1, "line-2": 2}
    shown = desk.world.latest("in_production").metadata
    assert (shown["group"].value, shown["version"].value) == ("all", 2), "not the group that changed last"
    assert "line-1" in str(shown["changed_last"].value)

    desk.run(
        "rollback",
        "shapes",
        "--group",
        "line-1",
        "--model-version",
        "none",
        "--why",
        "its lamp is as the others'",
    )
    ticked(desk)
    assert assigned(desk)["line-1"][0] == 2, "it follows all again"

    desk.run("rollback", "shapes", "--model-version", "none", "--why", "the parts have changed")
    assert outcomes(ticked(desk)) == [], "devices keep what they have"
    assert assigned(desk)["line-1"][0] == 2
    said = desk.run("fleet", "status", "shapes")
    assert "nothing is in production; devices keep version 2" in " ".join(said.split())


def test_a_rollback_of_all_takes_groups_along_that_follow_it(desk_of_two: Desk) -> None:
    desk = desk_of_two
    with_fleet(desk, {"line-1": {}, "line-2": {"follow": "own"}, "line-3": {}})
    ticked(desk)
    for group in ("line-1", "line-2"):
        said = desk.run("promote", "shapes", "--group", group, "--why", "it has a champion of its own")
        assert f"version 2 promoted on {group}" in said
    shown = desk.world.latest("in_production").metadata["groups"]
    assert isinstance(shown, dg.TableMetadataValue)
    rows = {str(row.data["group"]): (row.data["version"], row.data["how"]) for row in shown.records}
    assert rows == {
        "all": ("2", "promoted"),
        "line-1": ("2", "delivered"),
        "line-2": ("2", "delivered"),
        "line-3": ("2", "as all"),
    }
    with pytest.raises(VerdictNotPassed, match="version 7 of shapes was never in production"):
        desk.run("promote", "shapes", "--group", "line-1", "--model-version", "7", "--why", "a typing error")
    told = desk.json("rollback", "shapes", "--why", "misses scratches", "--only")
    assert "groups" not in told and desk.world.champion() == 1
    # The same again, as after a kill.
    told = desk.json("rollback", "shapes", "--model-version", "1", "--why", "misses scratches")
    assert {name: each["version"] for name, each in told["groups"].items()} == {"line-1": 1}
    ticked(desk)
    assert {group: found[0] for group, found in assigned(desk).items()} == {
        "line-1": 1,
        "line-2": 2,
        "line-3": 1,
    }


@pytest.mark.parametrize("only", [False, True])
def test_dagsters_job_takes_groups_along_as_the_command_does(desk_of_two: Desk, only: bool) -> None:
    desk = desk_of_two
    with_fleet(desk, {"line-1": {}})
    ticked(desk)
    desk.run("promote", "shapes", "--group", "line-1", "--why", "it has a champion of its own")
    import definitions

    config = {"why": "misses scratches", "actor": "ada", "only": only}
    with services.dagster() as instance:
        done = definitions.defs.resolve_job_def("shapes_rollback").execute_in_process(
            instance=instance, run_config={"ops": {"shapes_roll_back": {"config": config}}}
        )
    assert done.success
    aliases = desk.world.registry.models.get("shapes").aliases
    assert aliases == {"champion": 1, "champion-line-1": 2 if only else 1}


def test_an_alias_that_was_moved_by_hand_is_not_delivered(desk_of_two: Desk) -> None:
    desk = desk_of_two
    with_fleet(desk, {"line-1": {}, "line-2": {}})
    ticked(desk)
    before = assigned(desk)
    desk.world.registry.models.set_alias("shapes", "champion-line-1", 1)
    found = ticked(desk, code=1)
    assert any("line-1" in each["reason"] and "visionops rollback" in each["reason"] for each in found)
    assert assigned(desk) == before
    assert "champion-line-1" in desk.run("fleet", "status", "shapes", code=1)
    # The other group goes on.
    desk.run("rollback", "shapes", "--group", "line-2", "--model-version", "1", "--why", "its lamp is older")
    ticked(desk, code=1)
    assert (assigned(desk)["line-1"][0], assigned(desk)["line-2"][0]) == (2, 1)


def test_what_the_project_file_says_is_what_is_assigned(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    with_fleet(desk, {"line-1": {"max_kbps": 100, "poll_every": 60}})
    ticked(desk)
    declare(desk, {"line-1": {"poll_every": 60}})
    assert outcomes(ticked(desk)) == ["delivered"]
    content = repository_of("shapes", Keys({})).assignment("line-1")
    assert content is not None and "max_kbps" not in content and content["poll_every"] == 60
    assert assigned(desk)["line-1"] == (1, 1, 2), "settings take no signature of a bundle"
    # A budget is signed: another one is another release.
    declare(desk, {"line-1": {"poll_every": 60, "budget": {"cpu_ms": 50}}})
    ticked(desk)
    assert assigned(desk)["line-1"] == (1, 2, 3)
    assert outcomes(ticked(desk)) == []


def test_what_keeps_a_tick_from_delivering_is_named_with_the_way_on(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    declare(desk, {"line-1": {}})
    (found,) = [each for each in ticked(desk, code=1) if each["outcome"] == "error"]
    assert "visionops fleet keys init shapes" in found["reason"]
    (wrong,) = desk.json("status", "shapes")["wrong"]
    assert wrong == found["reason"]
    desk.run(*ways_back(wrong)[0])
    assert desk.json("status", "shapes")["wrong"] == []
    assert outcomes(ticked(desk)) == ["delivered"]


def test_the_first_device_of_the_page_answers_as_its_commands_are_typed(
    desk_of_promoted: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_of_promoted
    page = (home.ROOT / "docs" / "delivery.md").read_text()
    (demo,) = [each for each in load_projects(home.ROOT / "projects") if each.project == "digits"]
    assert "line-1" in demo.delivery.groups
    published = set(re.findall(r"fleet publish digits --group (\S+)", page))
    assert published and not published & set(demo.delivery.groups), "of which publish is refused"
    with_fleet(desk, {group: {} for group in demo.delivery.groups})
    ticked(desk)
    first = page.split("## A first device in ten minutes")[1].split("\n## ")[0]
    monkeypatch.chdir(tmp_path)
    for line in re.findall(r"^\.venv/bin/visionops (.+)$", first, re.MULTILINE):
        desk.run(*shlex.split(line.replace("digits", "shapes"), comments=True))
    devices = [shlex.split(each)[0] for each in re.findall(r"--to (\S+)$", first, re.MULTILINE)]
    assert len(devices) == 2
    for device in devices:
        assert "release 1" in agent("once", tmp_path / device)


def test_what_is_suggested_for_a_group_that_follows_is_what_works(desk_of_two: Desk) -> None:
    desk = desk_of_two
    with_fleet(desk, {"line-1": {}, "line-2": {"follow": "own"}})
    ticked(desk)
    promote = ["promote", "shapes", "--group", "line-1", "--model-version", "1", "--why", "TEXT"]
    back_all = ["rollback", "shapes", "--why", "TEXT"]
    leave = ["rollback", "shapes", "--group", "line-1", "--model-version", "none", "--why", "TEXT"]

    def refused(*words: str) -> tuple[str, list[list[str]]]:
        with pytest.raises((Invalid, NothingToRollBackTo)) as told:
            desk.run(*words)
        return str(told.value), ways_back(str(told.value))

    publish, rolled_back = ("fleet", "publish", "shapes", "--group"), ("rollback", "shapes", "--why", "x")
    said, ways = refused(*publish, "line-1")
    assert "nothing needs publishing: line-1 is assigned version 2 (release 1, serial 1)" in said
    assert ways == [promote, back_all] and "brings all back to version 1" in said
    said, ways = refused(*rolled_back, "--group", "line-1")
    assert (
        "line-1 of shapes has no champion of its own to roll back: it follows all, which runs version 2"
        in said
    )
    assert ways == [promote, back_all]
    said, ways = refused(*rolled_back, "--group", "line-2")
    assert "follows" not in said and [each[:4] for each in ways] == [
        ["promote", "shapes", "--group", "line-2"]
    ]

    desk.run(*promote)
    said, ways = refused(*publish, "line-1")
    assert "line-1 is to get version 1, is assigned version 2; `visionops tick shapes` publishes it" in said
    assert ways == [["tick", "shapes"], ["2" if each == "1" else each for each in promote], leave]
    desk.run(*leave)
    desk.run(*back_all)
    said, ways = refused(*publish, "line-1")
    assert back_all not in ways, "version 1 replaced no other"


def test_what_is_old_is_signed_anew_and_only_once(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    with_fleet(desk, {"line-1": {}})
    ticked(desk)
    five_days_ago = datetime.now(UTC) - timedelta(days=5)
    old = Repository(ArtifactStore(root=home.edge()), "shapes", load_keys(), lambda: five_days_ago)
    old.refresh(least=2.0)
    assert repository_of("shapes").read().expiries()["timestamp"] < datetime.now(UTC) + timedelta(days=3)
    assert outcomes(ticked(desk)) == ["delivered"]
    assert repository_of("shapes").read().expiries()["timestamp"] > datetime.now(UTC) + timedelta(days=6)
    assert outcomes(ticked(desk)) == []


def approver_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Callable[[], None]]:
    """Keys of which the approver's is here at first; its address, and what takes its private half away."""
    for role in signers.ROLES:
        signers.write_key(folder / f"{role}.pem")
    keys = {role: [f"file2:{folder / role}.pem"] for role in signers.ROLES}
    declared = folder / "keys.yaml"
    declared.write_text(yaml.safe_dump(keys))
    monkeypatch.setenv("VISIONOPS_EDGE_KEYS", str(declared))
    address = keys["bundles"][0]

    def take_away() -> None:
        public = load_pem_private_key((folder / "bundles.pem").read_bytes(), None).public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / "alice.pub").write_bytes(pem)
        declared.write_text(yaml.safe_dump({**keys, "bundles": [{"public": "alice.pub"}]}))

    return address, take_away


@pytest.mark.stated
def test_only_the_newest_waits_for_approvers_and_a_rollback_waits_for_nobody(
    desk_of_promoted: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_of_promoted
    address, take_away = approver_elsewhere(tmp_path, monkeypatch)
    with_fleet(desk, {"line-1": {}})
    ticked(desk)
    assert assigned(desk)["line-1"][0] == 1
    take_away()

    desk.world.publish("week-02", 90, seed=2)
    found = ticked(desk)
    assert outcomes(found) == ["promoted", "delivered"]
    assert "line-1 waits for approvers (signed by 0 of 1 approvers)" in found[-1]["reason"]
    assert outcomes(ticked(desk)) == [], "it is not asked for again and again"
    assert "signed by 0 of 1" in desk.run("fleet", "status", "shapes")
    assert assigned(desk)["line-1"][0] == 1

    desk.world.publish("week-03", 90, seed=3)
    assert outcomes(ticked(desk)) == ["promoted", "delivered"]
    desk.run("rollout", "sign", "shapes", "--key", address, "--yes")
    assert outcomes(ticked(desk)) == ["delivered"]
    assert assigned(desk)["line-1"][0] == 3, "version 2 was let go"

    desk.run("rollback", "shapes", "--model-version", "1", "--why", "misses scratches")
    assert outcomes(ticked(desk)) == ["delivered"]
    assert assigned(desk)["line-1"][0] == 1


@pytest.mark.stated
def test_groups_of_different_budgets_go_back_without_an_approver(
    desk_of_promoted: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each release of each budget was signed once; a budget that is not said is not another group's."""
    desk = desk_of_promoted
    _, take_away = approver_elsewhere(tmp_path, monkeypatch)
    budgets: Groups = {
        "line-1": {"budget": {"cpu_ms": 900}},
        "line-2": {"budget": {"cpu_ms": 40}},
        "line-3": {},
    }
    with_fleet(desk, budgets)
    ticked(desk)
    running = repository_of("shapes", Keys({})).running()
    assert [running[group][1]["budget"] for group in budgets] == [{"cpu_ms": 900}, {"cpu_ms": 40}, {}]
    first = {group: each[:2] for group, each in assigned(desk).items()}
    desk.world.publish("week-02", 90, seed=2)
    ticked(desk)
    take_away()
    desk.run("rollback", "shapes", "--why", "misses scratches")
    assert outcomes(ticked(desk)) == ["delivered"]
    assert {group: each[:2] for group, each in assigned(desk).items()} == first


def test_what_was_cancelled_or_failed_before_keeps_no_later_rollback_from_devices(
    desk_of_promoted: Desk,
) -> None:
    desk = desk_of_promoted
    with_fleet(desk, {"line-1": {}})
    ticked(desk)
    with services.dagster() as instance:
        (run,) = instance.get_runs(dg.RunsFilter(job_name="shapes_deliver"))
        for status in (dg.DagsterRunStatus.CANCELED, *[dg.DagsterRunStatus.FAILURE] * 3):
            tags = {**run.tags, run_tags.OUTCOME: run_tags.ERROR}
            earlier = dg.DagsterRun(job_name=run.job_name, run_id=str(uuid4()), status=status, tags=tags)
            instance.add_run(earlier)
    assert desk.json("status", "shapes")["wrong"] == [], "it is not due now"
    desk.world.publish("week-02", 90, seed=2)
    assert outcomes(ticked(desk)) == ["promoted", "delivered"]
    desk.run("rollback", "shapes", "--why", "misses scratches")
    assert outcomes(ticked(desk)) == ["delivered"]
    assert assigned(desk)["line-1"][0] == 1


@pytest.mark.stated
def test_one_group_that_cannot_be_given_its_model_stops_nothing_else(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    with_fleet(desk, {"line-1": {"budget": {"cpu_ms": 100}}, "line-2": {}})
    ticked(desk)
    desk.world.publish("week-02", 90, seed=2)
    ticked(desk)
    first = assigned(desk)
    declare(desk, {"line-1": {"budget": {"cpu_ms": 200}}, "line-2": {}})
    for file in desk.world.root.rglob("*.onnx"):
        file.rename(file.with_suffix(".gone"))
    for number in range(3):
        assert any("line-1: " in each["reason"] and each["run_id"] for each in ticked(desk, code=1))
        (told,) = [each for each in desk.json("status", "shapes")["wrong"] if "delivery to line-1" in each]
        assert ("is tried again by the next tick" in told) == (number < 2)
    assert any("line-1 failed 3 times" in each["reason"] for each in ticked(desk, code=1))
    require_told("what a device group should run could not be published", f"wrong: {told}")
    (command,) = ways_back(told)
    assert command == ["tick", "shapes", "--again"]
    # It is given up, and the other one's rollback and what ages are not.
    desk.run("rollback", "shapes", "--group", "line-2", "--model-version", "1", "--why", "its lamp is older")
    six_days_ago = datetime.now(UTC) - timedelta(days=6)
    Repository(ArtifactStore(root=home.edge()), "shapes", load_keys(), lambda: six_days_ago).refresh(
        least=2.0
    )
    found = ticked(desk, code=1)
    assert {group: each[0] for group, each in assigned(desk).items()} == {"line-1": 2, "line-2": 1}, found
    for file in desk.world.root.rglob("*.gone"):
        file.rename(file.with_suffix(".onnx"))
    desk.run(*command)
    assert desk.json("status", "shapes")["wrong"] == [] and outcomes(ticked(desk)) == []
    assert assigned(desk)["line-1"][1] != first["line-1"][1], "its new budget is a new release"
    assert repository_of("shapes").read().expiries()["timestamp"] > datetime.now(UTC) + timedelta(days=6)


def test_a_version_that_is_being_rolled_back_is_not_delivered(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    with_fleet(desk, {"line-1": {}})
    ticked(desk)
    declare(desk, {})
    desk.world.publish("week-02", 90, seed=2)
    ticked(desk)
    declare(desk, {"line-1": {}})

    def killed(step: str) -> None:
        if step == "recorded":
            raise Killed

    with pytest.raises(Killed):
        rollback(
            desk.world.registry,
            project="shapes",
            by=Attribution("ada", datetime.now(UTC), "misses scratches"),
            on_step=killed,
        )
    assert desk.world.champion() == 2
    found = ticked(desk, code=1)
    assert any("visionops rollback shapes --model-version 1" in each["reason"] for each in found)
    assert assigned(desk)["line-1"][0] == 1


def test_a_group_leaves_what_it_was_given_and_a_repeated_rollback_leaves_a_group(
    desk_of_two: Desk,
) -> None:
    desk = desk_of_two
    with_fleet(desk, {"line-1": {}, "line-2": {}})
    ticked(desk)
    newest = desk.world.champion()
    for group in ("line-1", "line-2"):
        desk.run("promote", "shapes", "--group", group, "--why", "it has a champion of its own")
    said = desk.run("rollback", "shapes", "--group", "line-1", "--why", "its lamp is older")
    assert "release shapes --group line-1" in said
    ticked(desk)
    assert assigned(desk)["line-1"][0] == 1 != newest, "what all ran before"
    with pytest.raises(UnknownGroup, match=r"lien-1.*line-1"):
        desk.run("promote", "shapes", "--group", "lien-1", "--why", "a typing error")

    desk.run("rollback", "shapes", "--model-version", "1", "--why", "misses scratches")
    desk.run("release", "shapes", "--group", "line-2", "--why", "it is another part")
    desk.run(
        "promote",
        "shapes",
        "--group",
        "line-2",
        "--model-version",
        str(newest),
        "--why",
        "it does well there",
    )
    desk.run("rollback", "shapes", "--model-version", "1", "--why", "misses scratches")
    ticked(desk)
    assert assigned(desk)["line-2"][0] == newest


def test_a_rollback_that_is_killed_and_typed_again_goes_back_once(
    desk_of_two: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_of_two
    with_fleet(desk, {"line-1": {}})
    ticked(desk)
    desk.world.publish("week-03", 90, seed=3)
    ticked(desk)
    desk.run("promote", "shapes", "--group", "line-1", "--why", "it has a champion of its own")

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(rollback_command, "_tell", killed)
        with pytest.raises(Killed):
            desk.run("rollback", "shapes", "--why", "misses scratches")
    desk.run("rollback", "shapes", "--why", "misses scratches")
    assert desk.world.champion() == 2
    ticked(desk)
    assert assigned(desk)["line-1"][0] == 2


def test_killed_before_any_write_the_next_tick_ends_in_the_same_state(
    desk_of_promoted: Desk, count: Callable[[int, int], int]
) -> None:
    desk = desk_of_promoted
    with_fleet(desk, {"line-1": {}, "line-2": {}})
    whole = standing = None
    for step in range(0, 40, count(4, 1)):
        shutil.rmtree(home.edge())
        desk.run("fleet", "keys", "init", "shapes")
        dying = Repository(DyingStore(root=home.edge(), left=step), "shapes", load_keys())
        shipping = Shipping(
            desk.world.project,
            desk.world.registry,
            desk.world.lakefs,
            desk.world.artifacts,
            desk.world.root / "samples",
        )
        try:
            for group in ("line-1", "line-2"):
                shipping.follow(dying, group)
            whole = step
        except Killed:
            pass
        ticked(desk)
        found = {group: each[:2] for group, each in assigned(desk).items()}
        standing = standing or found
        assert found == standing == {"line-1": (1, 1), "line-2": (1, 1)}
        if whole is not None:
            break
    assert whole is not None and whole >= 10
