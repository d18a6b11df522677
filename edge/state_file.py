"""All that is durable of a device but its files: one JSON file, changed by the functions of `edge.states` alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

FORMAT = 1
Phase = Literal["EMPTY", "IDLE", "DOWNLOAD", "PREPARE", "SELFTEST", "SHADOW", "TRIAL"]


class StateError(ValueError):
    """A state file is none that this agent reads."""


@dataclass(frozen=True)
class Bundle:
    """What a device may hold: a manifest by its digest, and the files it names as (name, SHA-256, size)."""

    id: str
    release: int
    files: tuple[tuple[str, str, int], ...]

    def digest(self, name: str) -> str:
        """The SHA-256 of one file, which is its name on the disk."""
        return next(sha256 for each, sha256, _ in self.files if each == name)


@dataclass(frozen=True)
class State:
    """All that is durable of a device but its files. Change it by the functions of this module."""

    good: Bundle | None = None
    previous: Bundle | None = None
    candidate: Bundle | None = None
    phase: Phase = "EMPTY"
    rollout: str = ""
    group: str = ""
    # The engine that is being made, how often that was begun, and when last.
    preparing: tuple[str, int, str] = ("", 0, "")
    tests: int = 0
    starts: int = 0
    wrong_digests: int = 0
    transitions: int = 0
    since: str = ""
    quarantine: tuple[tuple[str, str, str], ...] = ()
    floor: int = 0
    seq: int = 0
    outbox: tuple[Mapping[str, Any], ...] = ()
    dropped: int = 0
    # What was wrong when that was last told.
    told: str = ""
    boots: int = 0
    boot_id: str = ""

    @property
    def serving(self) -> Bundle | None:
        """What answers: the candidate in its trial, else the good one."""
        return self.candidate if self.phase == "TRIAL" else self.good

    @property
    def held(self) -> tuple[Bundle, ...]:
        """What must stay on the disk."""
        return tuple(each for each in (self.good, self.previous, self.candidate) if each is not None)

    def quarantined(self, bundle: Bundle) -> str | None:
        """Why a bundle is not taken, or None."""
        return next((why for each, why, _ in self.quarantine if each == bundle.id), None)


def to_json(state: State) -> dict[str, Any]:
    """The content of the state file."""
    told: dict[str, Any] = {"format": FORMAT}
    for name in State.__dataclass_fields__:
        value = getattr(state, name)
        told[name] = _bundle_json(value) if isinstance(value, Bundle) else value
    return told


def from_json(content: Any) -> State:
    """The state of a file. Raises `StateError`."""
    try:
        if content["format"] != FORMAT:
            raise StateError(f"is of format {content['format']}, this agent reads {FORMAT}")
        known = {name: content[name] for name in State.__dataclass_fields__ if name in content}
        for name in ("good", "previous", "candidate"):
            known[name] = _bundle(known.get(name))
        known["quarantine"] = tuple((str(a), str(b), str(c)) for a, b, c in known.get("quarantine", ()))
        name, count, at = known.get("preparing", State.preparing)
        known["preparing"] = (str(name), int(count), str(at))
        known["outbox"] = tuple(dict(each) for each in known.get("outbox", ()))
        return State(**known)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(f"is no state of a device ({error!r})") from error


def _bundle_json(bundle: Bundle) -> dict[str, Any]:
    return {"id": bundle.id, "release": bundle.release, "files": [list(each) for each in bundle.files]}


def _bundle(content: Any) -> Bundle | None:
    if content is None:
        return None
    files = tuple((str(name), str(sha256), int(size)) for name, sha256, size in content["files"])
    return Bundle(str(content["id"]), int(content["release"]), files)
