"""Whether the newest dataset version wants a run now, a pure decision over what is known; and sensors as all of
them are made here, and how one says why it asks for nothing.
"""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from visionops_assets.common.run_tags import AWAITING_APPROVAL, INSUFFICIENT, PROMOTED, REFUSED
from visionops_assets.config.project import Trigger
from visionops_assets.shells.unstable_dagster import unwarned

# How a skipped tick with nothing to do tells itself from one that waits for somebody to mend something, and from one
# that waits because somebody wanted it so.
_WRONG, _CANCELLED = "error: ", "cancelled: "
REASONS_SAID = 5
SETTLED = {PROMOTED, REFUSED, INSUFFICIENT, AWAITING_APPROVAL}


@dataclass(frozen=True)
class Wait:
    """No run now, and why; `wrong` where somebody has to mend something first, `cancelled` where a person wanted so,
    `settled` where there is nothing left to wait for; `for_a_person` who has to decide, and nothing to mend."""

    reason: str
    wrong: bool = False
    cancelled: bool = False
    settled: bool = False
    for_a_person: bool = False


def owned_sensor(**options: Any) -> Callable[[Callable[..., Any]], dg.SensorDefinition]:
    """`dg.sensor` with owners, which Dagster calls a beta feature twice a sensor and load; said never."""

    def decorate(evaluate: Callable[..., Any]) -> dg.SensorDefinition:
        with unwarned():
            return dg.sensor(**options)(evaluate)

    return decorate


def waiting_for(waits: Sequence[Wait], otherwise: str) -> dg.SkipReason:
    """Why a tick asks for nothing.

    What is wrong comes first, and makes `visionops tick` end with exit code 1; then what a person cancelled.
    """
    said = sorted(waits, key=lambda wait: (not wait.wrong, not wait.cancelled))
    reason = "; ".join(wait.reason for wait in said[:REASONS_SAID]) or otherwise
    first = said[0] if said else Wait(reason)
    return dg.SkipReason(f"{_WRONG if first.wrong else _CANCELLED if first.cancelled else ''}{reason}")


def skip_wrong(what: str) -> dg.SkipReason:
    """A tick that asks for nothing because something is wrong."""
    return waiting_for([Wait(what, wrong=True)], "")


def also_wrong(what: str, reason: dg.SkipReason | None) -> dg.SkipReason:
    """The reason of a tick that asks for nothing, with something that is wrong before it."""
    said = (reason.skip_message if reason is not None else None) or ""
    others = what_is_wrong(said)
    return waiting_for([Wait(what, wrong=True), *([Wait(others)] if others else [])], "")


def what_is_wrong(skip_message: str | None) -> str | None:
    """What is wrong, of a skipped tick's message; None where nothing is."""
    if skip_message is None or not skip_message.startswith(_WRONG):
        return None
    return skip_message.removeprefix(_WRONG)


def was_cancelled(skip_message: str | None) -> bool:
    """Whether a skipped tick waits for what a person cancelled."""
    return skip_message is not None and skip_message.startswith(_CANCELLED)


@dataclass(frozen=True)
class EarlierRun:
    """A decision run of one dataset version and training version. `counts` says whether it was an attempt; `rules` is
    the tag of the gate's rules, None where an earlier release asked."""

    run_id: str
    status: Literal["in progress", "succeeded", "errored", "cancelled"]
    outcome: str | None = None
    counts: bool = True
    rules: str | None = None


@dataclass(frozen=True)
class Go:
    """Request a run: the `attempt`, from 1, and the `number` of all runs, those that were no attempts among them."""

    attempt: int
    number: int


@dataclass(frozen=True)
class Newest:
    """What is known of the newest dataset version.

    `stored_verdict` is that of a decision by the present recipe and code; `runs` are those that were requested for it;
    `age` is the commit's; `new_samples` counts images since the last decided version and may stop counting at
    `trigger.min_new_samples`.

    `again` says that what was decided is asked anew, under other rules or because the decision is lost: what the
    trigger says of new data is no matter then, and `runs` are those since.
    """

    partition: str
    stored_verdict: str | None
    runs: Sequence[EarlierRun]
    age: datetime.timedelta
    since_last_request: datetime.timedelta | None
    new_samples: int
    again: bool = False


def readiness(project: str, trigger: Trigger, newest: Newest) -> Go | Wait:
    """Decide whether the newest dataset version gets a run.

    What is dated in the future has an age of 0. A refusal is final. A PASS whose promotion did not complete, and a run
    that errored, are requested again, up to `trigger.attempts` times; one that was interrupted is requested again
    whatever else there was.
    """
    partition, runs = newest.partition, newest.runs
    for run in runs:
        if run.status == "in progress":
            return Wait(f"run {run.run_id} on {partition} is in progress")
        if run.outcome in SETTLED:
            return Wait(f"{partition} is decided: {run.outcome}", settled=True)
    if newest.stored_verdict in ("FAIL", "INSUFFICIENT") and not newest.again:
        return Wait(f"{partition} is decided: {newest.stored_verdict}", settled=True)
    attempts = [run for run in runs if run.counts]
    by_hand = next((run for run in reversed(attempts) if run.status == "cancelled"), None)
    stopped = cancelled(project, partition, by_hand.run_id) if by_hand is not None else None
    stopped = stopped or given_up(project, partition, trigger.attempts, [run.run_id for run in attempts])
    if stopped is not None:
        return stopped
    if runs or newest.again:
        return Go(len(attempts) + 1, len(runs) + 1)
    return _not_yet(trigger, newest) or Go(1, 1)


def _not_yet(trigger: Trigger, newest: Newest) -> Wait | None:
    """What the trigger waits for before a first run."""
    age, since_last_request = max(newest.age, datetime.timedelta(0)), newest.since_last_request
    if age < trigger.quiet_for:
        return Wait(
            f"{newest.partition} is {_in_seconds(age)} old; waiting for {_in_seconds(trigger.quiet_for)} of quiet"
        )
    if since_last_request is not None:
        since_last_request = max(since_last_request, datetime.timedelta(0))
    if since_last_request is not None and since_last_request < trigger.at_most_every:
        return Wait(
            f"the last run was requested {_in_seconds(since_last_request)} ago; at most one in "
            f"{_in_seconds(trigger.at_most_every)}"
        )
    if newest.new_samples < trigger.min_new_samples:
        return Wait(
            f"{newest.new_samples} new images since the last decision; waiting for {trigger.min_new_samples}"
        )
    return None


def cancelled(project: str, what: str, run_id: str) -> Wait:
    """What to say of a dataset version, a day or a batch whose run a person cancelled."""
    reason = (
        f"run {run_id} on {what} was cancelled by hand; `visionops tick {project} --again` when it may run"
    )
    return Wait(reason, cancelled=True)


def failed(count: int) -> str:
    """How often a thing failed, in words."""
    return "failed once" if count == 1 else f"failed {count} times"


def given_up(project: str, what: str, most: int, attempts: Sequence[str]) -> Wait | None:
    """The same of one that failed as often as it may; None where it did not. `attempts` are run ids, oldest first."""
    if len(attempts) < most:
        return None
    return Wait(
        f"{what} {failed(len(attempts))} with an error, the last in run {attempts[-1]}: mend the cause, then "
        f"`visionops tick {project} --again`",
        wrong=True,
    )


def stopped(project: str, what: str, most: int, attempts: Sequence[dg.DagsterRun]) -> Wait | None:
    """What to say of one whose newest attempt a person cancelled, or that failed as often as it may; None of others.
    `attempts` are its runs that count, newest first."""
    if attempts and attempts[0].status == dg.DagsterRunStatus.CANCELED:
        return cancelled(project, what, attempts[0].run_id)
    return given_up(project, what, most, [run.run_id for run in reversed(attempts)])


def _in_seconds(span: datetime.timedelta) -> str:
    return f"{span.total_seconds():.0f} s"
