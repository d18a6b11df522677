"""Undo a promotion at once, and keep promotion waiting or let it go on.

None of this looks at verdicts or files: what takes a bad model out of production must never be blocked.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from resources.models.lost_runs import BEGUN
from resources.models.records import (
    EVERYWHERE,
    PROVENANCE_ARTIFACT,
    TAG_PROVENANCE,
    TAG_RESTORED,
    ModelVersion,
    RegisteredModel,
    RunNotFound,
    alias_of,
)
from visionops_assets.champions.disagreements import lacking, require_agreement
from visionops_assets.champions.history import Production, groups, nothing_runs, production, read_history
from visionops_assets.champions.registered_model import Registry
from visionops_assets.common.errors import ChampionMoved, NothingToRollBackTo
from visionops_assets.promotion.production_change import (
    Attribution,
    Change,
    OnStep,
    WantedChange,
    note_of,
    put_in_production,
    record_change,
    unheard,
)


def rollback(
    registry: Registry,
    *,
    project: str,
    by: Attribution,
    to: int | None = None,
    leaving: int | None = None,
    group: str = EVERYWHERE,
    on_step: OnStep = unheard,
) -> Change:
    """Make an earlier version champion again and put promotion on hold.

    `to` is any version that was in production before, by default the one that the present champion replaced; where
    somebody moved or deleted the alias, the version that the history names. That one is set again without a hold:
    nobody found it bad. A version that was deleted is registered again from its run, and a run that MLflow lost is
    recorded again from its files.
    `leaving` is the version to get away from: if another is champion by now, nothing happens, so a rollback
    that is repeated does not go back twice. The hold begins with the history entry: a rollback killed half way
    keeps the next challenger out, and can be run again at once.

    Raises `NothingToRollBackTo`, `ChampionMoved`, `ChampionUnclear`, `ReasonMissing`; `PromotionLocked`,
    `RegistryUnavailable`.
    """
    by.require_reason()
    with registry.lock(project):
        model = registry.models.get(project)
        now = production(model, group)
        if now.version is None and now.named is None and to is None:
            raise NothingToRollBackTo(nothing_runs(model, group))
        if leaving is not None and leaving != now.version:
            return _left_already(project, now, leaving)
        if leaving is not None and to is None:
            require_agreement(registry, model, group)
        target = to if to is not None else _before(model, now, group)
        if target is None:
            raise NothingToRollBackTo(f"version {now.version} of {project} replaced no other; {_choice(now)}")
        restored = _record_lost_runs(registry, model, target)
        if target == now.version and not now.foreign:
            registry.models.recall(project)
            return Change(now.version, changed=False, entry=now.since, note=restored)
        if target not in _ever_in_production(model):
            raise NothingToRollBackTo(
                f"version {target} of {project} was never in production; those that were before: {_earlier(now)}"
            )
        arrived = now.arrival(target)
        registered = _registered(registry, model, target)
        on_step("checked")
        entry = record_change(
            registry,
            model,
            WantedChange(
                kind="restoration" if now.foreign and target == now.named else "rollback",
                group=group,
                to=registered,
                by=by,
                verdict=arrived.verdict if arrived is not None and registered != target else None,
            ),
        )
        on_step("recorded")
        put_in_production(registry, model, entry, on_step)
        note = "; ".join(filter(None, [_note(model, group, target, registered), restored]))
        return Change(registered, changed=True, entry=entry, note=note)


def take_along(
    registry: Registry,
    change: Change,
    *,
    project: str,
    follow: Iterable[str],
    by: Attribution,
    on_step: OnStep = unheard,
) -> dict[str, Change]:
    """Bring device groups to what a rollback of all went back to, where they run the version that it left by champions
    of their own; by group what was done. Every way of rolling back all ends with it.

    `follow` are the groups that follow all. What a group was given since, it keeps. After a kill, the same again finds
    those that are left.

    Raises what `rollback` raises.
    """
    left = left_behind(registry.models.get(project), change, follow)
    return {
        group: rollback(
            registry,
            project=project,
            by=by,
            to=change.version,
            leaving=change.entry.from_version,
            group=group,
            on_step=on_step,
        )
        for group in left
        if change.entry is not None
    }


def left_behind(model: RegisteredModel, change: Change, follow: Iterable[str]) -> list[str]:
    """The groups that `take_along` has still to bring."""
    entry = change.entry
    if entry is None or entry.kind != "rollback" or entry.group != EVERYWHERE or change.version is None:
        return []
    since = [each for each in read_history(model.tags).entries if each.number > entry.number]
    left = []
    for name in follow:
        unfinished = production(model, name).incomplete
        # What a group was given since was given knowing of this.
        given = any(each.group == name and each != unfinished for each in since)
        if model.aliases.get(alias_of(name)) == entry.from_version and not given:
            left.append(name)
    return left


def _before(model: RegisteredModel, now: Production, group: str) -> int | None:
    """The version to go back to where none is named."""
    if now.foreign:
        return now.named
    target = now.was_before()
    if target is None or target != now.version or group == EVERYWHERE:
        return target
    # It was given what it ran as the champion of all: it leaves that for what all had before it.
    shared = production(model, EVERYWHERE).arrival(target)
    return shared.from_version if shared is not None else None


def retire(
    registry: Registry,
    *,
    project: str,
    by: Attribution,
    group: str = EVERYWHERE,
    on_step: OnStep = unheard,
) -> Change:
    """Leave nothing in production, on record: the next challenger is a first champion, whom the floors alone judge.

    A device group then runs what `all` runs. Nothing in production, and the history says so too: changes nothing.

    Raises `ReasonMissing`, `NothingToRollBackTo` where nothing ever was in production; `PromotionLocked`,
    `RegistryUnavailable`.
    """
    by.require_reason()
    with registry.lock(project):
        model = registry.models.get(project)
        now = production(model, group)
        if now.version is None and now.since is None and not now.foreign and now.incomplete is None:
            raise NothingToRollBackTo(nothing_runs(model, group))
        if now.version is None and not now.foreign and now.incomplete is None:
            return Change(None, changed=False, entry=now.since)
        on_step("checked")
        entry = record_change(
            registry,
            model,
            WantedChange(kind="retirement", group=group, to=None, by=by),
        )
        on_step("recorded")
        registry.models.delete_alias(project, alias_of(group))
        on_step("aliased")
        return Change(None, changed=True, entry=entry, note=note_of(model, group))


def hold(
    registry: Registry,
    *,
    project: str,
    by: Attribution,
    group: str = EVERYWHERE,
    rollout: str | None = None,
) -> Change:
    """Let challengers be judged but none be promoted, until a release. On hold already: changes nothing, but for that
    of a `rollout` that failed, which stands in the history by its name.

    Raises `ReasonMissing`, `PromotionLocked`, `RegistryUnavailable`.
    """
    by.require_reason()
    with registry.lock(project):
        model = registry.models.get(project)
        now = production(model, group)
        if now.held_by is not None and (rollout is None or now.held_by.verdict == rollout):
            return Change(now.version, changed=False, entry=now.held_by)
        entry = record_change(
            registry,
            model,
            WantedChange(kind="hold", group=group, to=now.version, by=by, verdict=rollout),
        )
        return Change(now.version, changed=True, entry=entry)


def release(registry: Registry, *, project: str, by: Attribution, group: str = EVERYWHERE) -> Change:
    """Lift a hold. Not on hold: changes nothing.

    Raises `ReasonMissing`, `PromotionLocked`, `RegistryUnavailable`.
    """
    by.require_reason()
    with registry.lock(project):
        model = registry.models.get(project)
        now = production(model, group)
        if now.held_by is None:
            return Change(now.version, changed=False, entry=None)
        entry = record_change(
            registry,
            model,
            WantedChange(kind="release", group=group, to=now.version, by=by),
        )
        return Change(now.version, changed=True, entry=entry)


def _left_already(project: str, now: Production, leaving: int) -> Change:
    left = [each.entry for each in now.intervals if each.entry.from_version == leaving]
    if left and left[-1].kind in ("rollback", "restoration"):
        return Change(now.version, changed=False, entry=left[-1])
    raise ChampionMoved(
        f"version {leaving} of {project} is not in production on {now.group}, version {now.version} is: "
        "look at `visionops status {project}` and name what to leave"
    )


def _registered(registry: Registry, model: RegisteredModel, version: int) -> int:
    """The number of a version, under which it is registered again where it was deleted."""
    if model.has(version):
        return registry.models.version(model.project, version).version
    remembered = model.remembered.get(version)
    lack = "it is not remembered" if remembered is None else lacking(registry, remembered)
    if remembered is None or lack is not None:
        raise NothingToRollBackTo(
            f"version {version} of {model.project} was deleted and cannot be registered again ({lack}): "
            f"`visionops status {model.project}` names what can be gone back to, or `--model-version none`"
        )
    # Recorded again by a server, it has another id.
    run = registry.runs.get(remembered.run_id)
    return registry.models.create_version(model.project, run.id, remembered.tags).version


def _record_lost_runs(registry: Registry, model: RegisteredModel, wanted: int) -> str:
    """Where MLflow lost the run of the version that is wanted, record it again, and those of all others whose files are
    there: what it is compared with. Says so in words, or nothing."""
    ours = [each for each in model.remembered.values() if each.run_id and each.weights_sha256]
    lost = [each for each in ours if not _is_recorded(registry, each)]
    usable = [each for each in lost if registry.runs.lost.lacking(each) is None]
    if wanted not in [each.version for each in usable]:
        return ""
    # The one that is wanted last: a kill before leaves it lost, and all is done again.
    for version in sorted(usable, key=lambda each: each.version == wanted):
        registry.runs.restore(version, *_described(registry, version))
    numbers = ", ".join(str(each.version) for each in usable)
    if len(usable) == 1:
        return f"MLflow had lost the run of version {numbers}; it is recorded again from its files"
    return f"MLflow had lost the runs of versions {numbers}; they are recorded again from their files"


def _is_recorded(registry: Registry, version: ModelVersion) -> bool:
    try:
        return registry.runs.get(version.run_id).tags.get(TAG_RESTORED) != BEGUN
    except RunNotFound:
        return False


def _described(
    registry: Registry, version: ModelVersion
) -> tuple[dict[str, Any], dict[str, float], tuple[str, str, str] | None]:
    """Parameters, metrics and dataset of a lost run by its provenance, where that is as it was registered."""
    from visionops_assets.training.provenance import Provenance
    from visionops_assets.training.recording import flattened

    content = registry.runs.lost.read(version, PROVENANCE_ARTIFACT) or b""
    if hashlib.sha256(content).hexdigest() != version.tags.get(TAG_PROVENANCE):
        return {}, {}, None
    try:
        made = Provenance.from_json(content.decode())
    except ValueError:
        return {}, {}, None
    address = f"lakefs://{made.data.repository}/{made.data.commit}/"
    dataset = (address, made.data.repository, made.data.manifest_digest)
    return flattened(made.made_with), made.metrics, dataset


def _note(model: RegisteredModel, group: str, wanted: int, registered: int) -> str:
    again = f"version {wanted} was deleted in MLflow; the same files are version {registered} now"
    return "; ".join(filter(None, [note_of(model, group), again if registered != wanted else ""]))


def _ever_in_production(model: RegisteredModel) -> set[int]:
    return {each.version for group in groups(model) for each in production(model, group).intervals}


def _choice(now: Production) -> str:
    """Where a person can go from a version that replaced no other."""
    retire = "`--model-version none` takes it out of production"
    if not {each.version for each in now.intervals} - {now.version}:
        return f"nothing else ran before, and {retire}"
    return f"name one with --model-version that ran before: {_earlier(now)}; {retire}"


def _earlier(now: Production) -> str:
    versions = sorted({each.version for each in now.intervals} - {now.version})
    return ", ".join(str(version) for version in versions) or "none that is recorded"
