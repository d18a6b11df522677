"""What follows of rollouts, as it stands: which change of what runs, which hold and which next rollout is due.

All of it is read from the registered model, so whoever was killed before a step is followed by one who takes it, and
nobody takes one twice.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from edge.formats import bucket_of
from resources.models.records import EVERYWHERE, RegisteredModel, group_option
from visionops_assets.champions.history import (
    CHANGES,
    PROMOTIONS,
    HistoryEntry,
    groups,
    production,
    read_history,
)
from visionops_assets.champions.registered_model import Registry, tag_name
from visionops_assets.config.project import Project
from visionops_assets.config.rollout_rules import RolloutRules
from visionops_assets.promotion.production_change import Attribution, LedFrom, deliver_to_group
from visionops_assets.promotion.rollback import hold
from visionops_assets.rollout.rollouts import (
    ROLLOUT_ENTRIES,
    Asked,
    Entry,
    Rollout,
    folded,
    in_progress,
    newest,
    read_entries,
    start,
)
from visionops_assets.rollout.waves import ALL_PPM, ppm_of, wave_sizes

WHO = "VisionOps"
# By group, its devices that were heard of lately.
Alive = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Step:
    """One thing that is due on a group: to `adopt` what it is assigned as its own champion, since a rollout has a base;
    to `deliver` what a rollout completed; to `hold` after one that failed; to `supersede` one, or to `start` one."""

    kind: Literal["adopt", "deliver", "hold", "supersede", "start"]
    group: str
    version: int
    why: str
    rollout: Rollout | None = None


def rollouts_of(model: RegisteredModel) -> list[Rollout]:
    """All of a project, in the order in which they began. Raises `BadEntry`."""
    return folded(read_entries(model.tags)[0])


def wanted_rollout(model: RegisteredModel, rollouts: Sequence[Rollout], group: str) -> Rollout | None:
    """The rollout whose candidate a group is assigned: the one in progress, or one that completed and whose version is
    not yet the group's own."""
    last = newest(rollouts, group)
    if last is None or (last.ended and not _is_undelivered(model, last)):
        return None
    return last


def ended_by(project: Project, model: RegisteredModel, rollout: Rollout) -> str | None:
    """What ends a rollout in progress whatever its devices do: somebody changed its base or candidate meanwhile."""
    now = production(model, rollout.group)
    if rollout.group not in project.delivery.groups:
        return f"base moved: the project file names {rollout.group} no more"
    if now.version != rollout.base:
        by = f" ({now.since.sentence()})" if now.since is not None else ""
        runs = f"runs version {now.version}" if now.version is not None else "has no champion of its own"
        return f"base moved: {rollout.group} {runs} now{by}"
    for entry in _entries(model):
        left = entry.from_version == rollout.version != entry.to_version and entry.when >= rollout.began
        if left and entry.group == EVERYWHERE and entry.kind in ("rollback", "retirement"):
            return f"base moved: version {rollout.version} was rolled back ({entry.sentence()})"
    return None


def steps_due(
    project: Project, model: RegisteredModel, assigned: Mapping[str, int], alive: Alive
) -> tuple[list[Step], list[str]]:
    """What is due, at most one step a group, and why a rollout cannot begin now. `assigned` is the version that each
    group is assigned. Raises `BadEntry`."""
    rollouts = rollouts_of(model)
    steps, waits = [*_unfinished(model, rollouts), *_refused_by_all(project, model, rollouts)], list[str]()
    busy = {each.group for each in steps}
    for group in project.delivery.groups:
        if group in busy or (rules := project.delivery.groups[group].rollout) is None:
            continue
        found = _adoption(project, model, group, assigned) or _next(project, model, rollouts, group, rules)
        if found is not None and found.kind == "start" and not alive.get(group):
            waits.append(
                f"{group} waits with version {found.version}: a rollout begins once a device of it was heard of; "
                f"`visionops fleet status {project.project}` shows its devices"
            )
        elif found is not None:
            steps.append(found)
    return steps, waits


def _unfinished(model: RegisteredModel, rollouts: Sequence[Rollout]) -> Iterator[Step]:
    for group in dict.fromkeys(each.group for each in rollouts):
        last = newest(rollouts, group)
        assert last is not None
        if _is_undelivered(model, last):
            yield Step("deliver", group, last.version, last.why, last)
        elif last.end is not None and last.end.kind == "fail" and not _is_in_history(model, last, "hold"):
            yield Step("hold", group, last.version, last.why, last)


def _refused_by_all(project: Project, model: RegisteredModel, rollouts: Sequence[Rollout]) -> Iterator[Step]:
    """A hold of all where every group that follows them refused their version: else the next challenger is judged
    against a model that nobody runs."""
    version, following = production(model, EVERYWHERE).version, project.delivery.following
    if not following or any(project.delivery.groups[group].rollout is None for group in following):
        return
    last = [newest(rollouts, group) for group in following]
    failed = [each for each in last if each is not None and each.end is not None and each.end.kind == "fail"]
    if len(failed) < len(following) or any(each.version != version for each in failed):
        return
    latest = max(failed, key=lambda each: each.end.when if each.end is not None else each.began)
    # Whoever released it has read it.
    if any(
        each.kind == "hold" and each.verdict == latest.id and each.group == EVERYWHERE
        for each in _entries(model)
    ):
        return
    why = f"every device group refused version {version}: `visionops rollback {model.project} --why TEXT` leaves it"
    yield Step("hold", EVERYWHERE, latest.version, why, latest)


def _entries(model: RegisteredModel) -> Sequence[HistoryEntry]:
    return read_history(model.tags).entries


def _is_undelivered(model: RegisteredModel, rollout: Rollout) -> bool:
    """Whether a rollout completed and the group's alias does not name its version yet, nor another than its base."""
    if rollout.ended != "complete":
        return False
    now = production(model, rollout.group)
    if now.version != rollout.base or rollout.end is None:
        return False
    return not any(
        each.group == rollout.group
        and each.kind in CHANGES
        and each.when >= rollout.end.when
        and each != now.incomplete
        for each in _entries(model)
    )


def _is_in_history(model: RegisteredModel, rollout: Rollout, kind: str) -> bool:
    return any(
        each.kind == kind and each.group == rollout.group and each.verdict == rollout.id
        for each in _entries(model)
    )


def _adoption(
    project: Project, model: RegisteredModel, group: str, assigned: Mapping[str, int]
) -> Step | None:
    """A group that rollouts lead runs by an alias of its own from the first on: it never follows at once again."""
    own, every = production(model, group), production(model, EVERYWHERE)
    follows = project.delivery.groups[group].follow == "all"
    if not follows or own.version is not None or own.foreign or own.on_hold:
        return None
    if own.incomplete is not None and own.incomplete.kind not in PROMOTIONS:
        return None
    if every.version is None or every.foreign or every.incomplete:
        return None
    version = assigned.get(group, every.version)
    if version not in {each.version for each in every.intervals} or not model.has(version):
        version = every.version
    return Step("adopt", group, version, "it is led by rollouts from now on")


def _next(
    project: Project, model: RegisteredModel, rollouts: Sequence[Rollout], group: str, rules: RolloutRules
) -> Step | None:
    """The rollout of what all were promoted to, where the group follows that and did not try it since."""
    own, every = production(model, group), production(model, EVERYWHERE)
    since, version = every.since, every.version
    if project.delivery.groups[group].follow != "all" or own.version in (None, version) or version is None:
        return None
    if since is None or since.kind not in PROMOTIONS or own.foreign or own.incomplete or every.incomplete:
        return None
    if own.on_hold or every.on_hold or not model.has(version):
        return None
    last = own.since
    by_hand = last is not None and (last.who != WHO or last.kind not in PROMOTIONS)
    if last is not None and by_hand and last.when >= since.when:
        # It was given that knowing of this.
        return None
    tried = [each for each in rollouts if each.group == group and each.version == version]
    if any(each.began >= since.when for each in tried):
        return None
    before = in_progress(rollouts, group)
    if before is None:
        return Step("start", group, version, f"all run it: {since.why}"[:500])
    if not rules.supersede:
        return None
    return Step("supersede", group, before.version, f"version {version} was promoted meanwhile", before)


def carry_out(registry: Registry, project: Project, step: Step, alive: Alive, now: datetime) -> str:
    """Take a step; what was done, in words. Raises what a promotion or a hold raises, and `RolloutRefused`."""
    name, by = project.project, Attribution(WHO, now, step.why)
    if step.kind in ("adopt", "deliver"):
        led = LedFrom(base=None)
        if step.rollout is not None:
            by = Attribution(step.rollout.who, now, step.why)
            led = LedFrom(step.rollout.base, step.rollout.id)
        deliver_to_group(registry, project=name, group=step.group, by=by, version=step.version, led=led)
        done = "completed its rollout" if led.rollout else "is led by rollouts from now on"
        return f"{step.group} {done}: version {step.version} is its own champion"
    if step.kind == "hold" and step.rollout is not None:
        hold(registry, project=name, by=by, group=step.group, rollout=step.rollout.id)
        undo = f"undo: `visionops release {name}{group_option(step.group)} --why TEXT`"
        return f"{step.group} is on hold: {step.why}; {undo}"
    if step.kind == "supersede" and step.rollout is not None:
        append(registry, name, lambda _: _end_of(step, now))
        return f"{step.group}: {step.why}"
    begun = append(
        registry,
        name,
        lambda model: first_entry(
            project,
            model,
            step.group,
            step.version,
            Reach(alive.get(step.group, ())),
            _since_promotion(model, by),
        ),
    )
    return f"{step.group}: the rollout {begun.rollout if begun is not None else ''} begins"


def _since_promotion(model: RegisteredModel, by: Attribution) -> Attribution:
    """No earlier than what it follows, though a clock was ahead then: else an abort would be followed by another."""
    since = production(model, EVERYWHERE).since
    return by if since is None else replace(by, when=max(by.when, since.when))


def _end_of(step: Step, now: datetime) -> Entry:
    assert step.rollout is not None
    return Entry(step.rollout.id, step.group, "supersede", now, WHO, step.why)


def append(registry: Registry, project: str, make: Callable[[RegisteredModel], Entry | None]) -> Entry | None:
    """Write the entry, if any, that is made of the registered model as it is, under the lock that promotions take."""
    with registry.lock(project):
        model = registry.models.get(project)
        entry = make(model)
        if entry is None:
            return None
        registry.models.recall(project)
        number = read_entries(model.tags)[1]
        registry.models.set_tag(project, tag_name(ROLLOUT_ENTRIES, number), entry.to_json())
    return entry


@dataclass(frozen=True)
class Reach:
    """Over which devices a rollout goes, those that were heard of, in which shares of them, by default the project
    file's; `base` is what the group runs, where that is not its own champion yet."""

    devices: Sequence[str]
    shares: Sequence[float] | None = None
    base: int | None = None


def first_entry(
    project: Project, model: RegisteredModel, group: str, version: int, over: Reach, by: Attribution
) -> Entry:
    """The entry by which a rollout begins. Raises `RolloutRefused`, `BadWaves`."""
    rules = project.delivery.groups[group].rollout if group in project.delivery.groups else None
    shares, alive = over.shares or (rules or RolloutRules()).waves, over.devices
    now = production(model, group)
    arrived = {
        each.version
        for name in groups(model)
        for each in production(model, name).intervals
        if model.has(each.version)
    }
    asked = Asked(
        project=model.project,
        group=group,
        version=version,
        waves=tuple(shares),
        groups=list(project.delivery.groups),
        devices=len(alive),
        passed=version in arrived,
        on_hold=now.held_by.sentence() if now.held_by is not None else "",
        base=now.version if now.version is not None else over.base,
    )
    entry = start(asked, rollouts_of(model), when=by.when, who=by.who, why=by.why)
    buckets = [bucket_of(entry.rollout, device) for device in alive]
    bounds = [ppm_of(buckets, size) for size in wave_sizes(len(alive), shares)]
    return Entry(**{**vars(entry), "waves": tuple(each / ALL_PPM for each in dict.fromkeys(bounds))})
