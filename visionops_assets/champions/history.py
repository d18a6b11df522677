"""What was in production from when to when, per device group, and why.

The history is append-only: one entry a change, written before the alias. So an entry whose version the alias
does not name is a change that did not complete; the next entry names it in `voids` and it counts for nothing. Where it
is remembered that the alias did name it, somebody moved the alias since.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import Field

from resources.models.records import EVERYWHERE, HISTORY, RegisteredModel, alias_of
from resources.nearest import there_are
from visionops_assets.champions import registered_model
from visionops_assets.champions.registered_model import Entry, Journal

Kind = Literal[
    "promotion", "override", "delivery", "rollback", "restoration", "retirement", "hold", "release"
]
CHANGES: frozenset[Kind] = frozenset(
    {"promotion", "override", "delivery", "rollback", "restoration", "retirement"}
)
# Those that bring a version into production on its own merits, or against them; a delivery on those it had elsewhere.
PROMOTIONS: frozenset[Kind] = frozenset({"promotion", "override", "delivery"})
# A rollback holds: the holdout preferred the bad model, so its near twin would win again.
HOLDS: frozenset[Kind] = frozenset({"rollback", "hold"})


class HistoryEntry(Entry):
    """Format 1. `from` and `to` are registered versions; a hold or release changes neither.

    A delivery gives a device group a champion of its own: a version that was in production before, on it or elsewhere.
    The first one of a group is `from` what it ran as the champion of all.
    A restoration sets again what the history says is in production, after somebody moved or deleted it in MLflow; a
    retirement leaves nothing in production.
    """

    format: Literal[1] = 1
    kind: Kind
    group: str = EVERYWHERE
    who: str
    when: datetime
    why: str
    verdict: str | None = None
    from_version: int | None = Field(default=None, alias="from")
    to_version: int | None = Field(default=None, alias="to")
    voids: int | None = None

    def sentence(self) -> str:
        """The entry in words."""
        where = "" if self.group == EVERYWHERE else f" on {self.group}"
        what = {
            "promotion": f"version {self.to_version} promoted{where}",
            "override": f"version {self.to_version} promoted{where} against the verdict",
            "delivery": f"version {self.to_version} promoted{where}",
            "rollback": f"rolled back{where} to version {self.to_version}",
            "restoration": f"version {self.to_version} set again{where}",
            "retirement": f"version {self.from_version} taken out of production{where}",
            "hold": f"promotion{where} put on hold",
            "release": f"promotion{where} released",
        }[self.kind]
        replacing = f", replacing version {self.from_version}" if self._replaces() else ""
        return f"{self.when:%Y-%m-%d %H:%M} UTC: {what}{replacing}, by {self.who}: {self.why}"

    def _replaces(self) -> bool:
        return self.kind in CHANGES - {"retirement"} and self.from_version not in (None, self.to_version)


@dataclass(frozen=True)
class Interval:
    """One version in production from `start` to `end`; no end: it still is. `entry` says why."""

    version: int
    start: datetime
    end: datetime | None
    entry: HistoryEntry


@dataclass(frozen=True)
class Production:
    """What runs on one device group now, as the alias says, and how it came there.

    `incomplete` is a change that was recorded but never reached the alias. `foreign` is set where the alias
    was moved or deleted by something else than VisionOps, so that `since` is not known; `named` is what the history
    says is in production, which is then another version than `version`, and `named_since` the entry that says so.
    """

    group: str
    version: int | None
    since: HistoryEntry | None
    held_by: HistoryEntry | None
    incomplete: HistoryEntry | None
    foreign: bool
    intervals: tuple[Interval, ...]
    named: int | None = None
    named_since: HistoryEntry | None = None
    # Rolled back from since the hold began.
    left: frozenset[int] = frozenset()

    def takes_on_hold(self, version: int) -> bool:
        """Whether a device group on hold may be given a version: one that it ran, and did not leave by a rollback."""
        return version in {each.version for each in self.intervals} - self.left

    @property
    def on_hold(self) -> bool:
        """Whether promotion waits for a release."""
        return self.held_by is not None

    def arrival(self, version: int) -> HistoryEntry | None:
        """How a version first came, or came again by a new promotion: not by a rollback, nor set again.

        What was set again under a new number, because its version was deleted, came as the deleted one did.
        """
        entries = [each.entry for each in self.intervals if each.version == version]
        promoted = [entry for entry in entries if entry.kind in PROMOTIONS]
        if not promoted:
            verdicts = {entry.verdict for entry in entries} - {None}
            every = [each.entry for each in self.intervals if each.entry.kind in PROMOTIONS]
            promoted = [entry for entry in every if entry.verdict in verdicts]
        return promoted[-1] if promoted else None

    def was_before(self) -> int | None:
        """The version that the present one took over from when it was promoted: where a rollback leads."""
        arrival = self.arrival(self.version) if self.version is not None else None
        return arrival.from_version if arrival is not None else None


def read_history(tags: Mapping[str, str]) -> Journal[HistoryEntry]:
    """All changes of a project, of every device group, oldest first."""
    return registered_model.read_entries(tags, HISTORY, HistoryEntry)


def production(model: RegisteredModel, group: str = EVERYWHERE) -> Production:
    """What is in production on a device group. Unreadable entries are left out."""
    entries = [entry for entry in read_history(model.tags).entries if entry.group == group]
    alias = alias_of(group)
    version = model.aliases.get(alias)
    voided = {entry.voids for entry in entries}
    changes = [entry for entry in entries if entry.kind in CHANGES and entry.number not in voided]
    incomplete = None
    if changes and _never_arrived(changes, version, alias, model.confirmed):
        incomplete = changes.pop()
    foreign = version != (changes[-1].to_version if changes else None)
    return Production(
        group=group,
        version=version,
        since=changes[-1] if changes and not foreign else None,
        held_by=_held_by(entries),
        incomplete=incomplete,
        foreign=foreign,
        intervals=_intervals(changes, ended=foreign),
        named=changes[-1].to_version if changes else None,
        named_since=changes[-1] if changes else None,
        left=_left(entries, voided),
    )


def groups(model: RegisteredModel) -> list[str]:
    """Every device group that ever had a champion of its own, `all` first."""
    named = {entry.group for entry in read_history(model.tags).entries}
    prefix = alias_of("")
    named |= {alias.removeprefix(prefix) for alias in model.aliases if alias.startswith(prefix)}
    return [EVERYWHERE, *sorted(named - {EVERYWHERE})]


def newest_change(model: RegisteredModel) -> HistoryEntry | None:
    """The last complete change of what runs, on whatever device group, a retirement too; None before the first."""
    found = [production(model, group).since for group in groups(model)]
    return max(filter(None, found), key=lambda entry: entry.number, default=None)


def nothing_runs(model: RegisteredModel, group: str = EVERYWHERE) -> str:
    """That a project has nothing in production on a device group, and on which groups it has."""
    if group == EVERYWHERE:
        return f"{model.project} has no model in production"
    others = [each for each in groups(model) if model.aliases.get(alias_of(each)) is not None]
    return f"{model.project} has no model in production on device group {group}; {there_are(group, others)}"


def _never_arrived(
    changes: Sequence[HistoryEntry], version: int | None, alias: str, confirmed: Mapping[str, int] | None
) -> bool:
    """Whether the alias still names what it named before the last change, and is not remembered to have named another.

    The first promotion of a device group says that it is from what the group ran without an alias of its own.
    """
    last = changes[-1]
    before = last.from_version
    if last.kind in PROMOTIONS and last.group != EVERYWHERE:
        before = changes[-2].to_version if len(changes) > 1 else None
    if last.to_version == version or before != version:
        return False
    return confirmed is None or confirmed.get(alias) != last.to_version


def _held_by(entries: Sequence[HistoryEntry]) -> HistoryEntry | None:
    last = [entry for entry in entries if entry.kind in HOLDS or entry.kind == "release"]
    return last[-1] if last and last[-1].kind in HOLDS else None


def _left(entries: Sequence[HistoryEntry], voided: Collection[int | None]) -> frozenset[int]:
    """What a group was rolled back from since it was released last."""
    released = max((entry.number for entry in entries if entry.kind == "release"), default=0)
    return frozenset(
        entry.from_version
        for entry in entries
        if entry.kind == "rollback"
        and entry.number > released
        and entry.number not in voided
        and entry.from_version is not None
    )


def _intervals(changes: Sequence[HistoryEntry], *, ended: bool) -> tuple[Interval, ...]:
    found = []
    for number, entry in enumerate(changes):
        if entry.to_version is None:
            continue
        following = changes[number + 1].when if number + 1 < len(changes) else None
        # When something else moved the alias is not recorded: the interval ends where it began.
        end = entry.when if ended and following is None else following
        found.append(Interval(entry.to_version, entry.when, end, entry))
    return tuple(found)
