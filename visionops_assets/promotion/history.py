"""What was in production from when to when, per device group, and why.

The history is append-only: one entry a change, written before the alias. So an entry whose version the alias
does not name is a change that did not complete; the next entry names it in `voids` and it counts for nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import Field

from resources.model_records import EVERYWHERE, RegisteredModel, alias_of
from resources.nearest import there_are
from visionops_assets import journal
from visionops_assets.journal import Entry, Journal

Kind = Literal["promotion", "override", "rollback", "hold", "release"]
CHANGES: frozenset[Kind] = frozenset({"promotion", "override", "rollback"})
# A rollback holds: the holdout preferred the bad model, so its near twin would win again.
HOLDS: frozenset[Kind] = frozenset({"rollback", "hold"})


class HistoryEntry(Entry):
    """Format 1. `from` and `to` are registered versions; a hold or release changes neither."""

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
            "rollback": f"rolled back{where} to version {self.to_version}",
            "hold": f"promotion{where} put on hold",
            "release": f"promotion{where} released",
        }[self.kind]
        replacing = f", replacing version {self.from_version}" if self._replaces() else ""
        return f"{self.when:%Y-%m-%d %H:%M} UTC: {what}{replacing}, by {self.who}: {self.why}"

    def _replaces(self) -> bool:
        return self.kind in CHANGES and self.from_version is not None


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
    was moved by something else than VisionOps, so that `since` is not known.
    """

    group: str
    version: int | None
    since: HistoryEntry | None
    held_by: HistoryEntry | None
    incomplete: HistoryEntry | None
    foreign: bool
    intervals: tuple[Interval, ...]

    @property
    def on_hold(self) -> bool:
        """Whether promotion waits for a release."""
        return self.held_by is not None

    def arrival(self, version: int) -> HistoryEntry | None:
        """How a version first came, or came again by a new promotion: not by a rollback."""
        entries = [each.entry for each in self.intervals if each.version == version]
        promoted = [entry for entry in entries if entry.kind != "rollback"]
        return promoted[-1] if promoted else None

    def was_before(self) -> int | None:
        """The version that the present one took over from when it was promoted: where a rollback leads."""
        arrival = self.arrival(self.version) if self.version is not None else None
        return arrival.from_version if arrival is not None else None


def read_history(tags: Mapping[str, str]) -> Journal[HistoryEntry]:
    """All changes of a project, of every device group, oldest first."""
    return journal.read(tags, journal.HISTORY, HistoryEntry)


def production(model: RegisteredModel, group: str = EVERYWHERE) -> Production:
    """What is in production on a device group. Unreadable entries are left out."""
    entries = [entry for entry in read_history(model.tags).entries if entry.group == group]
    version = model.aliases.get(alias_of(group))
    voided = {entry.voids for entry in entries}
    changes = [entry for entry in entries if entry.kind in CHANGES and entry.number not in voided]
    incomplete = None
    if changes and changes[-1].to_version != version and changes[-1].from_version == version:
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
    )


def groups(model: RegisteredModel) -> list[str]:
    """Every device group that ever had a champion of its own, `all` first."""
    named = {entry.group for entry in read_history(model.tags).entries}
    prefix = alias_of("")
    named |= {alias.removeprefix(prefix) for alias in model.aliases if alias.startswith(prefix)}
    return [EVERYWHERE, *sorted(named - {EVERYWHERE})]


def newest_change(model: RegisteredModel) -> HistoryEntry | None:
    """The last complete change of what runs, on whatever device group; None before the first."""
    found = [now.since for group in groups(model) if (now := production(model, group)).since is not None]
    return max(found, key=lambda entry: entry.number if entry is not None else 0, default=None)


def nothing_runs(model: RegisteredModel, group: str = EVERYWHERE) -> str:
    """That a project has nothing in production on a device group, and on which groups it has."""
    if group == EVERYWHERE:
        return f"{model.project} has no model in production"
    others = [each for each in groups(model) if model.aliases.get(alias_of(each)) is not None]
    return f"{model.project} has no model in production on device group {group}; {there_are(group, others)}"


def _held_by(entries: Sequence[HistoryEntry]) -> HistoryEntry | None:
    last = [entry for entry in entries if entry.kind in HOLDS or entry.kind == "release"]
    return last[-1] if last and last[-1].kind in HOLDS else None


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
