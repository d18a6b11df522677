"""From the days of each champion to what is to be done about it. Pure: what stands, what was done before and the
rules in, steps out, with what each does in words and the command that undoes it or carries on.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from resources.models.records import EVERYWHERE, ModelVersion, RegisteredModel, alias_of, group_option
from visionops_assets.champions.history import Production, groups, production
from visionops_assets.config.production_rules import DriftRules, FollowUp
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.evaluation.verdict_wording import verdict_summary
from visionops_assets.monitoring.model_days import AlarmState, Day, Where, alarm_states
from visionops_assets.monitoring.response.actions import Action, Kind, Signal, identity_of

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
    states: Sequence[AlarmState]

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


def alarm_due(states: Sequence[AlarmState]) -> AlarmState | None:
    """The state after the day on which the alarm that stands now was last to be acted on; None where none stands.

    That day may lie before the newest: a day that has just begun has too few rows to be bad.
    """
    if not states or states[-1].outcome != "FAIL":
        return None
    acting = [state for state in states if state.act and state.since == states[-1].since]
    return acting[-1] if acting else None


def next_steps(
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
        alarm = alarm_due(found.states)
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


def comparison_is_due(counted: int, earlier: Sequence[Action], rules: DriftRules) -> bool:
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


@dataclass(frozen=True)
class Champion:
    """The version that runs on a device group by an alias of its own, and the one that it replaced, if any."""

    group: str
    version: ModelVersion
    before: ModelVersion | None
    now: Production


@dataclass(frozen=True)
class Champions:
    """The champions of a project, by device group."""

    own: Mapping[str, Champion]

    def on(self, device_group: str) -> Champion | None:
        """What runs on a device group: its own champion, else that of `all`."""
        return self.own.get(device_group) or self.own.get(EVERYWHERE)

    def of(self, where: Where) -> Champion | None:
        """The champion that these rows are of; None where another model runs there by now."""
        found = self.on(where.device_group)
        return found if found is not None and found.version.weights_sha256 == where.model_sha256 else None


def champions_of(model: RegisteredModel, versions: Mapping[int, ModelVersion]) -> Champions:
    """What runs now. A champion whose version was deleted from the registry is left out."""
    found = {}
    for group in groups(model):
        version = versions.get(model.aliases.get(alias_of(group), -1))
        if version is None:
            continue
        now = production(model, group)
        # Somebody put it there by hand: nothing is undone before they say what runs.
        before = None if now.foreign else versions.get(now.was_before() or -1)
        same = before is None or before.weights_sha256 == version.weights_sha256
        found[group] = Champion(group, version, None if same else before, now)
    return Champions(found)


def notice(
    drift: Mapping[Where, list[Day]],
    performance: Mapping[Where, list[Day]],
    day: date,
    running: Champions,
    rules: DriftRules,
) -> list[Noticed]:
    """What the days of every model until `day` say of those that run now."""
    by_signal: list[tuple[Signal | None, Mapping[Where, list[Day]]]] = [("drift", drift), (None, performance)]
    found = []
    for signal, days in by_signal:
        for where, of_model in days.items():
            champion = running.of(where)
            # Of a device group that fell silent nothing new is known.
            if champion is None or of_model[-1].day < day - timedelta(rules.days.within):
                continue
            states = alarm_states(of_model, rules.days)
            named = signal or _signal_of_performance(of_model)
            found.append(Noticed(named, champion.group, where.device_group, where.model_sha256, states))
    return found


def _signal_of_performance(days: list[Day]) -> Signal:
    """Whether it was labels that showed what the newest bad day shows."""
    signs = next((day.signs for day in reversed(days) if day.signs), ())
    return "realised" if signs and signs[0].startswith("realised") else "estimated"


def done_in_words(
    project: str, kind: Kind, champion: Champion, days: Sequence[str] = (), images: int = 0
) -> str:
    """What follows from an action on a champion; of a request for labels, how many `images` of which `days`."""
    on = group_option(champion.group)
    version = champion.version.version
    if kind == "labels":
        named = "".join(f" --day {day}" for day in days)
        return f"{images:,} images wait for labels: `visionops labels export {project} --to FOLDER{named}`"
    if kind == "rollback":
        return (
            f"Promotion is on hold: `visionops release {project}{on} --why TEXT` lifts it, "
            f"`visionops rollback {project} --model-version {version}{on} --why TEXT` goes back to version {version}"
        )
    back = (
        f"`visionops rollback {project} --leaving {version}{on} --why TEXT` goes back to version "
        f"{champion.before.version} at once"
        if champion.before is not None
        else f"version {version} has none before it to go back to"
    )
    if kind == "hold":
        return f"Challengers are judged, none is promoted until `visionops release {project}{on} --why TEXT`; {back}"
    return f"Look at `visionops status {project}`; {back}"


def comparison_in_words(champion: int, before: int, verdict: Verdict) -> str:
    """What came out of a comparison of a champion with the version before."""
    said = {
        "PASS": f"Version {before} does better than version {champion}",
        "FAIL": f"Version {before} is no way back from version {champion}",
        "INSUFFICIENT": f"Version {before} is not shown to do better than version {champion}",
    }[verdict.verdict]
    primary = verdict.evidence.primary if verdict.evidence is not None else None
    if primary is None or primary.champion is None:
        return f"{said}: {verdict_summary(verdict)}"
    chance = "" if primary.p_superior is None else f", p = {primary.p_superior:.2g} at {verdict.alpha_k:.3g}"
    return f"{said}: {primary.metric} {primary.challenger:.3f} against {primary.champion:.3f}{chance}"
