"""The verdict on a rollout at one look: PASS, FAIL or INSUFFICIENT, in words, with its evidence and what is missing.

FAIL holds at every look together with a chance of at most 5% to be wrong (`e_values`). No evidence of harm is no PASS:
that takes outcomes of enough devices for long enough, and where a rollout asks for it, evidence that the candidate does
no worse. Whatever is neither changes nothing.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, get_args

from resources.error_family import Invalid
from visionops_assets.rollout.e_values import NO_WORSE_AT, SAFETY_AT, SILENCE_AT, WORSE_AT
from visionops_assets.rollout.evidence import Evidence
from visionops_assets.rollout.latency import FEWEST_ANSWERS, too_slow

FORMAT = 1
Word = Literal["PASS", "FAIL", "INSUFFICIENT"]
# Of pairs that are all lost so many reach the threshold of silence: smaller waves are watched by people.
FEWEST_PAIRS = 9


class BadVerdict(Invalid):
    """What is stored as a verdict is none that is read here."""


@dataclass(frozen=True)
class Rules:
    """What a project asks of a rollout. `reported` is the share of a cohort that has to have an outcome; `dwell` how
    long a wave lasts at least; `budget_ms` what 99 of 100 answers may take."""

    allowed_failures: float = 0.01
    reported: float = 0.8
    dwell: timedelta = timedelta(hours=6)
    max_duration: timedelta = timedelta(days=7)
    require: Literal["accuracy", "safety"] = "safety"
    budget_ms: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.allowed_failures < 1:
            raise Invalid(f"allowed_failures is a share between 0 and 1, not {self.allowed_failures:g}")
        if not 0 < self.reported <= 1:
            raise Invalid(f"reported is a share above 0 and at most 1, not {self.reported:g}")


@dataclass(frozen=True)
class RolloutVerdict:
    """One look: the word, why, what is missing for a PASS, and for whom a person should look."""

    word: Word
    reasons: tuple[str, ...]
    missing: tuple[str, ...]
    watch: tuple[str, ...]
    evidence: Evidence

    def to_json(self) -> str:
        """As it is stored."""
        told = {"format": FORMAT, "verdict": self.word, "thresholds": THRESHOLDS}
        lists = {name: list(getattr(self, name)) for name in ("reasons", "missing", "watch")}
        return json.dumps({**told, **lists, "evidence": _finite(self.evidence.to_json())}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "RolloutVerdict":
        """What `to_json` wrote. Raises `BadVerdict`."""
        try:
            found = json.loads(text)
            if found["format"] != FORMAT:
                raise BadVerdict(
                    f"the verdict is of format {found['format']}, {FORMAT} is read here; update VisionOps"
                )
            if found["verdict"] not in get_args(Word):
                raise BadVerdict(f"a verdict is PASS, FAIL or INSUFFICIENT, not {found['verdict']!r}")
            reasons, missing, watch = (
                tuple(map(str, found[name])) for name in ("reasons", "missing", "watch")
            )
            evidence = Evidence(**_numbers(found["evidence"]))
            return cls(found["verdict"], reasons, missing, watch, evidence)
        except BadVerdict:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise BadVerdict(
                f"this is no verdict on a rollout ({error!r}); it is written by the next look"
            ) from error


THRESHOLDS = {"safety": SAFETY_AT, "silence": SILENCE_AT, "worse": WORSE_AT, "no_worse": NO_WORSE_AT}


def verdict_of(
    evidence: Evidence, rules: Rules, in_wave_for: timedelta, *, ended_by: str | None = None
) -> RolloutVerdict:
    """The verdict on what is known, `in_wave_for` after the wave began. `ended_by` says what ends the rollout whatever
    its devices do: its candidate was revoked, its base moved."""
    against = ([ended_by] if ended_by else []) + _against(evidence, rules)
    if against:
        return RolloutVerdict("FAIL", tuple(against), (), _watch(evidence), evidence)
    missing = _missing(evidence, rules, in_wave_for)
    said = (_safety(evidence, rules), _silence(evidence))
    word: Word = "INSUFFICIENT" if missing else "PASS"
    return RolloutVerdict(word, said, tuple(missing), _watch(evidence), evidence)


def _against(found: Evidence, rules: Rules) -> list[str]:
    said = []
    if found.log_safety >= math.log(SAFETY_AT):
        said.append(_safety(found, rules))
    if found.log_silence >= math.log(SILENCE_AT):
        said.append(_silence(found))
    if found.log_worse is not None and found.log_worse >= math.log(WORSE_AT):
        said.append(f"does worse than the base on the same frames ({_against_of(found.log_worse, WORSE_AT)})")
    return said


def _missing(found: Evidence, rules: Rules, in_wave_for: timedelta) -> list[str]:
    said = []
    wanted = math.ceil(rules.reported * found.cohort)
    if found.cohort == 0:
        said.append(
            "a device of the wave that was heard of: see whether they are switched on and reach the repository"
        )
    elif found.reported < wanted:
        said.append(
            f"{found.reported} of {found.cohort} devices have an outcome: {wanted - found.reported} more"
        )
    if in_wave_for < rules.dwell:
        said.append(
            f"the wave lasts {_in_words(rules.dwell)} at least: {_in_words(rules.dwell - in_wave_for)} more"
        )
    slow = too_slow(found.candidate_ms, found.base_ms, rules.budget_ms)
    if slow is not None:
        said.append(slow)
    elif found.candidate_ms is None and rules.budget_ms is not None:
        said.append(f"{FEWEST_ANSWERS} answers of the candidate, to know how long they take")
    if rules.require == "accuracy" and (
        found.log_no_worse is None or found.log_no_worse < math.log(NO_WORSE_AT)
    ):
        now = (
            "no frame is labelled yet"
            if found.log_no_worse is None
            else _against_of(found.log_no_worse, NO_WORSE_AT)
        )
        said.append(
            f"evidence that it does no worse on the same frames ({now}): more labels, or `--require safety`"
        )
    return said


def _watch(found: Evidence) -> tuple[str, ...]:
    """Too few pairs for a verdict by silence, and somebody is silent: a person looks."""
    if not found.late or found.pairs_lost + found.pairs_won >= FEWEST_PAIRS:
        return ()
    return (f"{found.late} of {found.in_wave} devices of the wave missed their reports since they try it",)


def _safety(found: Evidence, rules: Rules) -> str:
    units, failed = found.ok + found.failed + found.excess, found.failed + found.excess
    trouble = f", {found.unavailable} unavailable by their own trouble" if found.unavailable else ""
    known = _against_of(found.log_safety, SAFETY_AT)
    return f"safety: {failed} of {units} devices failed, {rules.allowed_failures:.1%} may{trouble} ({known})"


def _silence(found: Evidence) -> str:
    pairs = found.pairs_lost + found.pairs_won
    return (
        f"silence: of {pairs} pairs of which one fell silent, {found.pairs_lost} have the candidate "
        f"({_against_of(found.log_silence, SILENCE_AT)})"
    )


def _against_of(log_e: float, threshold: float) -> str:
    value = math.exp(min(log_e, 60.0))
    return f"E {value:.2g} of {threshold:.0f}" if value < 1000 else f"E above 1000 of {threshold:.0f}"


def _in_words(span: timedelta) -> str:
    seconds = max(0.0, span.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def _finite(told: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no infinity."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in told.items()
    }


def _numbers(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float(value) if isinstance(value, str) else value for name, value in told.items()}
