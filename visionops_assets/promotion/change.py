"""The one way production changes: history, version tags, alias, in this order.

| killed after | what is left | what the next change does |
| --- | --- | --- |
| `registered` | a version that nothing names | uses it if its files are the same, else leaves it |
| `recorded` | an entry that the alias does not confirm | writes a new entry that voids it |
| `tagged` | the same, with tags on the version | the same; the tags are written again |
| `aliased` | a complete change | nothing: promoting the same challenger again changes nothing |

Nothing has to be cleaned up, and the lock died with its holder, so no state blocks a later change.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resources.model_records import EVERYWHERE, HISTORY, RegisteredModel, alias_of
from visionops_assets import journal
from visionops_assets.champions.history import HistoryEntry, Kind, production, read_history
from visionops_assets.registry import Registry

STEPS = ("checked", "registered", "recorded", "tagged", "aliased")
OnStep = Callable[[str], None]


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


def record(
    registry: Registry,
    model: RegisteredModel,
    *,
    kind: Kind,
    group: str,
    to: int | None,
    who: str,
    when: datetime,
    why: str,
    verdict: str | None = None,
    from_version: int | None = None,
) -> HistoryEntry:
    """Append one entry to the history, naming in `voids` a change that did not complete. Needs the lock.

    `from_version` is what the group ran, where that is not its own alias's.
    """
    now = production(model, group)
    entry = HistoryEntry(
        number=read_history(model.tags).next_number,
        kind=kind,
        group=group,
        who=who,
        when=when,
        why=why,
        verdict=verdict,
        from_version=from_version if from_version is not None else now.version,
        to_version=to,
        voids=now.incomplete.number if now.incomplete else None,
    )
    registry.models.set_tag(model.project, journal.tag_name(HISTORY, entry.number), entry.to_json())
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
