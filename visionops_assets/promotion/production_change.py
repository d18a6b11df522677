"""The one way production changes: history, version tags, alias, in this order.

| killed after | what is left | what the next change does | | --- | --- | --- | | `registered` | a version that
nothing names | uses it if its files are the same, else leaves it | | `recorded` | an entry that the alias does not
confirm | writes a new entry that voids it | | `tagged` | the same, with tags on the version | the same; the tags
are written again | | `aliased` | a complete change | nothing: promoting the same challenger again changes nothing |

Nothing has to be cleaned up, and the lock died with its holder, so no state blocks a later change.

Here, too: a device group gets a champion of its own, and the table of what was in production from when to when.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge.formats import check_group
from resources.error_family import NotFound
from resources.models.records import EVERYWHERE, HISTORY, RegisteredModel, alias_of, version_on
from resources.nearest import there_are
from visionops_assets.champions import registered_model
from visionops_assets.champions.disagreements import require_agreement
from visionops_assets.champions.history import (
    HistoryEntry,
    Interval,
    Kind,
    Production,
    groups,
    nothing_runs,
    production,
    read_history,
)
from visionops_assets.champions.registered_model import Registry
from visionops_assets.common.errors import ChampionMoved, OnHold, VerdictNotPassed
from visionops_assets.evaluation.approvals import require_reason
from visionops_assets.pages.page import Cell, Table

STEPS = ("checked", "registered", "recorded", "tagged", "aliased")
OnStep = Callable[[str], None]
INTERVAL_COLUMNS = ("version", "from (UTC)", "until", "how", "by", "why")


def unheard(step: str) -> None:
    """Nobody listens to the steps."""


@dataclass(frozen=True)
class Change:
    """What a promotion, rollback, hold or release did. `entry` is the one that says so in the history.

    `changed` is False where it was so already. `note` says in words what was found unfinished or foreign.
    """

    version: int | None
    changed: bool
    entry: HistoryEntry | None
    note: str = ""

    def in_words(self, project: str, where: str = "") -> str:
        """What a command prints first; `where` is the device group of a change that has no entry."""
        what = self.entry.sentence() if self.entry is not None else f"version {self.version} runs{where}"
        return f"{project}: {what}" + ("" if self.changed else " (it was so already)")

    def to_json(self) -> dict[str, Any]:
        """What a command prints with --json."""
        entry = None if self.entry is None else self.entry.model_dump(mode="json", by_alias=True)
        return {"version": self.version, "changed": self.changed, "entry": entry, "note": self.note}


@dataclass(frozen=True)
class Attribution:
    """Who changes what runs, when and why, as the history keeps it."""

    who: str
    when: datetime
    why: str

    def require_reason(self) -> None:
        """Raise `ReasonMissing` where a change by hand does not say who makes it and why."""
        require_reason(self.who, self.why)


@dataclass(frozen=True)
class WantedChange:
    """A change of what runs on a device group before it is recorded, of version `to`.

    `from_version` is what the group ran, where that is not its own alias's.
    """

    kind: Kind
    group: str
    to: int | None
    by: Attribution
    verdict: str | None = None
    from_version: int | None = None


def record_change(registry: Registry, model: RegisteredModel, wanted: WantedChange) -> HistoryEntry:
    """Append one entry to the history, naming in `voids` a change that did not complete, after what somebody deleted or
    altered of it in MLflow was written back. Needs the lock."""
    registry.models.recall(model.project)
    now = production(model, wanted.group)
    entry = HistoryEntry(
        number=read_history(model.tags).next_number,
        kind=wanted.kind,
        group=wanted.group,
        who=wanted.by.who,
        when=wanted.by.when,
        why=wanted.by.why,
        verdict=wanted.verdict,
        from_version=wanted.from_version if wanted.from_version is not None else now.version,
        to_version=wanted.to,
        voids=now.incomplete.number if now.incomplete else None,
    )
    registry.models.set_tag(model.project, registered_model.tag_name(HISTORY, entry.number), entry.to_json())
    return entry


def put_in_production(
    registry: Registry, model: RegisteredModel, entry: HistoryEntry, on_step: OnStep
) -> None:
    """Carry out a recorded change: version tags, then the alias. Needs the lock."""
    assert entry.to_version is not None
    registry.models.set_version_tags(model.project, entry.to_version, version_tags(entry))
    on_step("tagged")
    registry.models.set_alias(model.project, alias_of(entry.group), entry.to_version)
    on_step("aliased")


def version_tags(entry: HistoryEntry) -> dict[str, str]:
    """What MLflow's page of the version says about its last change."""
    prefix = "visionops.production." if entry.group == EVERYWHERE else f"visionops.production.{entry.group}."
    return {
        f"{prefix}by": entry.kind,
        f"{prefix}who": entry.who,
        f"{prefix}when": entry.when.isoformat(timespec="seconds"),
        f"{prefix}why": entry.why,
        f"{prefix}verdict": entry.verdict or "",
        f"{prefix}replaced": "" if entry.from_version is None else str(entry.from_version),
        f"{prefix}history_entry": str(entry.number),
    }


def note_of(model: RegisteredModel, group: str) -> str:
    """What the next change should say about how it found things; empty if all is in order."""
    now = production(model, group)
    if now.incomplete is not None:
        return f"entry {now.incomplete.number} did not complete ({now.incomplete.sentence()})"
    if now.foreign:
        moved = "was removed" if now.version is None else f"was set to version {now.version}"
        return f"alias {alias_of(group)} {moved} outside VisionOps"
    return ""


def require_arrived(model: RegisteredModel, version: int) -> HistoryEntry:
    """What brought a version into production on any group. Raises `VerdictNotPassed` where nothing did: it may have
    neither a PASS nor an override."""
    arrivals = {
        each.version: each.entry
        # What brought it to all counts first: on a group it may have come by a rollout.
        for name in reversed(groups(model))
        for each in production(model, name).intervals
    }
    if version not in arrivals or not model.has(version):
        there = there_are(str(version), [str(each) for each in sorted(arrivals) if model.has(each)])
        raise VerdictNotPassed(
            f"version {version} of {model.project} was never in production, or was deleted: only what a PASS or an "
            f"override brought there is delivered; {there}"
        )
    return arrivals[version]


@dataclass(frozen=True)
class LedFrom:
    """What a change by rollouts was decided on, before anything was locked: the version that the group ran as its own,
    and the rollout that it completes, if any."""

    base: int | None
    rollout: str | None = None


def deliver_to_group(
    registry: Registry,
    *,
    project: str,
    group: str,
    by: Attribution,
    version: int | None = None,
    led: LedFrom | None = None,
    on_step: OnStep = unheard,
) -> Change:
    """Let a device group run a version by an alias of its own, by default what all runs. Already so: changes nothing.
    The rollout that `led` to it stands in place of the verdict, and what somebody gave the group since is left.

    Every version that was in production had a PASS or an override on record; no other one is delivered. A group on hold
    takes only what it ran before, and none that it was rolled back from. Killed at any step it can be run
    again; `change` has the table.

    Raises ValueError for what is no group, LookupError where nothing is in production, `VerdictNotPassed`, `OnHold`,
    `ChampionUnclear`, `ChampionMoved`, `HistoryUnreadable`, `ReasonMissing`; `PromotionLocked`, `RegistryUnavailable`.
    """
    by.require_reason()
    check_group(group)
    with registry.lock(project):
        model = registry.models.get(project)
        registered_model.require_readable(read_history(model.tags), project)
        now = production(model, group)
        require_agreement(registry, model, group)
        if version is None:
            require_agreement(registry, model, EVERYWHERE)
            version = model.aliases.get("champion")
        if version is None:
            raise NotFound(nothing_runs(model))
        arrival = require_arrived(model, version)
        if now.version == version:
            return Change(version, changed=False, entry=now.since)
        if led is not None and now.version != led.base:
            raise ChampionMoved(
                f"{group} of {project} runs {_as_own(now.version)} now, not {_as_own(led.base)}, from which it was "
                f"led to version {version}: somebody changed it meanwhile, and that stays"
            )
        if now.held_by is not None and not now.takes_on_hold(version):
            raise OnHold(held_group(project, now))
        on_step("checked")
        on_step("registered")
        entry = record_change(
            registry,
            model,
            WantedChange(
                kind="delivery",
                group=group,
                to=version,
                by=by,
                verdict=(led and led.rollout) or arrival.verdict,
                from_version=version_on(model, group),
            ),
        )
        on_step("recorded")
        put_in_production(registry, model, entry, on_step)
        return Change(version, changed=True, entry=entry, note=note_of(model, group))


def _as_own(version: int | None) -> str:
    return "what all run" if version is None else f"version {version}"


def held_group(project: str, now: Production) -> str:
    """That a device group is on hold, and what lifts it."""
    assert now.held_by is not None
    return (
        f"{now.group} of {project} is on hold ({now.held_by.sentence()}): "
        f"`visionops release {project} --group {now.group} --why TEXT` lifts it"
    )


def intervals_table(intervals: Sequence[Interval], version: Callable[[int], Cell] = str) -> Table:
    """One row an interval, newest first; `version` makes the cell of a version, for example a link."""
    rows = tuple(
        (
            version(each.version),
            f"{each.start:%Y-%m-%d %H:%M}",
            interval_end(each),
            each.entry.kind,
            each.entry.who,
            each.entry.why,
        )
        for each in reversed(intervals)
    )
    return Table(INTERVAL_COLUMNS, rows)


def interval_end(interval: Interval) -> str:
    """When it ended, or `now`."""
    return f"{interval.end:%Y-%m-%d %H:%M}" if interval.end is not None else "now"
