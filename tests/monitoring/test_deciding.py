"""What is done about judged days: each cause once, nothing that flaps, nothing about the past, no rollback unproven."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from test_judgement import START, days

from visionops_assets.champions.registered_model import Outcome
from visionops_assets.config.production_rules import DriftRules, OnDecay
from visionops_assets.evaluation.verdict import ModelReference, Verdict
from visionops_assets.monitoring.model_days import alarm_states
from visionops_assets.monitoring.response.actions import Action, Signal
from visionops_assets.monitoring.response.policy import (
    Compared,
    Noticed,
    Step,
    alarm_due,
    comparison_is_due,
    next_steps,
    only_reported,
)

RULES = DriftRules()
MODEL, BEFORE = "a" * 64, "b" * 64


def seen(pattern: str, signal: Signal = "drift", rules: DriftRules = RULES, group: str = "all") -> Noticed:
    """A signal whose days are a pattern of `test_judgement.days`."""
    return Noticed(signal, group, group, MODEL, alarm_states(days(pattern), rules.days))


def on(number: int) -> date:
    return START + timedelta(number)


def compared(outcome: Outcome) -> Compared:
    reference = ModelReference(weights_sha256=BEFORE, version=1)
    verdict = Verdict(
        verdict=outcome,
        kind="what_if",
        project="shapes",
        challenger=reference,
        champion=ModelReference(weights_sha256=MODEL, version=2),
        holdout_digest="c" * 64,
        rules_digest="d" * 64,
        k=1,
        alpha=0.05,
        alpha_k=0.025,
        claimed_against="no difference",
        reasons=[],
        evidence=None,
        created_at=datetime(2025, 3, 20, tzinfo=UTC),
    )
    return Compared("all", MODEL, verdict)


def recorded(step: Step, *, dry_run: bool = False) -> Action:
    return Action(
        number=1,
        identity=step.identity("shapes", dry_run=dry_run),
        kind=step.kind,
        signal=step.signal,
        group=step.group,
        model_sha256=step.model_sha256,
        version=2,
        day=step.day,
        when=datetime(2025, 3, 20, tzinfo=UTC),
        who="test",
        why=step.why,
        done="",
        dry_run=dry_run,
    )


def kinds(steps: Sequence[Step]) -> list[tuple[str, str]]:
    return [(step.kind, step.signal) for step in steps]


def rules(**on_decay: Any) -> DriftRules:
    return DriftRules(on_decay=OnDecay(**on_decay))


@pytest.mark.parametrize(
    ("signal", "declared", "expected"),
    [
        ("drift", {}, ["labels", "alert"]),
        ("drift", {"drift": "hold"}, ["labels", "hold"]),
        ("estimated", {}, ["labels", "hold"]),
        ("estimated", {"estimated": "alert"}, ["labels", "alert"]),
        ("realised", {}, ["labels", "alert"]),
        ("realised", {"realised": "hold"}, ["labels", "hold"]),
    ],
)
def test_an_alarm_asks_for_labels_and_leads_to_what_is_declared_for_its_signal(
    signal: Signal, declared: dict[str, Any], expected: list[str]
):
    found = next_steps([seen("..xx", signal)], [], [], rules(**declared), on(3))
    assert [step.kind for step in found] == expected
    assert {step.day for step in found} == {on(3)}
    assert "alarm since" in found[0].why
    assert next_steps([seen("..x", signal)], [], [], rules(**declared), on(2)) == []


@pytest.mark.parametrize("declared", ["rollback", "hold", "alert"])
def test_only_a_pass_of_the_version_before_leads_to_what_labelled_evidence_leads_to(declared: Any):
    chosen = rules(realised=declared)
    (step,) = next_steps([], [compared("PASS")], [], chosen, on(3))
    assert (step.kind, step.signal, step.verdict is not None) == (declared, "realised", True)
    for outcome in ("FAIL", "INSUFFICIENT"):
        assert next_steps([], [compared(outcome)], [], chosen, on(3)) == []


def test_drift_that_hurts_the_version_before_too_asks_for_labels_and_rolls_nothing_back():
    found = next_steps([seen("xxx"), seen("xxx", "realised")], [compared("INSUFFICIENT")], [], RULES, on(2))
    assert sorted(kinds(found)) == [("alert", "realised"), ("labels", "realised")]


def test_a_rollback_or_hold_makes_an_alert_needless_and_one_kind_comes_once():
    noticed = [seen("xx"), seen("xx", "estimated"), seen("xx", "realised")]
    assert kinds(next_steps(noticed, [compared("PASS")], [], RULES, on(1))) == [
        ("rollback", "realised"),
        ("labels", "realised"),
        ("hold", "estimated"),
    ]
    held = next_steps([seen("xx", "estimated")], [], [], RULES, on(1), on_hold=["all"])
    assert kinds(held) == [("labels", "estimated"), ("alert", "estimated")]


@pytest.mark.parametrize("pattern", ["xx...xx...xx...xx...", "x" * 20, "xx?x?.x..x?xx.x...xx"])
def test_day_by_day_nothing_is_done_twice_within_the_cool_down(pattern: str):
    done: list[Action] = []
    for number in range(1, len(pattern) + 1):
        steps = next_steps([seen(pattern[:number])], [], done, RULES, on(number - 1))
        done += [recorded(step) for step in steps]
        assert next_steps([seen(pattern[:number])], [], done, RULES, on(number - 1)) == [], "judged again"
    for kind in ("labels", "alert"):
        acted = [action.day for action in done if action.kind == kind]
        assert acted, pattern
        assert all(later - earlier >= timedelta(7) for earlier, later in pairwise(acted))


def test_any_days_act_at_most_once_in_a_cool_down_and_only_while_an_alarm_stands():
    random = np.random.default_rng(0)
    for _ in range(20):
        pattern, done = "".join(random.choice(list(".x? "), 30)), list[Action]()
        for number in range(1, len(pattern) + 1):
            found = seen(pattern[:number])
            steps = next_steps([found], [], done, RULES, on(number - 1))
            assert not steps or found.states[-1].outcome == "FAIL"
            done += [recorded(step) for step in steps]
        days_of = [action.day for action in done if action.kind == "labels"]
        assert all(b - a >= timedelta(7) for a, b in pairwise(days_of)), pattern


def test_a_day_that_has_just_begun_does_not_swallow_the_alarm_of_the_day_before():
    found = seen("xx?")
    state = alarm_due(found.states)
    assert state is not None and state.day == on(1)
    (labels, alert) = next_steps([found], [], [], RULES, on(2))
    assert labels.day == alert.day == on(1)
    assert next_steps([found], [], [recorded(labels), recorded(alert)], RULES, on(2)) == []


def test_what_a_dry_run_only_said_is_still_to_be_done():
    dry = DriftRules(dry_run=True)
    steps = next_steps([seen("xx")], [], [], dry, on(1))
    said = [recorded(step, dry_run=True) for step in steps]
    assert next_steps([seen("xx")], [], said, dry, on(1)) == []
    real = next_steps([seen("xx")], [], said, RULES, on(1))
    assert kinds(real) == kinds(steps)
    assert {step.identity("shapes", dry_run=False) for step in real}.isdisjoint(
        action.identity for action in said
    )
    assert said[0].title() == "would ask for labels"


def test_only_the_newest_day_leads_to_actions_and_only_while_it_is_recent():
    month = timedelta(30)
    assert only_reported(on(5), on(5), on(5), month) == ""
    assert only_reported(on(5), on(5), on(35), month) == ""
    assert "the newest decides" in only_reported(on(4), on(5), on(5), month)
    assert "more than 30 days ago" in only_reported(on(5), on(5), on(36), month)


def test_the_next_comparison_waits_for_as_many_labels_as_a_day_needs():
    assert comparison_is_due(50, [], RULES)
    assert not comparison_is_due(49, [], RULES)
    (step,) = next_steps([], [compared("PASS")], [], RULES, on(1))
    earlier = [recorded(step).model_copy(update={"kind": "comparison", "images": 60})]
    assert not comparison_is_due(109, earlier, RULES)
    assert comparison_is_due(110, earlier, RULES)


def test_two_device_groups_are_two_champions():
    found = next_steps([seen("xx"), seen("xx", group="line-4")], [], [], RULES, on(1))
    assert [(step.kind, step.group) for step in found] == [
        ("labels", "all"),
        ("alert", "all"),
        ("labels", "line-4"),
        ("alert", "line-4"),
    ]


@pytest.mark.parametrize("signal", ["estimated", "drift"])
def test_a_rollback_without_labels_cannot_be_declared(signal: str):
    with pytest.raises(ValidationError, match="only labels show that the version before does better"):
        OnDecay.model_validate({signal: "rollback"})
    with pytest.raises(ValidationError, match="'alert', 'hold' or 'rollback'"):
        OnDecay.model_validate({signal: "retrain"})
