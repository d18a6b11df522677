"""From judged days to what is to be done. Pure: what stands, what was done before and the rules in, steps out."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.monitoring.acting.actions import Action, Kind, Signal, identity_of
from visionops_assets.monitoring.drift_rules import DriftRules, FollowUp
from visionops_assets.monitoring.judgement import State

_WEIGHTY: tuple[Kind, ...] = ("hold", "rollback")
# The better founded first.
_ORDER: tuple[Signal, ...] = ("realised", "estimated", "drift")


@dataclass(frozen=True)
class Noticed:
    """What one signal says of one device group's champion: its states, day by day until the present one."""

    signal: Signal
    group: str
    device_group: str
    model_sha256: str
    states: Sequence[State]

    def sentence(self) -> str:
        """In words."""
        where = "" if self.device_group == self.group else f" on {self.device_group}"
        return f"{self.signal}{where}: {self.states[-1].sentence()}"


@dataclass(frozen=True)
class Compared:
    """The verdict on the version before as a challenger of the champion, on labelled captures of one device group."""

    group: str
    model_sha256: str
    verdict: Verdict


@dataclass(frozen=True)
class Step:
    """One thing to do. `day` is the production day on which the alarm was to be acted on."""

    kind: Kind
    signal: Signal
    group: str
    model_sha256: str
    day: date
    why: str
    verdict: Verdict | None = None

    def identity(self, project: str, *, dry_run: bool) -> str:
        """The same cause gives the same identity. A dry run's is another: what was only said is still to be done."""
        cause = self.verdict.identity if self.verdict is not None else self.day
        return identity_of(project, self.kind, self.group, self.model_sha256, self.signal, cause, dry_run)


def only_reported(day: date, newest: date, today: date, clock_behind: timedelta) -> str:
    """Why a day leads to no action, in words; empty where it is the present.

    That is the newest day with a log, if rows of it may still come: no longer ago than `clock_behind`.
    """
    if day < newest:
        return f"{day} is past: days until {newest} are logged, and the newest decides"
    if today - day > clock_behind:
        return f"{day} is past: more than {clock_behind.days} days ago"
    return ""


def due(states: Sequence[State]) -> State | None:
    """The state after the day on which the alarm that stands now was last to be acted on; None where none stands.

    That day may lie before the newest: a day that has just begun has too few rows to be bad.
    """
    if not states or states[-1].outcome != "FAIL":
        return None
    acting = [state for state in states if state.act and state.since == states[-1].since]
    return acting[-1] if acting else None


def decide(
    noticed: Sequence[Noticed],
    compared: Sequence[Compared],
    done: Sequence[Action],
    rules: DriftRules,
    day: date,
    on_hold: Collection[str] = (),
) -> list[Step]:
    """What is to be done on `day`, the present one; `done` are all actions that were recorded, `on_hold` the groups
    whose promotion waits already, where a hold is an alert.

    A verdict of PASS on the version before leads to what `on_decay.realised` says; any other leads to nothing. A
    standing alarm asks for labels and leads to what is declared for its signal. Of one kind, a device group's champion
    has one action within the cool-down, whichever signal it comes from; a rollback or hold makes alerts needless.
    """
    steps = [_better_before(each, rules, day) for each in compared if each.verdict.verdict == "PASS"]
    for found in sorted(noticed, key=lambda each: _ORDER.index(each.signal)):
        alarm = due(found.states)
        if alarm is None:
            continue
        kinds: tuple[Kind, Kind] = ("labels", _follow_up(found.signal, rules))
        steps += [
            Step(kind, found.signal, found.group, found.model_sha256, alarm.day, found.sentence())
            for kind in kinds
        ]
    chosen: dict[tuple[Kind, str], Step] = {}
    steps = [
        replace(step, kind="alert") if step.kind == "hold" and step.group in on_hold else step
        for step in steps
    ]
    for step in steps:
        if _rested(step, done, rules, day):
            chosen.setdefault((step.kind, step.group), step)
    weightier = {step.group for step in chosen.values() if step.kind in _WEIGHTY}
    weightier |= {step.group for step in steps if step.kind in _WEIGHTY and _recently(step, done, rules, day)}
    return [
        step
        for step in chosen.values()
        if step.kind != "alert" or step.verdict is not None or step.group not in weightier
    ]


def look_again(counted: int, earlier: Sequence[Action], rules: DriftRules) -> bool:
    """Whether a champion and the version before are to be compared on so many labelled captures.

    `earlier` are their comparisons. Each spends significance, so that the next waits for `min_rows` more.
    """
    seen = max((each.images or 0 for each in earlier), default=0)
    return counted - seen >= rules.min_rows


def _better_before(found: Compared, rules: DriftRules, day: date) -> Step:
    primary = found.verdict.evidence.primary if found.verdict.evidence is not None else None
    why = "the version before does better on the same labelled captures"
    if primary is not None and primary.champion is not None:
        chance = "" if primary.p_superior is None else f", p = {primary.p_superior:.2g}"
        why += (
            f": {primary.metric} {primary.challenger:.3f} against {primary.champion:.3f}{chance} at "
            f"{found.verdict.alpha_k:.3g}"
        )
    return Step(rules.on_decay.realised, "realised", found.group, found.model_sha256, day, why, found.verdict)


def _follow_up(signal: Signal, rules: DriftRules) -> Kind:
    """What an alarm of a signal leads to. A rollback takes a comparison: without one, `realised` alerts."""
    found: FollowUp = getattr(rules.on_decay, signal)
    return "alert" if found == "rollback" else found


def _rested(step: Step, done: Sequence[Action], rules: DriftRules, day: date) -> bool:
    """Whether this cause led to no action of this kind yet, and none about this champion lies within the cool-down."""
    return not _recently(step, done, rules, day) and not any(
        _same_cause(step, each) for each in _alike(step, done, rules)
    )


def _recently(step: Step, done: Sequence[Action], rules: DriftRules, day: date) -> bool:
    first = day - timedelta(rules.days.cool_down)
    return any(each.day > first for each in _alike(step, done, rules))


def _alike(step: Step, done: Sequence[Action], rules: DriftRules) -> Iterator[Action]:
    """Actions of this kind about this champion. A dry run's are its own: what was only said is still to be done."""
    for each in done:
        same = (each.kind, each.group, each.model_sha256) == (step.kind, step.group, step.model_sha256)
        if same and each.dry_run == rules.dry_run:
            yield each


def _same_cause(step: Step, action: Action) -> bool:
    if step.verdict is not None:
        return action.about == step.verdict.identity
    return action.day >= step.day
