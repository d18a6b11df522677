"""What a device does next: the table of states, as pure functions from one state to the next.

A state is one JSON file. What has to be done follows from its phase alone, so a device that was killed anywhere
reads it and goes on:

| phase | then |
| --- | --- |
| EMPTY | nothing answers yet; an assignment leads to DOWNLOAD |
| IDLE | `good` answers |
| DOWNLOAD | `good` answers; the candidate's files are fetched |
| PREPARE | `good` answers; the candidate is compiled for this machine, each attempt counted before it runs |
| SELFTEST | `good` answers; the candidate answers its golden images in a process of its own, counted before it runs |
| SHADOW | `good` answers; the candidate is whole and tested, and waits for its trial |
| TRIAL | the candidate answers, each start counted before it loads; a failure leads back to `good` |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from edge.formats import Bundle, Phase, State

Arm = Literal["trial", "shadow", "control"]

MOST_PREPARES = 3
MOST_TESTS = 4
MOST_STARTS = 3
MOST_WRONG_DIGESTS = 3
# Phases that one candidate may go through before it is taken for going round in circles.
MOST_TRANSITIONS = 40
MOST_QUARANTINED = 16
MOST_EVENTS = 256
_NUMBER = re.compile(r"\d[\d,.]*")

# What may have been the device's own trouble is tried again after this time.
LAPSES_AFTER = timedelta(hours=24)
LAPSING = frozenset({"unprepared", "selftest_died", "no_space", "slow", "bad_digest"})
# These end as soon as what they were refused for is no longer so.
RECHECKED = frozenset({"wrong_runtime", "below_floor", "revoked"})


@dataclass(frozen=True)
class Assigned:
    """What a group's assignment asks of this device. `unmet` says by bundle why this machine cannot run it;
    without `may_swap` what answers stays what it is, until a later look."""

    base: Bundle
    candidate: Bundle | None = None
    rollout: str = ""
    arm: Arm = "control"
    floor: int = 0
    revoked: frozenset[str] = frozenset()
    unmet: Mapping[str, str] = field(default_factory=dict)
    may_swap: bool = True


def booted(state: State, boot_id: str) -> State:
    """A process of the agent started; `boot_id` is the machine's."""
    return replace(state, boots=state.boots + 1, boot_id=boot_id)


def assigned(state: State, wanted: Assigned, now: datetime, *, previous_whole: bool) -> State:
    """The group's assignment as it is now. `previous_whole`: the files of `previous` are there and right."""
    state = _lapse(replace(state, floor=wanted.floor), wanted, now)
    if state.candidate is not None and state.candidate.id in wanted.revoked:
        state = failed(state, "revoked", now)
    goal, arm = _goal(state, wanted)
    if goal == state.good:
        return state if state.candidate is None else _withdrawn(state, now)
    if goal == state.candidate:
        return _in_arm(state, arm, wanted, now)
    if state.candidate is not None:
        state = _withdrawn(state, now)
    if state.quarantined(goal) is not None:
        return state
    refusal = _refusal(goal, wanted)
    if refusal is not None:
        return _refused(state, goal, *refusal, now)
    if goal == state.previous and previous_whole:
        if not wanted.may_swap:
            return state
        # It served here before, whole as it is: no download, no trial, one write.
        swapped = replace(state, good=state.previous, previous=state.good, phase="IDLE")
        return _told(swapped, "went_back", now, bundle=goal.id)
    state = replace(
        state,
        candidate=goal,
        phase="DOWNLOAD",
        rollout=wanted.rollout if goal == wanted.candidate else "",
        preparing=State.preparing,
        tests=0,
        starts=0,
        wrong_digests=0,
        transitions=0,
        since="",
    )
    return _told(state, "assigned", now, bundle=goal.id)


def fetched(state: State, now: datetime, *, prepare: bool = False) -> State:
    """All files of the candidate are there, right by digest; `prepare`: it has to be compiled for this machine."""
    return _enter(state, "PREPARE" if prepare else "SELFTEST", now)


def may_prepare(state: State, engine: str, now: datetime) -> bool:
    """Whether an engine was not begun too often; what may have been a moment's trouble is forgotten after a day."""
    name, count, at = state.preparing
    if name != engine or count < MOST_PREPARES:
        return True
    return _lapsed(at, now)


def prepare_starts(state: State, engine: str, now: datetime) -> State:
    """Count an attempt before it runs: one that takes the whole machine down is counted too.

    A candidate that cannot be prepared is left; what serves already answers without its engine.
    """
    if not may_prepare(state, engine, now):
        return failed(state, "unprepared", now, "its process died") if state.phase == "PREPARE" else state
    name, count, _ = state.preparing
    again = name == engine and count < MOST_PREPARES
    return replace(state, preparing=(engine, count + 1 if again else 1, _time(now)))


def prepared(state: State, now: datetime) -> State:
    """The candidate's engine is there, or none is needed any more."""
    return _enter(state, "SELFTEST", now)


def unprepared(state: State, now: datetime) -> State:
    """The engine of a candidate that is not tested yet is gone, as after another runtime was installed."""
    return _enter(state, "PREPARE", now) if state.phase == "SELFTEST" else state


def wrong_digest(state: State, now: datetime) -> State:
    """A file of the candidate was fetched whole and is not what was signed."""
    state = replace(state, wrong_digests=state.wrong_digests + 1)
    return failed(state, "bad_digest", now) if state.wrong_digests >= MOST_WRONG_DIGESTS else state


def test_starts(state: State, now: datetime) -> State:
    """Count a self-test before it runs, so that one that takes the whole machine down is counted too."""
    if state.tests >= MOST_TESTS:
        return failed(state, "selftest_died", now)
    return replace(state, tests=state.tests + 1)


def tested(state: State, arm: Arm, now: datetime) -> State:
    """The candidate answered its golden images as it should; `arm` says what it is for on this device."""
    phase: Phase = "SHADOW" if arm == "shadow" and state.good is not None else "TRIAL"
    entered = _enter(state, phase, now)
    if entered.phase != phase:
        return entered
    return _told(
        replace(entered, starts=0, since=_time(now)), phase.lower(), now, bundle=_candidate(state).id
    )


def starts(state: State, now: datetime) -> State:
    """Count a start of the candidate before it is loaded."""
    if state.phase != "TRIAL":
        return state
    if state.starts >= MOST_STARTS:
        return failed(state, "start_limit", now)
    return replace(state, starts=state.starts + 1)


def first_answer(state: State) -> State:
    """The candidate answered rightly since its start: it is no model that dies while it is loaded."""
    return replace(state, starts=0) if state.starts else state


def observed(state: State, now: datetime) -> State:
    """The trial is over and nothing went wrong: in one write the candidate becomes the good one."""
    candidate = _candidate(state)
    done = replace(
        state,
        good=candidate,
        previous=state.good,
        candidate=None,
        phase="IDLE",
        rollout="",
        tests=0,
        starts=0,
        since="",
    )
    return _told(done, "committed", now, bundle=candidate.id, rollout=state.rollout)


def failed(state: State, why: str, now: datetime, detail: str = "") -> State:
    """Leave the candidate, for this reason: in one write it is quarantined, reported, and the good one answers."""
    candidate = _candidate(state)
    event = "rolled_back" if state.phase == "TRIAL" else "refused"
    told = {"detail": detail} if detail else {}
    left = _without_candidate(_quarantine(state, candidate, why, now))
    return _told(left, event, now, bundle=candidate.id, rollout=state.rollout, why=why, **told)


def good_corrupt(state: State, now: datetime, *, previous_whole: bool) -> State:
    """The good model's file is not what was signed: a bad disk. The previous one if it is whole, else none."""
    bad = state.good
    if bad is None:
        return state
    if previous_whole and state.previous is not None:
        state = replace(state, good=state.previous, previous=None)
    else:
        state = replace(state, good=None, previous=None)
        if state.candidate is None:
            state = replace(state, phase="EMPTY")
    return _told(state, "good_corrupt", now, bundle=bad.id)


def moved(state: State, group: str, now: datetime) -> State:
    """The device belongs to another group from now on."""
    if group == state.group:
        return state
    return _told(replace(state, group=group), "moved", now, group=group)


def reports_begin(state: State, now: datetime) -> State:
    """Reports are counted from the time on, so that a device that lost its state gives no number twice."""
    return state if state.reported else replace(state, reported=max(1, int(now.timestamp())))


def report_signed(state: State, sequence: int, last: int) -> State:
    """A report is on the disk, with the events up to this number."""
    return replace(state, reported=sequence, outbox=tuple(each for each in state.outbox if each["id"] > last))


def report_dropped(state: State) -> State:
    """There is no room for so many reports: the oldest goes."""
    return replace(state, dropped_reports=state.dropped_reports + 1)


def told_of(state: State, problem: str | None, now: datetime) -> State:
    """What is wrong with a device, or that nothing is any more, is an event where it is another than was told.

    Numbers alone make no other: room on a disk, seconds and bytes change all the time.
    """
    kind = _NUMBER.sub("", problem or "")
    if kind == state.told:
        return state
    event = _told(state, "problem", now, detail=problem) if problem else _told(state, "well", now)
    return replace(event, told=kind)


def _goal(state: State, wanted: Assigned) -> tuple[Bundle, Arm]:
    """The bundle that this device is to hold as its own, and what for."""
    candidate = wanted.candidate
    if candidate is None or candidate.id in wanted.revoked or wanted.arm == "control":
        return wanted.base, "trial"
    if candidate == state.good:
        # A candidate that was committed here stays while its rollout does.
        return (candidate, "trial") if wanted.arm == "trial" else (wanted.base, "trial")
    if state.quarantined(candidate) is not None or _refusal(candidate, wanted) is not None:
        # Its refusal is told once, below, where nothing else is to be done.
        told = state.quarantined(candidate) is not None or state.good != wanted.base
        return (wanted.base if told else candidate), "trial"
    if state.good is None or (wanted.arm == "shadow" and state.good != wanted.base):
        return wanted.base, "trial"
    return candidate, wanted.arm


def _in_arm(state: State, arm: Arm, wanted: Assigned, now: datetime) -> State:
    if state.phase == "SHADOW" and arm == "trial" and wanted.may_swap:
        return tested(state, arm, now)
    if state.phase == "TRIAL" and arm == "shadow":
        return tested(state, arm, now)
    return replace(state, rollout=wanted.rollout if state.candidate == wanted.candidate else state.rollout)


def _refusal(bundle: Bundle, wanted: Assigned) -> tuple[str, str] | None:
    if bundle.id in wanted.revoked:
        return "revoked", ""
    if bundle.release < wanted.floor:
        return "below_floor", f"release {bundle.release} is below {wanted.floor}"
    unmet = wanted.unmet.get(bundle.id)
    return ("wrong_runtime", unmet) if unmet is not None else None


def _refused(state: State, bundle: Bundle, why: str, detail: str, now: datetime) -> State:
    told = {"detail": detail} if detail else {}
    return _told(_quarantine(state, bundle, why, now), "refused", now, bundle=bundle.id, why=why, **told)


def _withdrawn(state: State, now: datetime) -> State:
    candidate = _candidate(state)
    if state.phase == "TRIAL" and state.good is None:
        # The only model of a device answers until there is another one.
        return observed(state, now)
    return _told(_without_candidate(state), "withdrawn", now, bundle=candidate.id, rollout=state.rollout)


def _without_candidate(state: State) -> State:
    phase: Phase = "IDLE" if state.good is not None else "EMPTY"
    return replace(
        state, candidate=None, phase=phase, rollout="", tests=0, starts=0, wrong_digests=0, since=""
    )


def _enter(state: State, phase: Phase, now: datetime) -> State:
    if state.transitions >= MOST_TRANSITIONS:
        return failed(state, "loop", now)
    return replace(state, phase=phase, transitions=state.transitions + 1)


def _quarantine(state: State, bundle: Bundle, why: str, now: datetime) -> State:
    others = tuple(each for each in state.quarantine if each[0] != bundle.id)
    return replace(state, quarantine=(*others, (bundle.id, why, _time(now)))[-MOST_QUARANTINED:])


def _lapsed(at: str, now: datetime) -> bool:
    # A clock that went back must hold nothing for years.
    return not timedelta(0) <= now - datetime.fromisoformat(at) < LAPSES_AFTER


def _lapse(state: State, wanted: Assigned, now: datetime) -> State:
    bundles = {each.id: each for each in (wanted.base, wanted.candidate) if each is not None}

    def holds(id: str, why: str, at: str) -> bool:
        if why in LAPSING:
            return not _lapsed(at, now)
        if why in RECHECKED and id in bundles:
            refusal = _refusal(bundles[id], wanted)
            return refusal is not None and refusal[0] == why
        return True

    return replace(state, quarantine=tuple(each for each in state.quarantine if holds(*each)))


def _told(state: State, event: str, now: datetime, **what: Any) -> State:
    """Event and cause are one write. The oldest are dropped, and counted, where nobody fetches them."""
    number = state.seq + 1
    kept = {name: value for name, value in what.items() if value != ""}
    outbox = (*state.outbox, {"id": number, "at": _time(now), "event": event, **kept})
    dropped = max(0, len(outbox) - MOST_EVENTS)
    return replace(state, seq=number, outbox=outbox[dropped:], dropped=state.dropped + dropped)


def _candidate(state: State) -> Bundle:
    if state.candidate is None:
        raise ValueError(f"a device in phase {state.phase} has no candidate")
    return state.candidate


def _time(now: datetime) -> str:
    return now.isoformat(timespec="seconds")
