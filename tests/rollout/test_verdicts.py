"""From devices to a verdict and what it leads to: nothing advances by silence, and what fails goes back."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from edge.blocks import LATENCY_MS
from visionops_assets.config.rollout_rules import BadWaves
from visionops_assets.rollout import waves
from visionops_assets.rollout.decide import Decision, Standing, decide
from visionops_assets.rollout.evidence import (
    FAILED,
    MISSED_REPORTS,
    NONE,
    OK,
    OWN_TROUBLE,
    UNAVAILABLE,
    Devices,
    Evidence,
    Pairs,
    Times,
    columns,
    evidence_of,
    judged,
    outcome_of,
)
from visionops_assets.rollout.latency import pooled, quantile_ms, too_slow
from visionops_assets.rollout.rollout_verdict import BadVerdict, RolloutVerdict, Rules, verdict_of

EVERY = 300.0
BEGAN = 1e9
LONG = timedelta(days=1)
HOUR = 3600.0


def group(
    devices: int, in_wave: int, outcomes: list[int] | None = None, silent: list[int] | None = None
) -> Devices:
    """A group whose wave was exposed at `BEGAN` and reports until an hour later, but for those that fell silent."""
    numbers = np.arange(devices)
    treated = numbers < in_wave
    outcome = np.full(devices, NONE, np.int8)
    outcome[: len(outcomes or [])] = outcomes or []
    last = np.full(devices, BEGAN + HOUR)
    last[silent or []] = BEGAN - 1
    return Devices(
        bucket=numbers * 7,
        in_wave=treated,
        exposed_at=np.where(treated, BEGAN, np.nan),
        last_report=last,
        heard_before=np.ones(devices, np.bool_),
        outcome=outcome,
    )


def known(devices: Devices, pairs: Pairs | None = None, **options: Any) -> Evidence:
    now = BEGAN + HOUR
    pairs = judged(devices, pairs or Pairs(), now, EVERY)
    told = {"allowed_failures": 0.01, "base_trouble": 0.02, **options}
    return evidence_of(devices, pairs, now=now, report_every=EVERY, **told)


def verdict(
    devices: Devices, rules: Rules | None = None, lasts: timedelta = LONG, **options: Any
) -> RolloutVerdict:
    return verdict_of(known(devices, **options), rules or Rules(), lasts)


def test_what_fails_everywhere_stops_at_its_first_device() -> None:
    found = verdict(group(20, 1, [FAILED]))
    assert found.word == "FAIL" and "1 of 1 devices failed" in found.reasons[0]
    assert decide(found, Standing([1, 20], 0, LONG, paused=True), Rules()).action == "roll_back"


def test_no_evidence_of_harm_is_no_pass() -> None:
    rules = Rules(dwell=timedelta(hours=6))
    waits = verdict(group(20, 5, [OK, OK, OK]), rules)
    assert waits.word == "INSUFFICIENT" and "3 of 5 devices have an outcome: 1 more" in waits.missing[0]
    assert decide(waits, Standing([5, 20], 0, LONG), rules).action == "nothing"
    early = verdict(group(20, 5, [OK] * 5), rules, timedelta(hours=4))
    assert early.missing == ("the wave lasts 6 h at least: 2 h more",)
    assert verdict(group(20, 5, [OK] * 4), rules).word == "PASS"
    nobody = verdict(group(20, 0), rules)
    assert nobody.word == "INSUFFICIENT" and "see whether they are switched on" in nobody.missing[0]
    accuracy = verdict(group(20, 5, [OK] * 5), replace(rules, require="accuracy"))
    assert accuracy.word == "INSUFFICIENT" and "no frame is labelled yet" in accuracy.missing[0]


def test_what_ends_a_rollout_from_outside_is_a_fail() -> None:
    found = verdict_of(known(group(20, 5, [OK] * 5)), Rules(), LONG, ended_by="base moved")
    assert (found.word, found.reasons) == ("FAIL", ("base moved",))


def test_a_silent_wave_beside_a_control_arm_that_speaks_fails_and_a_whole_site_offline_does_not() -> None:
    alone = verdict(group(40, 12, [OK] * 3, silent=list(range(3, 12))))
    assert (
        alone.word == "FAIL"
        and "of 9 pairs of which one fell silent, 9 have the candidate" in alone.reasons[0]
    )
    # All that were heard of before, both arms.
    both = verdict(group(40, 12, [OK] * 3, silent=list(range(3, 40))))
    assert both.word == "INSUFFICIENT" and both.evidence.pairs_lost == 0


def test_where_pairs_are_too_few_a_silent_device_calls_a_person() -> None:
    found = verdict(group(8, 2, [OK], silent=[1]))
    assert found.word == "INSUFFICIENT"
    assert found.watch == ("1 of 2 devices of the wave missed their reports since they try it",)
    assert decide(found, Standing([2, 8], 0, LONG), Rules()) == Decision("nothing", found.watch[0], page=True)


def test_a_pair_is_judged_once_and_no_device_is_in_two_as_the_same() -> None:
    devices = group(10, 4, silent=[0])
    once = judged(devices, Pairs(), BEGAN + HOUR, EVERY)
    assert (once.lost.sum(), len(once.treated)) == (1, 4)
    # It came back: what was judged stays.
    later = judged(replace(devices, last_report=np.full(10, BEGAN + 2 * HOUR)), once, BEGAN + 2 * HOUR, EVERY)
    assert (later.treated == once.treated).all() and later.lost.sum() == 1
    # The next wave takes devices of the control arm, and the matches that are left.
    wider = judged(replace(group(10, 6), bucket=devices.bucket), once, BEGAN + HOUR, EVERY)
    for each in (wider.treated, wider.control):
        assert len(set(each)) == len(each)
    assert judged(devices, Pairs(), BEGAN + MISSED_REPORTS * EVERY - 1, EVERY).treated.size == 0


def test_a_match_that_had_not_been_heard_of_is_none() -> None:
    devices = group(4, 2)
    devices.last_report[2] = BEGAN - 2 * EVERY
    found = judged(devices, Pairs(), BEGAN + HOUR, EVERY)
    assert list(found.control) == [3]


def test_a_devices_own_trouble_counts_against_reporting_and_as_failure_beyond_thrice_the_bases() -> None:
    assert outcome_of("committed") == "ok" and outcome_of("well") == ""
    assert outcome_of("rolled_back", "crash") == "failed"
    assert {outcome_of("refused", why) for why in OWN_TROUBLE} == {"unavailable"}
    few = known(group(100, 50, [OK] * 40 + [UNAVAILABLE] * 3))
    assert (few.excess, few.reported, few.cohort) == (0, 40, 50)
    many = known(group(100, 50, [OK] * 30 + [UNAVAILABLE] * 20))
    assert many.excess == 20 - math.ceil(3 * 0.02 * 50)
    assert verdict(group(100, 50, [OK] * 30 + [UNAVAILABLE] * 20)).word == "FAIL"
    alone = verdict(group(20, 1, [UNAVAILABLE]))
    assert alone.word == "INSUFFICIENT"


def test_usual_trouble_and_failures_as_often_as_they_may_are_rarely_a_fail(
    count: Callable[[int, int], int],
) -> None:
    trials, rng, stopped = count(40, 2000), np.random.default_rng(9), 0
    for _ in range(trials):
        drawn = rng.random(400)
        outcomes = np.select([drawn < 0.01, drawn < 0.03], [FAILED, UNAVAILABLE], OK)
        looks = (
            verdict(group(401, size, list(outcomes[:size]))).word for size in (1, 5, 20, 50, 100, 200, 400)
        )
        stopped += "FAIL" in looks
    assert stopped / trials <= 0.02 + 3 * np.sqrt(0.02 * 0.98 / trials), stopped


def histogram(ms: float, answers: int = 10_000) -> np.ndarray:
    counts = np.zeros(len(LATENCY_MS) + 1, np.int64)
    counts[sum(ms > end for end in LATENCY_MS)] = answers
    return counts


@given(some.lists(some.floats(0.26, 1870), min_size=5, max_size=20).map(lambda times: times * 60))
def test_a_quantile_is_in_the_bucket_of_the_time_that_it_is_of(times: list[float]) -> None:
    counted = np.bincount(np.searchsorted(LATENCY_MS, times), minlength=len(LATENCY_MS) + 1)
    found = quantile_ms(pooled([counted]))
    exact = float(np.quantile(times, 0.99, method="inverted_cdf"))
    assert found is not None and exact / 1.5 <= found * 1.0001 and found <= exact * 1.5001


def test_a_slow_candidate_passes_no_wave() -> None:
    assert quantile_ms(histogram(5, 299)) is None and quantile_ms(histogram(10_000)) == math.inf
    devices, rules = group(20, 5, [OK] * 5), Rules(budget_ms=20)
    for ms, base, word in ((5, 5, "PASS"), (90, 5, "INSUFFICIENT"), (90, 90, "PASS")):
        found = verdict(devices, rules, times=Times(histogram(ms), histogram(base)))
        assert found.word == word, (ms, base, found.missing)
    slow = verdict(devices, rules, times=Times(histogram(90), histogram(5)))
    assert "99 of 100 answers take up to" in slow.missing[0] and "20 ms are its budget" in slow.missing[0]
    assert "300 answers of the candidate" in verdict(devices, rules).missing[0]
    assert too_slow(90, None, None) is None


def test_a_verdict_is_stored_and_read_back() -> None:
    found = verdict(group(20, 5, [OK] * 3), times=Times(histogram(10_000), histogram(5)))
    assert RolloutVerdict.from_json(found.to_json()) == found
    told = json.loads(found.to_json())
    assert (told["format"], told["verdict"]) == (1, "INSUFFICIENT")
    assert told["thresholds"] == {"safety": 50, "silence": 100, "worse": 50, "no_worse": 20}
    for wrong in (
        "5",
        "[]",
        "{}",
        json.dumps({**told, "format": 2}),
        json.dumps({**told, "verdict": "MAYBE"}),
    ):
        with pytest.raises(BadVerdict):
            RolloutVerdict.from_json(wrong)


def test_an_undecided_rollout_never_advances_and_calls_a_person_after_its_time() -> None:
    undecided = verdict(group(20, 5, [OK]))
    for wave in range(2):
        early = decide(undecided, Standing([5, 20], wave, timedelta(hours=1)), Rules())
        late = decide(undecided, Standing([5, 20], wave, timedelta(days=8)), Rules())
        assert (early.action, early.page) == ("nothing", False)
        assert (late.action, late.page) == ("hold", True) and "devices have an outcome" in late.why


def test_a_pass_leads_through_all_waves_to_the_end() -> None:
    passed, sizes = verdict(group(20, 5, [OK] * 5)), [1, 5, 20]
    actions = [decide(passed, Standing(sizes, wave, LONG), Rules()).action for wave in range(3)]
    assert actions == ["advance", "advance", "complete"]
    assert decide(passed, Standing(sizes, 0, LONG, paused=True), Rules()).action == "nothing"
    with pytest.raises(ValueError, match="wave 3 of 3"):
        Standing(sizes, 3, LONG)


@given(
    some.integers(1, 5000),
    some.lists(some.floats(0.001, 0.999), max_size=5, unique=True).map(lambda shares: [*sorted(shares), 1.0]),
)
def test_waves_rise_are_never_empty_and_leave_a_control_arm_until_the_last(
    devices: int, shares: list[float]
) -> None:
    sizes = waves.wave_sizes(devices, shares)
    assert sizes[-1] == devices and all(1 <= each < devices for each in sizes[:-1])
    assert sizes == sorted(set(sizes))
    assert all(after <= waves.MOST_TIMES * before for before, after in pairwise(sizes))
    rng = np.random.default_rng(devices)
    buckets = rng.choice(waves.ALL_PPM, devices, replace=False)
    assert [int((buckets < waves.ppm_of(buckets, size)).sum()) for size in sizes] == sizes


def test_two_devices_of_one_bucket_leave_a_control_arm() -> None:
    assert waves.ppm_of([5, 9, 9], 2) == 9
    assert waves.ppm_of([9, 9], 1) == 10, "never nobody"


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ([], "not none"),
        ([0.5], "end 0.5 with 1"),
        ([0.5, 0.1, 1], "0.1 comes after 0.5"),
        ([0, 1], "above 0"),
    ],
)
def test_waves_that_are_none_are_named(shares: list[float], said: str) -> None:
    with pytest.raises(BadWaves, match=said):
        waves.wave_sizes(10, shares)


def rolled_out(rng: np.random.Generator, devices: int, fails: float, silent: float) -> tuple[str, int]:
    """A whole rollout through evidence, verdict and decision, a look after each device's outcome in a wave of one
    hour; how it ended, and how many devices had the candidate then."""
    rules = Rules(dwell=timedelta(0))
    sizes, wave, pairs = waves.wave_sizes(devices, [0.05, 0.25, 0.75, 1.0]), 0, Pairs()
    bucket = np.sort(rng.choice(waves.ALL_PPM, devices, replace=False)).astype(np.int64)
    fates = np.where(rng.random(devices) < fails, FAILED, OK).astype(np.int8)
    falls_silent = rng.random(devices) < silent
    exposed = np.full(devices, np.nan)
    while True:
        size, now = sizes[wave], BEGAN + wave * 2 * HOUR
        treated = np.arange(devices) < size
        exposed[treated & np.isnan(exposed)] = now
        last = np.where(treated & falls_silent, np.fmin(exposed, now), now + HOUR)
        for reported in range(1, size + 1):
            seen = np.where((np.arange(devices) < reported) & ~falls_silent, fates, NONE).astype(np.int8)
            at = Devices(bucket, treated, exposed, last, np.ones(devices, np.bool_), seen)
            if reported == size:
                pairs = judged(at, pairs, now + HOUR, EVERY)
            known_now = evidence_of(at, pairs, now=now, report_every=EVERY, allowed_failures=0.01)
            found = decide(verdict_of(known_now, rules, LONG), Standing(sizes, wave, LONG), rules)
            if found.action == "roll_back":
                return "roll_back", reported
        if found.action in ("complete", "nothing", "hold"):
            return found.action, size
        wave += 1


def test_whole_rollouts_end_as_they_should(count: Callable[[int, int], int]) -> None:
    rng, trials = np.random.default_rng(7), count(3, 200)
    good = [rolled_out(rng, 60, 0.001, 0.0)[0] for _ in range(trials)]
    assert good.count("complete") >= 0.9 * trials
    broken = [rolled_out(rng, 60, 1.0, 0.0) for _ in range(trials)]
    assert set(broken) == {("roll_back", 1)}
    assert {rolled_out(rng, 60, 0.25, 0.0)[0] for _ in range(trials)} == {"roll_back"}
    mute = [rolled_out(rng, 60, 0.0, 1.0)[0] for _ in range(trials)]
    assert "complete" not in mute


@pytest.mark.stated
def test_a_million_devices_take_seconds_a_decision() -> None:
    """Counted here, and measured by `benchmarks/rollout.py`: the numbers of a large fleet come out as those of a small
    one."""
    devices, rng = 10**6, np.random.default_rng(8)
    outcomes = np.where(rng.random(10**5) < 0.001, FAILED, OK).astype(np.int8)
    large = group(devices, 10**5)
    large.outcome[: 10**5] = outcomes
    found = known(large)
    assert found.failed == int((outcomes == FAILED).sum()) and found.ok + found.failed == 10**5
    assert verdict_of(found, Rules(), LONG).word == "PASS"


def test_rows_become_columns() -> None:
    row = {
        "bucket": 3,
        "in_wave": True,
        "exposed_at": None,
        "last_report": 5,
        "heard_before": True,
        "outcome": "failed",
    }
    found = columns([row])
    assert np.isnan(found.exposed_at[0]) and found.outcome[0] == FAILED and len(found) == 1
    with pytest.raises(ValueError, match="one length"):
        replace(found, bucket=np.zeros(2, np.int64))
