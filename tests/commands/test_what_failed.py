"""A run that failed as often as it may, or that somebody cancelled, is named by `tick` and `status`."""

from contextlib import nullcontext
from datetime import UTC, datetime

import pytest
from dagster._core.test_utils import create_run_for_test
from desk import LENIENT, Desk, ways_back
from lakefs_sdk import BranchProtectionRule

from tests.operations_table import require_told
from tests.world import shapes_project, write_batch
from visionops import services
from visionops_assets.common import run_tags
from visionops_assets.monitoring.collection import collect
from visionops_assets.training import recording


@pytest.mark.slow
def test_a_version_that_failed_as_often_as_it_may_is_named_with_the_command(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = {**desk.world.project.gate.model_dump(mode="json"), **LENIENT}
    desk.world.projects = [shapes_project(gate=gate, trigger={"attempts": 2})]
    desk.save()
    desk.world.publish("week-01", 90, seed=1)

    def refused(*_: object) -> None:
        raise ValueError("the recipe cannot be trained")

    with monkeypatch.context() as patched:
        patched.setattr(recording, "load_samples", refused)
        for _ in range(2):
            assert "the recipe cannot be trained" in desk.run("tick", "shapes", code=1)
    told = desk.run("status", "shapes")
    require_told("a dataset version or a batch of the drop failed", told)
    ticked = desk.run("tick", "shapes", code=1)
    require_told("a dataset version or a batch of the drop failed", ticked.replace("error: ", "wrong: "))
    assert "`visionops tick shapes --again`" in told and "`visionops tick shapes --again`" in ticked
    assert "promoted" in desk.run("tick", "shapes", "--again")
    assert desk.json("status", "shapes")["wrong"] == []


@pytest.mark.stated
def test_rows_wait_where_nothing_may_be_written_to_what_production_logs(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    desk.world.projects = [shapes_project(production={"collect_every": 0.001, "look_every": 0})]
    desk.save()
    images = write_batch(desk.world.root / "seen", 2, seed=9)
    desk.run("predict", "shapes", str(images), "--log")
    assert "logged" in desk.run("tick", "shapes")

    def protect(*rules: BranchProtectionRule) -> None:
        desk.world.lakefs._connection.call(
            lambda client: client.repositories_api.set_branch_protection_rules(
                "shapes-production", list(rules)
            )
        )

    protect(BranchProtectionRule(pattern="main"))
    desk.run("predict", "shapes", str(images), "--log")
    said = desk.run("tick", "shapes", code=1)
    require_told("a branch that VisionOps writes to is protected in lakeFS", said)
    assert len(desk.world.services.spool.files("shapes")) == 1
    protect()
    assert "logged: 4 rows" in desk.run("tick", "shapes")

    lakefs, strange = desk.world.lakefs, f"project=shapes/dt={datetime.now(UTC):%Y-%m-%d}/strange.parquet"
    lakefs.write("shapes-production", "main", strange, b"garbage")
    lakefs.save("shapes-production", "main", "by another tool", {})
    said = desk.run("tick", "shapes", code=1)
    require_told("somebody committed a file to what production logs", said)
    assert strange in said
    lakefs.delete_many("shapes-production", "main", [strange])
    lakefs.save("shapes-production", "main", "mended", {})
    assert "logged: 4 rows" in desk.run(*ways_back(said)[0])


@pytest.mark.slow
def test_a_day_that_was_cancelled_by_hand_is_named_and_not_tried_by_itself(desk_of_promoted: Desk) -> None:
    desk = desk_of_promoted
    image = next(write_batch(desk.world.root / "seen", 1, seed=9).glob("*.png"))
    desk.run("predict", "shapes", str(image), "--log", "--device", "camera-1")
    now, lakefs = datetime.now(UTC), services.lakefs()
    collect(desk.world.project, lakefs=lakefs, spool=services.spool(), lock=nullcontext(), now=now)
    day = f"{now:%Y-%m-%d}"
    tags = {
        run_tags.PROJECT: "shapes",
        run_tags.DAY: day,
        run_tags.COMMIT: lakefs.head("shapes-production", "main").id,
        run_tags.ATTEMPT: "1",
    }
    with services.dagster() as instance:
        run = create_run_for_test(instance, job_name="shapes_days", tags=tags)
        instance.report_run_canceled(run)
    said = desk.run("tick", "shapes") + desk.run("status", "shapes")
    require_told("a production day's run was cancelled", said)
    assert f"run {run.run_id} on {day} was cancelled by hand" in " ".join(said.split())
    assert "logged" in desk.run("tick", "shapes", "--again")
    assert desk.json("status", "shapes")["wrong"] == []
