"""What a project file may say of rollouts: each mistake is one line with the fix."""

from typing import Any

import pytest

from tests.world import shapes_project
from visionops_assets.config.device_group_rules import DeliveredGroup


def declared(rollout: dict[str, Any] | None, **group: Any) -> DeliveredGroup:
    groups = {"line-1": {**group, "rollout": rollout}}
    return shapes_project(delivery={"groups": groups}).delivery.groups["line-1"]


@pytest.mark.parametrize(
    ("rollout", "group", "said"),
    [
        ({"waves": [0.5, 0.1, 1]}, {}, "waves rise: 0.1 comes after 0.5 in 0.5, 0.1, 1; leave it out"),
        ({"waves": [0.5]}, {}, "the last wave is the whole group: end 0.5 with 1"),
        ({"waves": []}, {}, "above 0 and at most 1, not none; for example 0.01, 0.1, 1"),
        (
            {"block": "PT1M"},
            {},
            "rollout.block of 60 s is shorter than the 300 s between two reports of a device",
        ),
        ({"dwell": "PT10S"}, {"report_every": 30}, "rollout.dwell of 10 s is shorter than the 30 s"),
        ({"dwell": "PT6H", "max_duration": "PT6H"}, {}, "no longer than a wave lasts"),
    ],
)
def test_rules_that_no_rollout_could_go_by_are_named_with_the_fix(
    rollout: dict[str, Any], group: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        declared(rollout, **group)


def test_without_rules_nothing_of_an_assignment_changes() -> None:
    captures = shapes_project().production.captures
    said = declared(None).options(captures)
    assert said["report_every"] is None and said["block"] is None
    led = declared({"block": "PT10M"}, report_every=60).options(captures)
    assert (led["report_every"], led["block"]) == (60, 600)
