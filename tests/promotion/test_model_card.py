"""The model card of a version."""

import pytest
from promotion_world import PROJECT, hour, judged
from test_explain import EVIDENCE, World

from resources.models.records import MODEL_CARD_ARTIFACT, PROVENANCE_ARTIFACT
from visionops_assets.evaluation.approvals import override
from visionops_assets.evaluation.verdict import SliceRow, Suspect
from visionops_assets.promotion.model_card import About, keep_model_card, model_card, wilson
from visionops_assets.promotion.promote import promote
from visionops_assets.promotion.version_evidence import gather_evidence

ABOUT = About("Finds digits on forms.", "classification", ("team:vision",), "CC-BY-4.0")
SLICES = [
    SliceRow(column="class", value="0", rows=60, groups=50, challenger=0.96, champion=0.95, p_worse_holm=1.0),
    SliceRow(column="camera", value="left", rows=20, groups=9, challenger=0.7, floor=0.8, below_floor=True),
]


@pytest.fixture
def world() -> World:
    """Version 1, promoted on evidence with slices, an absent class and a batch in doubt."""
    world = World()
    run = world.train("one", {"week-1": ["0", "0", "1"]})
    doubt = Suspect(batch="week-1", rows=3, agreement=0.5, elsewhere=0.9)
    found = EVIDENCE.model_copy(update={"slices": SLICES, "absent_classes": ["7"], "suspects": [doubt]})
    verdict = judged(world, run, evidence=found)
    promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(1))
    return world


def test_it_tells_data_recipe_metrics_slices_limits_and_provenance(world: World) -> None:
    text = model_card(gather_evidence(world, PROJECT, 1), ABOUT).to_text()
    low, high = wilson(0.95, EVIDENCE.groups)
    assert "PASS: PASS" not in text
    for expected in (
        "Finds digits on forms.",
        "CC-BY-4.0",
        "lakefs://scans/",
        "120 in 100 groups, never trained on",
        "visionops_assets.training.models.SmallConvNet()",
        "5 epochs in batches of 64, seed 0",
        f"{100 * low:.1f}% to {100 * high:.1f}%",
        "+1.00 points to +5.00 points",
        "camera=left",
        "Not judged, because the holdout has no image of it: 7.",
        "Fewer than 30 groups, so only large errors would show: camera=left.",
        "Known to be poor on: camera=left.",
        "The labels of batch week-1 are in doubt",
        "f" * 40,
        "torch 2.13.0",
        "visionops reproduce digits --model-version 1",
    ):
        assert expected in text, expected


def test_an_override_and_a_missing_provenance_are_limits_it_tells(world: World) -> None:
    run = world.train("two", {"week-1": ["0", "1", "1"]})
    verdict = judged(world, run, "FAIL")
    override(world, PROJECT, verdict.identity, who="ada", when=hour(2), why="recall")
    promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(2))
    del world.files[run.id, PROVENANCE_ARTIFACT]
    text = model_card(gather_evidence(world, PROJECT, 2), About()).to_text()
    assert "Promoted against its verdict by ada: recall" in text
    assert "cannot be reproduced" in text and "not declared in the project file" in text
    assert "how good it is was not recorded" in text


def test_it_is_written_once(world: World) -> None:
    first = keep_model_card(world, PROJECT, 1, ABOUT)
    assert keep_model_card(world, PROJECT, 1, About("Something else.")) == first
    assert world.files[world.made[1].run_id, MODEL_CARD_ARTIFACT].decode() == first
    assert first.startswith("# Model card: digits version 1")


@pytest.mark.parametrize(("share", "groups"), [(0.0, 5), (1.0, 5), (0.957, 60), (0.004, 100)])
def test_the_interval_holds_a_share_that_is_no_whole_number_of_groups(share: float, groups: int) -> None:
    low, high = wilson(share, groups)
    assert 0 <= low <= share <= high <= 1


def test_there_is_no_interval_of_no_groups() -> None:
    with pytest.raises(ValueError, match="at least one trial"):
        wilson(1.0, 0)
