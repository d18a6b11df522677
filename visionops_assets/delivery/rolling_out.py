"""One pass over the rollouts of a project: look at each, record what its verdict leads to, take the steps that follow.

The order of writes: the look, the rollout's entry, history and alias or hold (`rollout_steps`), and then, by whoever
publishes, the assignment. Killed before any of them, the next pass comes to the same end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from resources.error_family import VisionOpsError
from resources.models.records import RegisteredModel
from resources.storage import ArtifactStore
from visionops_assets.champions.history import production
from visionops_assets.champions.registered_model import Registry
from visionops_assets.config.device_group_rules import REPORT_EVERY
from visionops_assets.config.project import Project
from visionops_assets.config.rollout_rules import RolloutRules
from visionops_assets.delivery.devices_now import DeviceNow, enrolled_now
from visionops_assets.delivery.repository import Running
from visionops_assets.delivery.rollout_looks import Look, Watched, look, store_look, stored_look
from visionops_assets.delivery.rollout_reports import told_of
from visionops_assets.delivery.rollout_steps import (
    WHO,
    Step,
    append,
    carry_out,
    ended_by,
    rollouts_of,
    steps_due,
)
from visionops_assets.rollout.decide import Action
from visionops_assets.rollout.rollouts import Entry, Kind, Rollout

# Whoever takes one step may make another due: to be adopted comes before a start, an end before the next one.
_MOST_ROUNDS = 5
# Of devices that are in none of these, nothing was heard lately.
_UNHEARD = frozenset({"never", "silent"})
_ENTRIES: Mapping[Action, Kind] = {
    "advance": "wave",
    "complete": "complete",
    "roll_back": "fail",
    "hold": "hold",
}


@dataclass(frozen=True)
class Ahead:
    """What is due on the rollouts of a project: by each its look, the steps, and why none can begin where one waits."""

    looks: Sequence[tuple[Rollout, Look]] = ()
    steps: Sequence[Step] = ()
    waits: Sequence[str] = ()
    alive: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def entries(self) -> list[tuple[Rollout, Look, Kind]]:
        """The looks that lead to something that is not on record yet."""
        return [
            (rollout, each, kind)
            for rollout, each in self.looks
            if (kind := _kind(rollout, each)) is not None
        ]

    def identity(self) -> list[Any]:
        """Changes with what is due, and with nothing else."""
        return [
            *([rollout.id, rollout.wave, kind] for rollout, _, kind in self.entries),
            *([each.kind, each.group, each.version] for each in self.steps),
        ]

    def in_words(self) -> str:
        """What is due."""
        said = [f"{each.group}: {kind} of {each.id}" for each, _, kind in self.entries]
        return ", ".join([*said, *(f"{each.kind} on {each.group}" for each in self.steps)])


def _kind(rollout: Rollout, found: Look) -> Kind | None:
    kind = _ENTRIES.get(found.decision.action)
    if kind == "hold" and rollout.held:
        return None
    return "moved" if kind == "fail" and found.ended_by_others else kind


def looked_at(
    project: Project, registry: Registry, store: ArtifactStore, running: Running, now: datetime
) -> Ahead:
    """What is due now; nothing is changed. Raises `BadEntry`, `BadVerdict`, and what MLflow and the store raise."""
    model = registry.models.get(project.project)
    rollouts = rollouts_of(model)
    led = any(rules.rollout is not None for rules in project.delivery.groups.values())
    if not rollouts and not led:
        return Ahead()
    devices = enrolled_now(project, store, running, now)
    looks = [
        (rollout, _look(project, model, store, running, devices, rollout, now))
        for rollout in rollouts
        if not rollout.ended
    ]
    alive = heard_of(devices)
    assigned = {group: int(manifest["model"]["version"]) for group, (_, manifest) in running.items()}
    steps, waits = steps_due(project, model, assigned, alive)
    return Ahead(looks, steps, waits, alive)


def heard_of(devices: Sequence[DeviceNow]) -> dict[str, list[str]]:
    """By group, its devices that were heard of lately."""
    found: dict[str, list[str]] = {}
    for each in devices:
        if each.state not in _UNHEARD:
            found.setdefault(each.group, []).append(each.device)
    return found


def _look(
    project: Project,
    model: RegisteredModel,
    store: ArtifactStore,
    running: Running,
    devices: Sequence[DeviceNow],
    rollout: Rollout,
    now: datetime,
) -> Look:
    watched = watched_of(project, model, running, devices, rollout)
    told = told_of(project, store, rollout)
    return look(watched, told, stored_look(project, store, rollout.id), now)


def watched_of(
    project: Project,
    model: RegisteredModel,
    running: Running,
    devices: Sequence[DeviceNow],
    rollout: Rollout,
) -> Watched:
    """A rollout as it is looked at: under the rules that the project file has now."""
    declared = project.delivery.groups.get(rollout.group)
    assignment, _ = running.get(rollout.group, ({}, {}))
    candidate = assignment.get("candidate") or {}
    every = (
        float(assignment.get("report_every", REPORT_EVERY)) + project.production.collect_every.total_seconds()
    )
    return Watched(
        rollout,
        (declared.rollout if declared is not None else None) or RolloutRules(),
        [each.device for each in devices if each.group == rollout.group],
        candidate=str(candidate["bundle"]) if candidate.get("rollout") == rollout.id else "",
        base=str((assignment.get("base") or {}).get("bundle", "")),
        every=every,
        ended_by=ended_by(project, model, rollout),
        on_hold=production(model, rollout.group).on_hold,
    )


def conduct(
    project: Project, registry: Registry, store: ArtifactStore, running: Running, now: datetime
) -> list[str]:
    """Do what is due until nothing is; what was done, in words. A group of which something is refused keeps no other
    from its own.

    Raises what `looked_at` raises, `OnHold` and other `PromotionRefused` where a step is refused, `RolloutRefused`.
    """
    said: list[str] = []
    refused: dict[str, VisionOpsError] = {}
    for _ in range(_MOST_ROUNDS):
        ahead = looked_at(project, registry, store, running, now)
        for _, found in ahead.looks:
            store_look(project, store, found)
        entries = [each for each in ahead.entries if each[0].group not in refused]
        steps = [each for each in ahead.steps if each.group not in refused]
        if not entries and not steps:
            break
        for rollout, found, kind in entries:
            said.append(_record(registry, project, rollout, found, kind))
        for step in steps:
            try:
                said.append(carry_out(registry, project, step, ahead.alive, now))
            except VisionOpsError as error:
                refused[step.group] = error
    if refused:
        raise next(iter(refused.values()))
    return said


def _record(registry: Registry, project: Project, rollout: Rollout, found: Look, kind: Kind) -> str:
    wave = rollout.wave + 1 if kind == "wave" else rollout.wave
    # As it is stored at most.
    why = found.decision.why[:2000]
    entry = Entry(rollout.id, rollout.group, kind, found.at, WHO, why, wave=wave)
    # Whoever aborted or paused it meanwhile has the last word.
    done = append(registry, project.project, lambda now: entry if rollout in rollouts_of(now) else None)
    if done is None:
        return f"{rollout.group}: {rollout.id} was changed meanwhile, and is looked at again"
    return f"{rollout.group}: {found.verdict.word}, {found.decision.why}"
