"""What people decide: approve, reject, override, roll back, hold and release."""

import dagster as dg
import pytest
from desk import Desk, ways_back
from typer.testing import CliRunner

from resources.error_family import Unavailable
from resources.models.model_versions import Models
from visionops.cli.command_line import app
from visionops_assets.common import run_tags
from visionops_assets.common.errors import (
    OnHold,
    PromotionRefused,
    ReasonMissing,
    VerdictMissing,
    VerdictNotPassed,
)


def materialisations(desk: Desk, asset: str) -> list[dg.AssetMaterialization]:
    """Of an asset, newest first."""
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(["shapes", asset]))
    records = desk.world.instance.fetch_materializations(wanted, limit=20).records
    return [record.asset_materialization for record in records if record.asset_materialization is not None]


def test_a_change_by_hand_needs_somebody_who_makes_it_and_a_reason(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ("rollback", "hold", "release"):
        assert "--why" in CliRunner().invoke(app, [command, "shapes"]).stderr
        with pytest.raises(ReasonMissing, match="--why"):
            desk.run(command, "shapes", "--why", " ")
    monkeypatch.delenv("VISIONOPS_ACTOR")
    for command in ("approve", "reject", "rollback", "hold", "release"):
        with pytest.raises(ReasonMissing, match="set VISIONOPS_ACTOR"):
            desk.run(command, "shapes", "--why", "because")


@pytest.mark.slow
def test_a_pass_goes_to_production_when_a_person_approves_it_and_no_hold_is_on(desk: Desk) -> None:
    desk.use(approval="manual")
    assert "put on hold" in desk.run("hold", "shapes", "--why", "factory closed")
    assert "on hold already" in desk.run("hold", "shapes", "--why", "once more")
    desk.world.publish("week-01", 120, seed=1)
    first = desk.world.tick()
    assert first.outcome == "awaiting_approval"
    released = desk.json("release", "shapes", "--why", "open again")
    assert released["promoted"] is None
    assert "nobody approved what passed" in released["why_not"]
    desk.run("hold", "shapes", "--why", "closed again")
    with pytest.raises(OnHold, match="visionops release shapes"):
        desk.run("approve", "shapes")
    assert desk.world.champion() is None
    assert desk.json("release", "shapes", "--why", "open for good")["promoted"]["version"] == 1
    assert materialisations(desk, "champion")[0].partition == first.partition

    desk.world.publish("week-02", 120, seed=2)
    second = desk.world.tick()
    (waiting,) = desk.json("status", "shapes")["waiting"]
    assert "lens was dirty" in desk.run("reject", "shapes", "--why", "lens was dirty")
    assert desk.json("status", "shapes")["waiting"] == []
    assert desk.world.champion() == 1
    with pytest.raises(VerdictMissing, match="no PASS of shapes waits"):
        desk.run("approve", "shapes")

    promoted = desk.json("approve", "shapes", waiting[:12], "--why", "it was the other lens")

    assert (promoted["version"], promoted["replaced"], promoted["by"]) == (2, 1, "ada@example.com")
    champion, running = (materialisations(desk, asset)[0] for asset in ("champion", "in_production"))
    assert (champion.partition, champion.metadata["by"].value) == (second.partition, "ada@example.com")
    assert running.metadata["version"].value == desk.world.champion() == 2
    assert "Model card: shapes version 2" in str(champion.metadata["model_card"].value)
    run = desk.world.instance.get_run_by_id(promoted["run_id"])
    assert run is not None and run.tags[run_tags.OUTCOME] == run_tags.PROMOTED
    assert desk.world.tick().run_id is None, "nothing is left to do"


@pytest.mark.slow
def test_an_override_is_marked_and_a_rollback_undoes_it_whatever_is_red_or_broken(
    desk_of_promoted: Desk,
) -> None:
    desk = desk_of_promoted
    desk.world.publish("week-02", 90, seed=2, wrong=0.9)
    assert desk.world.tick().outcome == "refused"
    refused = desk.json("status", "shapes")["verdicts"][-1]["identity"]
    with pytest.raises(VerdictNotPassed, match="only PASS is approved"):
        desk.run("approve", "shapes", refused)
    with pytest.raises(
        PromotionRefused, match=r"^name the device group with --group: .*visionops override shapes"
    ):
        desk.run("promote", "shapes", "--why", "the labels changed their meaning")

    text = desk.run("override", "shapes", "--why", "the labels changed their meaning")

    assert "version 2" in text and "FAIL" in text
    found = desk.json("status", "shapes")
    assert (found["history"][-1]["kind"], found["history"][-1]["to"]) == ("override", 2)
    assert found["verdicts"][-1]["outcome"] == "FAIL"
    assert "against its verdict" in str(materialisations(desk, "champion")[0].metadata["how"].value)

    # beats_champion is red, and now no project file can be read either.
    (desk.world.root / "projects" / "shapes.yaml").write_text("project: [broken")
    with pytest.raises(Unavailable, match=r"(?s)version 1 of shapes is champion again.*--model-version 1"):
        desk.run("rollback", "shapes", "--why", "misses scratches")
    assert desk.world.champion() == 1
    desk.save()
    assert "was so already" in desk.run(
        "rollback", "shapes", "--model-version", "1", "--why", "misses scratches"
    )
    assert materialisations(desk, "in_production")[0].metadata["version"].value == 1
    assert desk.json("status", "shapes")["ready"] is None, "the version that was left does not come back"
    again = ("override", "shapes", refused, "--why", "the labels changed their meaning")
    with pytest.raises(OnHold, match="visionops release shapes --why TEXT` lifts it and promotes"):
        desk.run(*again)
    assert desk.json("release", "shapes", "--why", "as told")["promoted"]["version"] == 2
    desk.run("rollback", "shapes", "--why", "misses scratches")

    desk.world.lakefs.revert("shapes", "main", desk.world.lakefs.head("shapes").id, 1)
    desk.world.publish("week-03", 90, seed=4)
    ticked = desk.world.tick()
    assert ticked.outcome == "awaiting_approval", ticked.reason
    assert desk.world.champion() == 1
    assert "ON HOLD" in desk.run("status", "shapes")

    released = desk.json("release", "shapes", "--why", "the camera was cleaned")

    assert released["promoted"]["partition"] == ticked.partition
    assert desk.world.champion() == 3
    history = materialisations(desk, "champion")[0].metadata["history"]
    assert isinstance(history, dg.TableMetadataValue)
    assert [record.data["version"] for record in history.records] == ["3", "1", "2", "1", "2", "1"]
    assert desk.json("release", "shapes", "--why", "again")["promoted"] is None


class Killed(BaseException):
    """A process that ends here."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        *(pytest.param(each, marks=pytest.mark.stated) for each in ("approve", "override", "rollback")),
        "nothing",
    ],
)
def test_a_change_that_did_not_complete_is_said_once_with_the_command_that_does_it(
    desk_of_promoted: Desk, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_of_promoted
    desk.use(approval="auto" if change in ("rollback", "nothing") else "manual")
    desk.world.publish("week-02", 90, seed=2)
    desk.run("tick", "shapes", "--quiet")
    line = {
        "approve": ("approve", "shapes"),
        "override": ("override", "shapes", "--why", "glare"),
        "rollback": ("rollback", "shapes", "--why", "glare"),
        "nothing": ("rollback", "shapes", "--model-version", "none", "--why", "glare"),
    }[change]

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises((Killed, PromotionRefused)):
        patched.setattr(Models, "set_alias", die)
        patched.setattr(Models, "delete_alias", die)
        desk.run(*line)
    (wrong,) = desk.json("status", "shapes")["wrong"]
    told = desk.run("status", "shapes")
    assert wrong in told and told.count("omplete") == 1, told
    (command,) = ways_back(wrong)
    desk.run(*command)
    assert desk.json("status", "shapes")["wrong"] == []
