"""A rollout is what its entries say: each is one step by a person or a verdict, and their fold is where it stands.

An entry names what is so after it, so one that is written twice, after a kill, changes nothing the second time. Nothing
that comes after the end of a rollout counts. They are stored as tags of the registered model, as its history is.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, get_args

from resources.error_family import Invalid, Refused
from resources.nearest import there_are
from visionops_assets.config.rollout_rules import check_waves
from visionops_assets.rollout.waves import ALL_PPM

FORMAT = 1
# Tags of a registered model: every step of every rollout, numbered, written once.
ROLLOUT_ENTRIES = "visionops.rollout."
# `moved` is the FAIL of a rollout whose base or candidate somebody else changed meanwhile.
Kind = Literal["start", "wave", "pause", "resume", "complete", "fail", "moved", "abort", "hold", "supersede"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ENDS: Mapping[Kind, str] = {
    "complete": "complete",
    "fail": "FAIL",
    "moved": "FAIL",
    "abort": "aborted",
    "supersede": "SUPERSEDED",
}


class RolloutRefused(Refused):
    """A rollout cannot be started, or led on, as asked; the message says why, and the fix."""


class BadEntry(Invalid):
    """What is stored is no entry of a rollout that is read here."""


@dataclass(frozen=True)
class Entry:
    """One step. `version`, `base` and `waves` are of a start: the share of all buckets that has the candidate in each
    wave. `wave` is the one that begins, from 0."""

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
        """As it is stored: each letter is one, for a tag takes so many."""
        told = {**vars(self), "when": self.when.isoformat(), "waves": list(self.waves)}
        return json.dumps(told, sort_keys=True, ensure_ascii=False)

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
    """Where a rollout stands. `ended` says how and `end` by which entry; both are empty while it is in progress. `held`
    says that it waits for a person, since it was not decided in its time, which counts from `timed_from`."""

    id: str
    group: str
    version: int
    base: int | None
    waves: tuple[float, ...]
    began: datetime
    who: str
    wave: int = 0
    wave_began: datetime | None = None
    timed_from: datetime | None = None
    paused: bool = False
    held: str = ""
    ended: str = ""
    why: str = ""
    end: Entry | None = None

    @property
    def ppm(self) -> int:
        """The bound of the buckets that have the candidate."""
        return self.bounds[self.wave]

    @property
    def bounds(self) -> tuple[int, ...]:
        """That of each wave."""
        return tuple(round(share * ALL_PPM) for share in self.waves)

    @property
    def last_wave(self) -> bool:
        """Whether the whole group has the candidate."""
        return self.wave == len(self.waves) - 1


def read_entries(tags: Mapping[str, str]) -> tuple[list[Entry], int]:
    """The entries in the tags of a registered model, oldest first, and the number of the next one. Raises `BadEntry`:
    what cannot be read may be an end."""
    names = sorted(name for name in tags if re.fullmatch(re.escape(ROLLOUT_ENTRIES) + r"\d{6}", name))
    found = []
    for name in names:
        try:
            found.append(Entry.from_json(tags[name]))
        except BadEntry as error:
            raise BadEntry(
                f"tag {name} of the registered model: {error}; restore it from MLflow's backup, or use the release of "
                "VisionOps that wrote it"
            ) from error
    return found, int(names[-1].removeprefix(ROLLOUT_ENTRIES)) + 1 if names else 1


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
                entry.who,
                wave_began=entry.when,
                timed_from=entry.when,
            )
        elif entry.rollout in found:
            found[entry.rollout] = _after(found[entry.rollout], entry)
    return list(found.values())


def newest(rollouts: Sequence[Rollout], group: str) -> Rollout | None:
    """The one of a group that began last, if there was one."""
    return next((each for each in reversed(rollouts) if each.group == group), None)


def in_progress(rollouts: Sequence[Rollout], group: str) -> Rollout | None:
    """The one of a group that has not ended, if there is one."""
    return next((each for each in rollouts if each.group == group and not each.ended), None)


def _after(rollout: Rollout, entry: Entry) -> Rollout:
    if rollout.ended:
        return rollout
    if entry.kind in ENDS:
        return replace(rollout, ended=ENDS[entry.kind], why=entry.why, end=entry)
    if entry.kind == "wave" and rollout.wave < entry.wave < len(rollout.waves):
        # Whoever leads on one that was held gives it its time again.
        since = entry.when if rollout.held else rollout.timed_from
        return replace(rollout, wave=entry.wave, wave_began=entry.when, timed_from=since, held="")
    if entry.kind == "hold":
        return replace(rollout, held=entry.why)
    if entry.kind in ("pause", "resume"):
        return replace(rollout, paused=entry.kind == "pause")
    return rollout


def the_one_in_progress(project: str, rollouts: Sequence[Rollout], group: str | None) -> Rollout:
    """The rollout in progress of a group, or the only one where none is named. Raises `RolloutRefused`."""
    found = [each for each in rollouts if not each.ended and group in (None, each.group)]
    if len(found) == 1:
        return found[0]
    on = f" on {group}" if group is not None else ""
    if not found:
        others = [each.group for each in rollouts if not each.ended]
        there = f"; there is one on {', '.join(others)}" if others else ""
        raise RolloutRefused(
            f"{project} has no rollout in progress{on}{there}: `visionops rollout status {project}` shows those that "
            "were"
        )
    raise RolloutRefused(
        f"{project} has {len(found)} rollouts in progress: name one with --group: "
        f"{', '.join(each.group for each in found)}"
    )


def override_or_abort(project: str, group: str) -> str:
    """The commands by which a person answers a rollout that waits for one."""
    group_of = f"{project} --group {group}"
    return f"`visionops rollout override {group_of} --why TEXT` or `visionops rollout abort {group_of} --why TEXT`"


def rollouts_need_group(project: str, group: str, groups: Sequence[str]) -> None:
    """Raise `RolloutRefused` for a group that the project file does not name."""
    if group not in groups:
        named = f"; {there_are(group, groups)}" if groups else ""
        raise RolloutRefused(
            f"{project} has no device group {group} that follows what is promoted (`delivery.groups` of its project "
            f"file){named}"
        )


@dataclass(frozen=True)
class Asked:
    """What is asked to be rolled out. `groups` are the project's, `devices` those of the group that were heard of
    lately; `passed` says that the version has a PASS or a recorded override, or was in production; `on_hold` why the
    group is on hold, if it is."""

    project: str
    group: str
    version: int
    waves: tuple[float, ...]
    groups: Sequence[str]
    devices: int
    passed: bool
    on_hold: str = ""
    base: int | None = None


def start(asked: Asked, rollouts: Sequence[Rollout], *, when: datetime, who: str, why: str) -> Entry:
    """The first entry of a rollout. Raises `RolloutRefused` and `BadWaves`."""
    project, group, version = asked.project, asked.group, asked.version
    rollouts_need_group(project, group, asked.groups)
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
            f"{group} has the rollout {other.id} in progress: it has to end first, or `visionops rollout abort "
            f"{project} --group {group} --why TEXT` ends it"
        )
    if version == asked.base:
        raise RolloutRefused(f"{group} runs version {version} already: name another with --model-version")
    if asked.base is None:
        raise RolloutRefused(
            f"{group} runs nothing that its devices could go back to: `visionops promote {project} --group {group} "
            f"--model-version {version} --why TEXT` gives it its first version"
        )
    if asked.devices < 1:
        raise RolloutRefused(
            f"no device of {group} was heard of, and a rollout goes by what devices report: `visionops fleet status "
            f"{project}` shows them; `visionops promote {project} --group {group} --model-version {version} "
            "--why TEXT` puts it there at once"
        )
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
