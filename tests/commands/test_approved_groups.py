"""What people decide of one device group on the command line: a PASS for it alone, and what it waits for."""

from collections.abc import Callable

import pytest
from desk import Desk, ways_back
from test_bad_fleets import joined
from test_delivery_follows import assigned, declare, outcomes, ticked, with_fleet
from test_fleet import fails

from tests.operations_table import require_told

pytestmark = pytest.mark.slow

WHY = ("--why", "it is tried there first")


def waits(desk: Desk) -> list[str]:
    """What `fleet status` says that groups wait for from people; `status` says the same."""
    found: list[str] = desk.json("fleet", "status", "shapes")["approvals"]
    assert set(found) <= set(desk.json("status", "shapes")["waits"])
    return found


def test_a_pass_is_approved_for_one_group_and_is_told(desk_after: Callable[..., Desk]) -> None:
    desk = desk_after("awaiting_approval", approval="manual")
    declare(desk, {"line-1": {}, "line-2": {}})
    (said,) = [each for each in desk.json("status", "shapes")["waits"] if "waits on line-1, line-2: " in each]
    alone, _ = ways_back(said)
    assert "version 2 promoted on line-1, replacing version 1" in desk.run(*alone, *WHY)
    assert desk.world.registry.models.get("shapes").aliases == {"champion": 1, "champion-line-1": 2}


@pytest.mark.stated
def test_a_pass_is_approved_for_one_group_and_waits_for_the_others(
    desk_after: Callable[..., Desk],
) -> None:
    desk = desk_after("awaiting_approval", approval="manual")
    with_fleet(desk, {"line-1": {}, "line-2": {}})
    (verdict,) = desk.json("status", "shapes")["waiting"]
    (said,) = waits(desk)
    require_told("a PASS waits for an answer, and devices follow", said)
    alone, on_all = ways_back(said)
    assert alone == ["approve", "shapes", verdict[:12], "--group", "line-1"] and on_all == alone[:-2]
    page = joined(desk.run("status", "shapes", "--group", "line-2"))
    assert f"`visionops approve shapes {verdict[:12]} --group line-2`" in page
    assert "did you mean line-1" in fails(desk, *alone[:-1], "lien-1")

    said = desk.run(*alone, *WHY)
    assert "version 2 promoted on line-1, replacing version 1" in said and "publishes it" in said
    assert outcomes(ticked(desk)) == ["delivered"]
    assert {group: found[0] for group, found in assigned(desk).items()} == {"line-1": 2, "line-2": 1}
    assert desk.world.champion() == 1 and desk.json("status", "shapes")["waiting"] == [verdict]
    (said,) = waits(desk)
    assert "waits on line-2: " in said

    # Left again, it comes back by nothing as long as that holds.
    desk.run("rollback", "shapes", "--group", "line-1", "--why", "misses scratches")
    for again in (("promote", "shapes", "--group", "line-1", "--model-version", "2"), alone):
        assert "line-1 of shapes is on hold" in fails(desk, *again, *WHY)

    # For all it is approved as ever, and the other group follows.
    assert desk.json(*on_all)["version"] == 2
    assert outcomes(ticked(desk)) == ["delivered"]
    assert {group: found[0] for group, found in assigned(desk).items()} == {"line-1": 1, "line-2": 2}
    assert waits(desk) == []
