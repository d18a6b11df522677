"""One look at a rollout: what its devices told becomes evidence, a verdict and a decision; and all looks are kept.

`fleet/<project>/rollouts/<rollout>.json` in the artifact store, written whole: the pairs that were judged, which stay
as they were, and what each look found where that was news. A look changes nothing else: whoever looks comes to the
same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from edge.formats import bucket_of
from resources.storage import ArtifactNotFound, ArtifactStore
from visionops_assets.config.project import Project
from visionops_assets.config.rollout_rules import RolloutRules
from visionops_assets.delivery.rollout_reports import Told
from visionops_assets.rollout.decide import Decision, Standing, decide
from visionops_assets.rollout.evidence import Pairs, Times, columns, evidence_of, judged, outcome_of
from visionops_assets.rollout.latency import pooled
from visionops_assets.rollout.rollout_verdict import RolloutVerdict, Rules, verdict_of
from visionops_assets.rollout.rollouts import Rollout

FORMAT = 1
# Of looks that were news; of more, every second one of the older half is kept.
MOST_LOOKS = 400
# What makes a look news: all but how long answers took, which is another each time.
_NEWS = (
    *("wave", "word", "in_wave", "cohort", "reported", "ok", "failed", "unavailable", "excess", "late"),
    *("pairs", "pairs_lost", "pairs_won"),
)


@dataclass(frozen=True)
class Watched:
    """What is looked at: a rollout under its rules, the devices of its group by enrolment, and the bundles of
    candidate and base as they are assigned; `every` is how often reports are collected by now, in seconds. `ended_by`
    says what ends it whatever its devices do, `on_hold` that the group takes nothing new."""

    rollout: Rollout
    rules: RolloutRules
    devices: Sequence[str]
    candidate: str
    base: str
    every: float
    ended_by: str | None = None
    on_hold: bool = False


@dataclass(frozen=True)
class Failure:
    """A device that refused or left the candidate, at which step and why."""

    device: str
    event: str
    why: str
    detail: str = ""

    def sentence(self) -> str:
        """In words."""
        did = {"refused": "refused it", "rolled_back": "left it in its trial"}.get(
            self.event, "takes it no more"
        )
        return f"{self.device} {did} ({self.why}{f': {self.detail}' if self.detail else ''})"


@dataclass(frozen=True)
class Look:
    """What was found at `at`. `history` has the looks that were news, oldest first, `pairs` the names of those judged:
    device, match, and whether it or its match fell silent. `strangers` say whose reports count for nothing."""

    rollout: str
    at: datetime
    verdict: RolloutVerdict
    decision: Decision
    failures: tuple[Failure, ...] = ()
    strangers: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str, bool, bool], ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    waves: tuple[int, ...] = ()
    ended_by_others: bool = False

    @property
    def is_news(self) -> bool:
        """Whether something is other than at the look before."""
        return bool(self.history) and self.history[-1]["at"] == self.at.isoformat()


def look(watched: Watched, told: Mapping[str, Told], before: Look | None, now: datetime) -> Look:
    """What is known of a rollout at `now`. Pure: the same again gives the same."""
    rollout, rules = watched.rollout, _rules(watched.rules)
    rows = [_row(watched, name, told.get(name)) for name in watched.devices]
    names = list(watched.devices)
    # What was judged stays, though its device was revoked or moved since.
    for gone in {name for pair in (before.pairs if before else ()) for name in pair[:2]} - set(names):
        names.append(gone)
        rows.append(
            {"bucket": 0, "in_wave": False, "exposed_at": 0.0, "last_report": None, "heard_before": False}
        )
    devices = columns(rows)
    moment = now.timestamp()
    pairs = judged(devices, _pairs(before, names), moment, watched.every)
    known = evidence_of(
        devices,
        pairs,
        now=moment,
        report_every=watched.every,
        allowed_failures=rules.allowed_failures,
        times=_times(watched, told),
    )
    began = rollout.wave_began or rollout.began
    verdict = verdict_of(known, rules, now - began, ended_by=watched.ended_by)
    waves = _wave_sizes(watched)
    paused = rollout.paused or watched.on_hold
    lasts = now - (rollout.timed_from or rollout.began)
    decision = decide(verdict, Standing(waves, rollout.wave, lasts, paused), rules)
    found = {"wave": rollout.wave, "word": verdict.word, "pairs": len(pairs.treated), **known.to_json()}
    history = before.history if before is not None else ()
    if not history or any(history[-1].get(name) != found[name] for name in _NEWS):
        history = (*_thinned(history), {"at": now.isoformat(), **_finite(found)})
    return Look(
        rollout.id,
        now,
        verdict,
        decision,
        tuple(_failures(watched, told)),
        tuple(_strangers(watched, told)),
        tuple(
            (names[treated], names[control], bool(lost), bool(won))
            for treated, control, lost, won in zip(
                pairs.treated, pairs.control, pairs.lost, pairs.won, strict=True
            )
        ),
        history,
        tuple(waves),
        watched.ended_by is not None,
    )


def _rules(rules: RolloutRules) -> Rules:
    return Rules(
        allowed_failures=rules.allowed_failures,
        reported=rules.reported,
        dwell=rules.dwell,
        max_duration=rules.max_duration,
        budget_ms=rules.p99_ms,
    )


def _row(watched: Watched, device: str, told: Told | None) -> dict[str, Any]:
    bucket = bucket_of(watched.rollout.id, device)
    in_wave = bucket < watched.rollout.ppm
    if told is None:
        return {"bucket": bucket, "in_wave": in_wave, "heard_before": False}
    exposed_at, before = told.began.get(watched.candidate, (None, None))
    if not in_wave:
        # It tries what it is not given: of no arm.
        outcome, before = "", None
    else:
        outcome = _outcome(watched, told)
    began = (watched.rollout.wave_began or watched.rollout.began).timestamp()
    heard = (
        before is not None and exposed_at is not None and exposed_at - before <= watched.every
        if exposed_at is not None
        else told.last_report >= began - watched.every
    )
    return {
        "bucket": bucket,
        "in_wave": in_wave,
        "exposed_at": exposed_at,
        "last_report": told.last_report or None,
        "heard_before": heard,
        "outcome": outcome,
    }


def _outcome(watched: Watched, told: Told) -> str:
    """Of a device in the wave, by its first word on the candidate; where events were lost, by what it is now."""
    event, why, _ = told.ended.get(watched.candidate, ("", "", ""))
    if event:
        return outcome_of(event, why)
    if watched.candidate in told.refused:
        return outcome_of("refused", told.refused[watched.candidate])
    return "ok" if told.serves == watched.candidate and told.phase == "IDLE" else ""


def _failures(watched: Watched, told: Mapping[str, Told]) -> list[Failure]:
    found = []
    for name in watched.devices:
        each = told.get(name)
        if each is None or bucket_of(watched.rollout.id, name) >= watched.rollout.ppm:
            continue
        event, why, detail = each.ended.get(watched.candidate, ("", "", ""))
        if event in ("refused", "rolled_back"):
            found.append(Failure(name, event, why, detail))
        elif not event and watched.candidate in each.refused:
            found.append(Failure(name, "", each.refused[watched.candidate]))
    return found


def _strangers(watched: Watched, told: Mapping[str, Told]) -> list[str]:
    """Devices that speak of the candidate and belong to no arm, and what to do."""
    rollout, found = watched.rollout, []
    for name in sorted(told):
        if watched.candidate not in {*told[name].began, *told[name].ended}:
            continue
        what = f"{name} reports on version {rollout.version} and counts for nothing"
        if name not in watched.devices:
            found.append(
                f"{what}: it is not enrolled in {rollout.group}, or was revoked; "
                f"`visionops fleet move PROJECT {name} --group {rollout.group}` brings it there"
            )
        elif bucket_of(rollout.id, name) >= rollout.ppm:
            found.append(
                f"{what}: wave {rollout.wave + 1} is not for it; see whether its folder was copied from another "
                "device, and give it a key of its own by "
                f"`visionops fleet provision PROJECT --group {rollout.group} --device {name} --to FOLDER --replace`"
            )
    return found


def _times(watched: Watched, told: Mapping[str, Told]) -> Times:
    """Of the group's devices; strangers count for nothing here, too."""
    own = [told[name] for name in watched.devices if name in told]

    def of(bundle: str) -> Any:
        return pooled([each.answers[bundle] for each in own if bundle in each.answers])

    return Times(of(watched.candidate), of(watched.base))


def _wave_sizes(watched: Watched) -> list[int]:
    """How many of the devices that are enrolled now have the candidate in each wave."""
    buckets = np.array([bucket_of(watched.rollout.id, name) for name in watched.devices], np.int64)
    return [int((buckets < bound).sum()) for bound in watched.rollout.bounds]


def _pairs(before: Look | None, names: Sequence[str]) -> Pairs:
    known = before.pairs if before is not None else ()
    place = {name: number for number, name in enumerate(names)}
    return Pairs(
        np.array([place[each[0]] for each in known], np.int64),
        np.array([place[each[1]] for each in known], np.int64),
        np.array([each[2] for each in known], np.bool_),
        np.array([each[3] for each in known], np.bool_),
    )


def _thinned(history: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
    if len(history) < MOST_LOOKS:
        return history
    half = len(history) // 2
    return (*history[:half:2], *history[half:])


def _finite(told: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no infinity."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in told.items()
    }


def stored_look(project: Project, store: ArtifactStore, rollout: str) -> Look | None:
    """The last look at a rollout, None before the first. Raises `BadVerdict`, `ArtifactDamaged`."""
    try:
        found = store.read_json(_key(project, rollout))
    except ArtifactNotFound:
        return None
    return Look(
        rollout=found["rollout"],
        at=datetime.fromisoformat(found["at"]).astimezone(UTC),
        verdict=RolloutVerdict.from_json(found["verdict"]),
        decision=Decision(**found["decision"]),
        failures=tuple(Failure(**each) for each in found["failures"]),
        strangers=tuple(found["strangers"]),
        pairs=tuple((a, b, lost, won) for a, b, lost, won in found["pairs"]),
        history=tuple(found["history"]),
        waves=tuple(found["waves"]),
        ended_by_others=found["ended_by_others"],
    )


def store_look(project: Project, store: ArtifactStore, found: Look) -> None:
    """Keep a look, in the place of the one before."""
    content = {
        "format": FORMAT,
        **asdict(found),
        "at": found.at.isoformat(),
        "verdict": found.verdict.to_json(),
    }
    store.write_json(_key(project, found.rollout), content)


def _key(project: Project, rollout: str) -> str:
    return f"fleet/{project.delivered_as}/rollouts/{rollout}.json"
