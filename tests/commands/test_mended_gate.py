"""A verdict belongs to challenger, champion, holdout and rules: other rules ask anew, at the level that is left."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from desk import Desk

from tests.operations_table import require_told
from tests.world import write_batch
from visionops_assets.dataset.batch_publishing import Publisher
from visionops_assets.evaluation.verdict_store import read_ledger

FLOORS = {"overall": 0.4, "batch": 0.4, "min_samples": 10}
OUT_OF_REACH = {**FLOORS, "overall": 0.999999, "batch": 0.999999}


def outcomes(desk: Desk) -> list[tuple[str, int]]:
    return [(each["outcome"], each["k"]) for each in desk.json("status", "shapes")["verdicts"]]


def tick(desk: Desk) -> list[dict[str, Any]]:
    return list(desk.json("tick", "shapes", "--quiet"))


def places(desk: Desk) -> int:
    return len(read_ledger(desk.world.registry.models.get("shapes").tags))


@pytest.mark.slow
def test_a_mended_floor_asks_again_and_gives_nothing_back(desk_after: Callable[..., Desk]) -> None:
    desk = desk_after("refused", 0.15, floors=OUT_OF_REACH)
    first = desk.world.partitions()[-1]
    assert tick(desk)[0]["reason"].endswith("is decided: refused")
    asked, level = places(desk), desk.json("status", "shapes")["level_left"]

    desk.use(floors=FLOORS)

    require_told("a floor, tolerance or another rule of the gate", desk.run("status", "shapes"))
    (again,) = tick(desk)
    assert (again["outcome"], again["partition"]) == ("promoted", first), again["reason"]
    assert outcomes(desk)[1:] == [("FAIL", 1), ("PASS", 1)], "the same claim keeps its place"
    assert places(desk) == asked
    assert tick(desk)[0]["run_id"] is None, "and is asked once"
    told = " ".join(desk.run("why", "shapes").split())
    assert "floors.overall 0.999999, now 0.4" in told and "the same" in told
    assert desk.json("status", "shapes")["level_left"] >= level, "a new champion begins anew"


@pytest.mark.stated
def test_rules_that_go_to_and_fro_are_asked_once_each_and_another_claim_takes_a_place_of_its_own(
    desk_of_promoted: Desk,
) -> None:
    desk = desk_of_promoted
    high, higher = ({**FLOORS, "overall": floor, "batch": floor} for floor in (0.99999, 0.999999))
    desk.use(floors=high)
    desk.world.publish("week-02", 90, seed=2, wrong=0.15)
    runs = []
    for floors in (high, higher, high, higher):
        desk.use(floors=floors)
        runs += [found["run_id"] for found in tick(desk) if found["run_id"]]
    assert len(runs) == 2, "what was decided under these rules is decided"
    assert outcomes(desk)[1:] == [("FAIL", 1), ("FAIL", 1)]
    before = desk.json("status", "shapes")["level_left"]
    desk.use(floors=higher, bootstrap={"draws": 1000, "seed": 7})
    assert tick(desk)[0]["outcome"] == "refused"
    assert outcomes(desk)[-1] == ("FAIL", 2), "draws until one fits are paid for"
    assert desk.json("status", "shapes")["level_left"] < before


@pytest.mark.stated
def test_a_week_that_was_seen_on_too_small_a_holdout_took_a_place(desk_of_promoted: Desk) -> None:
    """Who is asked when it has grown may have been chosen by what was seen."""
    desk = desk_of_promoted
    first = places(desk)
    desk.use(min_holdout=1000)
    desk.world.publish("week-02", 90, seed=2)
    (small,) = tick(desk)
    assert small["outcome"] == "insufficient" and "the gate asks for at least 1000" in small["reason"]
    assert desk.json("status", "shapes")["level_left"] < 0.025 and places(desk) == first + 1


@pytest.mark.stated
def test_the_same_model_asked_on_a_holdout_that_grew_takes_another_place(
    desk_after: Callable[..., Desk],
) -> None:
    desk = desk_after("refused", 0.15, floors=OUT_OF_REACH)
    first = desk.world.partitions()[-1]
    more = write_batch(desk.world.root / "more", 30, 3) / "labels.csv"
    head, *rows = more.read_text().splitlines()
    more.write_text("\n".join([f"{head},split", *(f"{row},holdout" for row in rows)]))
    Publisher(desk.world.project, desk.world.lakefs, desk.world.artifacts).publish(more.parent, "week-03")
    (again,) = tick(desk)
    assert again["outcome"] == "refused" and again["partition"] != first
    asked = read_ledger(desk.world.registry.models.get("shapes").tags)[-2:]
    assert asked[0].challenger_sha256 == asked[1].challenger_sha256, "no image to train on came"
    assert outcomes(desk)[1:] == [("FAIL", 1), ("FAIL", 2)]


@pytest.mark.slow
def test_what_an_earlier_release_decided_is_not_asked_again(desk_after: Callable[..., Desk]) -> None:
    """It wrote neither rules beside the address nor a tag on the run; the verdict's own digest says which they were."""
    desk = desk_after("refused", 0.15, floors=OUT_OF_REACH)
    first = desk.world.partitions()[-1]
    file = desk.world.root / "artifacts" / "decisions" / "shapes" / f"{first}.json"
    address = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in address.items() if name != "rules"}))
    (quiet,) = tick(desk)
    assert quiet["run_id"] is None and "is decided: refused" in quiet["reason"]
    desk.use(floors=FLOORS)
    assert tick(desk)[0]["outcome"] == "promoted"


@pytest.mark.stated
def test_a_pass_that_waited_for_approval_is_promoted_when_nobody_has_to_approve(
    desk_after: Callable[..., Desk],
) -> None:
    desk = desk_after("awaiting_approval", approval="manual")
    waits = desk.world.partitions()[-1]
    assert tick(desk)[0]["run_id"] is None
    asked, verdicts = places(desk), outcomes(desk)

    desk.use(approval="auto")

    require_told("`approval` is changed from `manual` to `auto`", desk.run("status", "shapes"))
    (found,) = tick(desk)
    assert (found["outcome"], found["partition"]) == ("promoted", waits), found["reason"]
    assert (places(desk), outcomes(desk)) == (asked, verdicts), "nothing was judged or spent"
    assert desk.world.champion() == 2 and tick(desk)[0]["run_id"] is None


@pytest.mark.stated
def test_a_pass_of_an_older_week_is_not_promoted_by_itself_and_what_to_type_is_said(
    desk_after: Callable[..., Desk],
) -> None:
    desk = desk_after("awaiting_approval", approval="manual")
    (waiting,) = desk.json("status", "shapes")["waiting"]
    desk.world.publish("week-03", 90, seed=3, wrong=0.9)
    assert tick(desk)[0]["outcome"] == "refused"
    desk.use(approval="auto")
    command = f"visionops approve shapes {waiting[:12]}"
    (found,) = tick(desk)
    assert found["run_id"] is None and f"`{command}` promotes it" in found["reason"]
    assert f"`{command}` promotes it" in " ".join(desk.run("status", "shapes").split())
    assert desk.world.champion() == 1
    desk.run(*command.split()[1:])
    assert desk.world.champion() == 2


@pytest.mark.slow
def test_what_a_person_rejected_is_not_asked_again_by_other_rules(desk_after: Callable[..., Desk]) -> None:
    desk = desk_after("awaiting_approval", approval="manual")
    desk.run("reject", "shapes", "--why", "the lens was dirty")
    desk.use(approval="auto", floors={**FLOORS, "overall": 0.45})
    assert tick(desk)[0]["run_id"] is None and desk.world.champion() == 1


@pytest.mark.slow
def test_what_is_or_was_in_production_is_not_asked_again_by_other_rules(desk_of_two: Desk) -> None:
    """Else what a rollback found bad would come back with the release of its hold."""
    desk = desk_of_two
    desk.use(floors={**FLOORS, "overall": 0.45})
    assert tick(desk)[0]["run_id"] is None
    desk.run("rollback", "shapes", "--why", "scratches")
    desk.use(floors={**FLOORS, "overall": 0.46})
    assert tick(desk)[0]["run_id"] is None
    desk.run("release", "shapes", "--why", "cleaned")
    assert tick(desk)[0]["run_id"] is None and desk.world.champion() == 1
