"""What may become champion, what may not, and what is recorded about it."""

from dataclasses import replace
from typing import Any

import pytest
from promotion_world import PROJECT, FakeRegistry, digest, hour, judged, trained

from resources.models.records import (
    ONNX_ARTIFACT,
    PROVENANCE_ARTIFACT,
    RUNNING,
    TAG_ONNX,
    TAG_PROVENANCE,
    TAG_WEIGHTS,
    WEIGHTS_ARTIFACT,
)
from visionops_assets.champions.history import production, read_history
from visionops_assets.champions.registered_model import Outcome
from visionops_assets.common.errors import (
    ApprovalNeeded,
    ChampionMoved,
    DigestMismatch,
    HistoryUnreadable,
    OnHold,
    ReasonMissing,
    Rejected,
    VerdictMissing,
    VerdictNotPassed,
)
from visionops_assets.evaluation.approvals import approve, override, reject
from visionops_assets.evaluation.verdict_store import LISTED, find, listed, verdict_path
from visionops_assets.promotion.production_change import STEPS, Attribution, Change
from visionops_assets.promotion.promote import Approval, promote
from visionops_assets.promotion.rollback import hold, release


@pytest.fixture
def world() -> FakeRegistry:
    return FakeRegistry()


def promoted(world: FakeRegistry, name: str, at: float = 0) -> Change:
    """Train, judge and promote one challenger."""
    verdict = judged(world, trained(world, name))
    return promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(at))


def state(world: FakeRegistry) -> tuple[object, object]:
    """All that a promotion can change."""
    return world.records.get(PROJECT), dict(world.made)


def test_first_challenger_becomes_champion_and_the_history_says_why(world: FakeRegistry) -> None:
    change = promoted(world, "one", at=1)
    model = world.models.get(PROJECT)
    assert change.changed and change.version == 1 and model.aliases == {"champion": 1}
    (entry,) = read_history(model.tags).entries
    assert (entry.kind, entry.from_version, entry.to_version, entry.who) == ("promotion", None, 1, "sensor")
    assert entry.verdict is not None and entry.when == hour(1) and "fiat" in entry.why
    assert world.made[1].tags["visionops.production.replaced"] == ""
    assert world.made[1].partition == "partition-of-one"


def test_second_champion_replaces_the_first_and_both_intervals_are_known(world: FakeRegistry) -> None:
    promoted(world, "one", at=1)
    promoted(world, "two", at=5)
    now = production(world.models.get(PROJECT))
    assert [(each.version, each.start, each.end) for each in now.intervals] == [
        (1, hour(1), hour(5)),
        (2, hour(5), None),
    ]
    assert now.since is not None and now.since.from_version == 1
    assert world.made[2].tags["visionops.production.replaced"] == "1"


def test_promoting_the_champion_again_changes_nothing(world: FakeRegistry) -> None:
    run = trained(world, "one")
    verdict = judged(world, run)
    promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(1))
    before = state(world)
    for approval in ("auto", "manual"):
        again = promote(
            world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(2), approval=approval
        )
        assert not again.changed and again.version == 1 and state(world) == before


def test_champion_judged_against_itself_stays_whatever_the_verdict(world: FakeRegistry) -> None:
    promoted(world, "one")
    run = world.run_records["run-one"]
    what_if = judged(world, run, "INSUFFICIENT", kind="what_if")
    again = promote(
        world, project=PROJECT, verdict=what_if.identity, run_id=run.id, who="sensor", when=hour(2)
    )
    assert not again.changed and again.version == 1


@pytest.mark.parametrize("outcome", ["FAIL", "INSUFFICIENT"])
def test_verdict_that_is_no_pass_is_refused(world: FakeRegistry, outcome: Outcome) -> None:
    promoted(world, "one")
    verdict = judged(world, trained(world, "two"), outcome)
    before = state(world)
    with pytest.raises(VerdictNotPassed, match=outcome):
        promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(2))
    assert state(world) == before


def test_what_if_is_refused_even_when_it_passed(world: FakeRegistry) -> None:
    verdict = judged(world, trained(world, "one"), kind="what_if")
    with pytest.raises(VerdictMissing, match="A what-if cannot promote"):
        promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(2))
    with pytest.raises(VerdictMissing):
        override(world, PROJECT, verdict.identity, who="ada", when=hour(2), why="please")
    assert world.made == {}


def test_what_if_dressed_as_a_decision_is_refused(world: FakeRegistry) -> None:
    run = trained(world, "one")
    decision = judged(world, run, "FAIL")
    what_if = judged(world, trained(world, "other"), "PASS", kind="what_if")
    world.files[run.id, verdict_path(decision.identity, "decision")] = what_if.to_json().encode()
    with pytest.raises(VerdictMissing, match="not the file that digits lists"):
        promote(world, project=PROJECT, verdict=decision.identity, who="sensor", when=hour(2))


def test_what_if_that_even_the_list_calls_a_decision_is_refused(world: FakeRegistry) -> None:
    run = trained(world, "one")
    content = judged(world, run, "PASS", kind="what_if").to_json().encode()
    decision = judged(world, run, "FAIL")
    world.files[run.id, verdict_path(decision.identity, "decision")] = content
    listing = listed(world.models.get(PROJECT).tags)[decision.identity]
    forged = listing.model_copy(update={"outcome": "PASS", "sha256": digest(content)})
    world.models.set_tag(PROJECT, LISTED + decision.identity, forged.model_dump_json())
    with pytest.raises(VerdictMissing, match="is not decision"):
        promote(world, project=PROJECT, verdict=decision.identity, who="sensor", when=hour(2))


def test_verdict_whose_file_is_gone_is_refused(world: FakeRegistry) -> None:
    run = trained(world, "one")
    decision = judged(world, run)
    del world.files[run.id, verdict_path(decision.identity, "decision")]
    with pytest.raises(VerdictMissing, match=r"run the job `\w+_decide`"):
        promote(world, project=PROJECT, verdict=decision.identity, who="sensor", when=hour(2))


def test_decision_whose_file_was_altered_is_judged_and_stored_again(world: FakeRegistry) -> None:
    run = trained(world, "one")
    decision = judged(world, run)
    path = verdict_path(decision.identity, "decision")
    world.files[run.id, path] += b" "
    assert find(world, PROJECT, run.id, decision.identity) is None
    again = judged(world, run, when=hour(1))
    assert world.files[run.id, path] == again.to_json().encode() and again.created_at == hour(1)
    assert promote(world, project=PROJECT, verdict=again.identity, who="sensor", when=hour(2)).changed


def test_verdict_that_is_stored_is_reused_and_never_overwritten(world: FakeRegistry) -> None:
    run = trained(world, "one")
    what_if = judged(world, run, "FAIL", kind="what_if")
    first = judged(world, run, "INSUFFICIENT", when=hour(1))
    assert judged(world, run, "PASS", when=hour(2)) == first
    assert find(world, PROJECT, run.id, first.identity) == first
    assert find(world, PROJECT, run.id, first.identity, "what_if") == what_if


def test_moved_champion_asks_for_another_evaluation(world: FakeRegistry) -> None:
    promoted(world, "one")
    late = judged(world, trained(world, "late"))
    promoted(world, "two")
    with pytest.raises(ChampionMoved, match=r"champion moved, evaluate again.*now version 2"):
        promote(world, project=PROJECT, verdict=late.identity, who="sensor", when=hour(3))
    again = judged(world, world.run_records["run-late"])
    assert promote(world, project=PROJECT, verdict=again.identity, who="sensor", when=hour(4)).changed


def test_first_champion_judged_against_none_does_not_replace_a_later_one(world: FakeRegistry) -> None:
    late = judged(world, trained(world, "late"))
    promoted(world, "one")
    with pytest.raises(ChampionMoved, match="no champion"):
        promote(world, project=PROJECT, verdict=late.identity, who="sensor", when=hour(3))


def test_hold_refuses_until_released(world: FakeRegistry) -> None:
    promoted(world, "one")
    verdict = judged(world, trained(world, "two"))
    hold(world, project=PROJECT, by=Attribution("ada", hour(2), "audit"))
    with pytest.raises(OnHold, match=r"by ada: audit.*visionops release digits"):
        promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(3))
    assert not hold(world, project=PROJECT, by=Attribution("ada", hour(3), "audit")).changed
    assert release(world, project=PROJECT, by=Attribution("ada", hour(4), "audit is over")).changed
    assert not release(world, project=PROJECT, by=Attribution("ada", hour(4), "audit is over")).changed
    assert promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(5)).changed


@pytest.mark.parametrize("path", [WEIGHTS_ARTIFACT, ONNX_ARTIFACT])
def test_altered_or_missing_file_is_refused(world: FakeRegistry, path: str) -> None:
    run = trained(world, "one")
    verdict = judged(world, run)
    world.files[run.id, path] += b"!"
    with pytest.raises(DigestMismatch, match=f"{path} of run run-one has SHA-256"):
        promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(2))
    del world.files[run.id, path]
    with pytest.raises(DigestMismatch, match=f"no artifact {path}"):
        promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(2))
    assert world.made == {}


def test_the_digest_of_the_record_is_registered_and_an_altered_or_missing_record_is_not(
    world: FakeRegistry,
) -> None:
    run = trained(world, "one")
    verdict = judged(world, run)
    arguments: dict[str, Any] = {
        "project": PROJECT,
        "verdict": verdict.identity,
        "who": "ada",
        "when": hour(2),
    }
    recorded = {**run.tags, TAG_PROVENANCE: digest(b"the record")}
    world.run_records[run.id] = replace(run, tags=recorded)
    with pytest.raises(DigestMismatch, match=f"no artifact {PROVENANCE_ARTIFACT}"):
        promote(world, **arguments)
    world.files[run.id, PROVENANCE_ARTIFACT] = b"another record"
    with pytest.raises(DigestMismatch, match=f"{PROVENANCE_ARTIFACT} of run run-one has SHA-256"):
        promote(world, **arguments)
    assert world.made == {}
    # A run that was trained before runs said it: what is registered is what is there.
    world.run_records[run.id] = run
    assert promote(world, **arguments).changed
    assert world.made[1].tags[TAG_PROVENANCE] == digest(b"another record")


@pytest.mark.parametrize("tag", [TAG_WEIGHTS, TAG_ONNX])
def test_run_whose_tags_name_other_files_is_refused(world: FakeRegistry, tag: str) -> None:
    run = trained(world, "one")
    verdict = judged(world, run)
    world.run_records[run.id] = replace(run, tags={**run.tags, tag: digest(b"something else")})
    with pytest.raises(DigestMismatch, match=tag):
        promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(2))


def test_unfinished_run_is_refused(world: FakeRegistry) -> None:
    run = trained(world, "one")
    verdict = judged(world, run)
    world.run_records[run.id] = replace(run, status=RUNNING)
    with pytest.raises(DigestMismatch, match="RUNNING, not FINISHED"):
        promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(2))


def test_history_that_cannot_be_read_is_refused(world: FakeRegistry) -> None:
    promoted(world, "one")
    world.models.set_tag(PROJECT, "visionops.history.000002", '{"format": 2}')
    verdict = judged(world, trained(world, "two"))
    with pytest.raises(HistoryUnreadable, match=r"visionops\.history\.000002"):
        promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(2))


def test_manual_approval_waits_for_a_person_and_records_who(world: FakeRegistry) -> None:
    verdict = judged(world, trained(world, "one"))
    with pytest.raises(ApprovalNeeded, match="visionops approve digits"):
        promote(
            world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(2), approval="manual"
        )
    approve(world, PROJECT, verdict.identity[:10], who="ada", when=hour(3))
    change = promote(
        world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(4), approval="manual"
    )
    assert change.entry is not None and (change.entry.kind, change.entry.who) == ("promotion", "ada")


@pytest.mark.parametrize("approval", ["auto", "manual"])
def test_rejected_verdict_is_refused_until_it_is_approved(world: FakeRegistry, approval: Approval) -> None:
    verdict = judged(world, trained(world, "one"))
    reject(world, PROJECT, verdict.identity, who="ada", when=hour(2), why="wrong lens")
    with pytest.raises(Rejected, match=r"ada rejected .* wrong lens"):
        promote(
            world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(3), approval=approval
        )
    approve(world, PROJECT, verdict.identity, who="bob", when=hour(4), why="lens is right")
    assert promote(
        world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(5), approval=approval
    ).changed


def test_only_a_pass_is_approved_and_reasons_are_demanded(world: FakeRegistry) -> None:
    verdict = judged(world, trained(world, "one"), "FAIL")
    with pytest.raises(VerdictNotPassed, match=rf"visionops override digits {verdict.identity[:12]} --why"):
        approve(world, PROJECT, verdict.identity, who="ada", when=hour(2))
    with pytest.raises(ReasonMissing, match="--why"):
        override(world, PROJECT, verdict.identity, who="ada", when=hour(2), why=" ")
    with pytest.raises(ReasonMissing, match="VISIONOPS_ACTOR"):
        override(world, PROJECT, verdict.identity, who="", when=hour(2), why="because")


def test_override_is_marked_for_ever_and_leaves_the_verdict_as_it_is(world: FakeRegistry) -> None:
    run = trained(world, "one")
    verdict = judged(world, run, "FAIL")
    override(world, PROJECT, verdict.identity, who="ada", when=hour(2), why="recall of the old one")
    change = promote(world, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(3))
    assert change.entry is not None
    assert (change.entry.kind, change.entry.who, change.entry.why) == (
        "override",
        "ada",
        "recall of the old one",
    )
    assert world.made[1].tags["visionops.production.by"] == "override"
    stored = world.artifacts.read_bytes(run.id, verdict_path(verdict.identity, "decision"))
    assert b'"verdict": "FAIL"' in stored


def test_override_passes_neither_hold_nor_moved_champion_nor_altered_files(world: FakeRegistry) -> None:
    promoted(world, "one")
    run = trained(world, "two")
    verdict = judged(world, run, "FAIL")
    override(world, PROJECT, verdict.identity, who="ada", when=hour(2), why="urgent")
    arguments: dict[str, Any] = {
        "project": PROJECT,
        "verdict": verdict.identity,
        "who": "sensor",
        "when": hour(3),
    }
    hold(world, project=PROJECT, by=Attribution("bob", hour(2), "audit"))
    with pytest.raises(OnHold):
        promote(world, **arguments)
    release(world, project=PROJECT, by=Attribution("bob", hour(2), "over"))
    kept = world.files[run.id, ONNX_ARTIFACT]
    world.files[run.id, ONNX_ARTIFACT] = b"altered"
    with pytest.raises(DigestMismatch):
        promote(world, **arguments)
    world.files[run.id, ONNX_ARTIFACT] = kept
    promoted(world, "three")
    with pytest.raises(ChampionMoved):
        promote(world, **arguments)


def test_device_group_without_its_own_champion_is_judged_against_the_common_one(
    world: FakeRegistry,
) -> None:
    promoted(world, "one", at=1)
    canary = judged(world, trained(world, "two"), group="line-4")
    promote(world, project=PROJECT, verdict=canary.identity, who="ada", when=hour(2), group="line-4")
    model = world.models.get(PROJECT)
    assert model.aliases == {"champion": 1, "champion-line-4": 2}
    assert production(model, "line-4").version == 2 and production(model).version == 1
    later = judged(world, trained(world, "three"))
    assert promote(world, project=PROJECT, verdict=later.identity, who="ada", when=hour(3)).changed
    assert production(world.models.get(PROJECT), "line-4").version == 2


def test_steps_are_heard_in_the_stated_order(world: FakeRegistry) -> None:
    verdict = judged(world, trained(world, "one"))
    heard: list[str] = []
    promote(world, project=PROJECT, verdict=verdict.identity, who="a", when=hour(1), on_step=heard.append)
    assert tuple(heard) == STEPS
