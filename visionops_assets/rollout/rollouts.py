"""A rollout is what its entries say: each is one step by a person or a verdict, and their fold is where it stands.

An entry names what is so after it, so one that is written twice, after a kill, changes nothing the second time. Nothing
that comes after the end of a rollout counts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, get_args

from resources.error_family import Invalid, Refused
from resources.nearest import there_are
from visionops_assets.rollout.waves import check_waves

FORMAT = 1
Kind = Literal["start", "wave", "pause", "resume", "complete", "fail", "abort", "hold", "supersede"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ENDS: Mapping[Kind, str] = {
    "complete": "complete",
    "fail": "FAIL",
    "abort": "aborted",
    "supersede": "SUPERSEDED",
}


class RolloutRefused(Refused):
    """A rollout cannot be started, or led on, as asked; the message says why, and the fix."""


class BadEntry(Invalid):
    """What is stored is no entry of a rollout that is read here."""


@dataclass(frozen=True)
class Entry:
    """One step. `version`, `base` and `waves` are of a start; `wave` is the one that begins, from 0."""

    rollout: str
    group: str
    kind: Kind
    when: datetime
    who: str
    why: str
    version: int = 0
    base: int | None = None
    waves: tuple[float, ...] = ()
    wave: int = 0
    format: int = FORMAT

    def to_json(self) -> str:
        """As it is stored."""
        return json.dumps(
            {**vars(self), "when": self.when.isoformat(), "waves": list(self.waves)}, sort_keys=True
        )

    @classmethod
    def from_json(cls, text: str) -> "Entry":
        """What `to_json` wrote. Raises `BadEntry`."""
        try:
            found: dict[str, Any] = json.loads(text)
            if found["format"] != FORMAT or found["kind"] not in KINDS:
                said = f"{found['kind']!r} of format {found['format']}"
                raise BadEntry(f"an entry of a rollout is {said}, {FORMAT} is read here; update VisionOps")
            when = datetime.fromisoformat(found["when"])
            return cls(**{**found, "when": when, "waves": tuple(map(float, found["waves"]))})
        except BadEntry:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise BadEntry(f"this is no entry of a rollout ({error!r})") from error


@dataclass(frozen=True)
class Rollout:
    """Where a rollout stands. `ended` says how, and is empty while it is in progress; `held` that it waits for a person
    since it was not decided in its time."""

    id: str
    group: str
    version: int
    base: int | None
    waves: tuple[float, ...]
    began: datetime
    wave: int = 0
    wave_began: datetime | None = None
    paused: bool = False
    held: str = ""
    ended: str = ""
    why: str = ""

    @property
    def last_wave(self) -> bool:
        """Whether the whole group has the candidate."""
        return self.wave == len(self.waves) - 1


def folded(entries: Sequence[Entry]) -> list[Rollout]:
    """The rollouts of these entries, in the order in which they began. Steps of one that never began count for none."""
    found: dict[str, Rollout] = {}
    for entry in entries:
        if entry.kind == "start" and entry.rollout not in found:
            found[entry.rollout] = Rollout(
                entry.rollout,
                entry.group,
                entry.version,
                entry.base,
                entry.waves,
                entry.when,
                wave_began=entry.when,
            )
        elif entry.rollout in found:
            found[entry.rollout] = _after(found[entry.rollout], entry)
    return list(found.values())


def in_progress(rollouts: Sequence[Rollout], group: str) -> Rollout | None:
    """The one of a group that has not ended, if there is one."""
    return next((each for each in rollouts if each.group == group and not each.ended), None)


def _after(rollout: Rollout, entry: Entry) -> Rollout:
    if rollout.ended:
        return rollout
    if entry.kind in ENDS:
        return replace(rollout, ended=ENDS[entry.kind], why=entry.why)
    if entry.kind == "wave" and rollout.wave < entry.wave < len(rollout.waves):
        return replace(rollout, wave=entry.wave, wave_began=entry.when, held="")
    if entry.kind == "hold":
        return replace(rollout, held=entry.why)
    if entry.kind in ("pause", "resume"):
        return replace(rollout, paused=entry.kind == "pause")
    return rollout


@dataclass(frozen=True)
class Asked:
    """What is asked to be rolled out. `groups` are the project's; `passed` says that the version has a PASS or a
    recorded override, or was in production; `on_hold` why the group is on hold, if it is."""

    project: str
    group: str
    version: int
    waves: tuple[float, ...]
    groups: Sequence[str]
    passed: bool
    on_hold: str = ""
    base: int | None = None


def start(asked: Asked, rollouts: Sequence[Rollout], *, when: datetime, who: str, why: str) -> Entry:
    """The first entry of a rollout. Raises `RolloutRefused` and `BadWaves`."""
    project, group, version = asked.project, asked.group, asked.version
    if group not in asked.groups:
        raise RolloutRefused(f"{project} has no device group {group}; {there_are(group, asked.groups)}")
    check_waves(asked.waves)
    if not asked.passed:
        raise RolloutRefused(
            f"version {version} of {project} has neither a PASS nor an override: "
            f"`visionops why {project} --model-version {version}` says what the gate found"
        )
    if asked.on_hold:
        raise RolloutRefused(
            f"{group} is on hold ({asked.on_hold}): `visionops release {project} --group {group} --why TEXT` ends it"
        )
    other = in_progress(rollouts, group)
    if other is not None:
        raise RolloutRefused(
            f"{group} has the rollout {other.id} in progress: it has to end first, or be aborted"
        )
    if version == asked.base:
        raise RolloutRefused(f"{group} runs version {version} already")
    name = f"{when:%Y%m%dT%H%M%S}-{group}-v{version}"
    return Entry(name, group, "start", when, who, why, version, asked.base, asked.waves)


def led_on(rollout: Rollout, kind: Kind, *, when: datetime, who: str, why: str) -> Entry:
    """The entry by which a person pauses, resumes or aborts a rollout, or, by `wave` or `complete`, overrides what it
    lacks. Raises `RolloutRefused`."""
    if rollout.ended:
        raise RolloutRefused(f"the rollout {rollout.id} is over ({rollout.ended}): start another")
    if not why.strip() and kind in ("abort", "wave", "complete"):
        raise RolloutRefused("say why, for the record: --why TEXT")
    if kind == "resume" and not rollout.paused:
        raise RolloutRefused(f"the rollout {rollout.id} is not paused")
    if kind == "pause" and rollout.paused:
        raise RolloutRefused(f"the rollout {rollout.id} is paused already")
    if kind == "wave" and rollout.last_wave:
        raise RolloutRefused(
            f"the rollout {rollout.id} is in its last wave: nothing comes after it but its end"
        )
    wave = rollout.wave + 1 if kind == "wave" else rollout.wave
    return Entry(rollout.id, rollout.group, kind, when, who, why, wave=wave)
