"""The JSON documents of a device: what comes down signed beside TUF's own metadata (the manifest of a bundle, the
assignment of a group), and the one file of its own state, changed by the functions of `edge.states` alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from edge import EdgeError

FORMAT = 1
MODEL, GOLDEN = "model.onnx", "golden.npz"
GROUP_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# Of devices: it becomes a name of files and folders.
DEVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# They mean every device, and what a repository calls its own.
RESERVED_GROUPS = frozenset({"all", "production"})
# Between two looks, and the least that is downloaded meanwhile: what a stolen key asks for ends with the key, so every
# device looks on.
MOST_SECONDS, LEAST_KBPS, MOST_OBSERVED = 86400.0, 1.0, 365 * 86400.0
# Of the parts in which answers are counted, where an assignment does not say: so far apart that a camera does not see
# the same scene.
BLOCK_SECONDS = 3600
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DIGITS_OF_DIGEST = 13
_SHARES = ("share", "captured", "unsure")
STATE_FORMAT = 1
Phase = Literal["EMPTY", "IDLE", "DOWNLOAD", "PREPARE", "SELFTEST", "SHADOW", "TRIAL"]


class FormatError(EdgeError, ValueError):
    """A signed document is not what this agent reads."""


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds and asks for. `content` is all of it, as it was signed."""

    id: str
    project: str
    release: int
    files: tuple[tuple[str, str, int], ...]
    requires: Mapping[str, Any]
    golden: Mapping[str, Any]
    budget: Mapping[str, Any]
    content: Mapping[str, Any]


@dataclass(frozen=True)
class LogRules:
    """What a device logs of what it answers. Shares are of images, chosen by their digest; `captured` of them, and of
    those of less confidence than `unsure`, are kept with their row, within the bytes of a UTC day."""

    share: float = 1.0
    captured: float = 0.0
    unsure: float = 0.0
    bytes_per_day: int = 0


@dataclass(frozen=True)
class Assignment:
    """What a group runs. Times are in seconds."""

    project: str
    group: str
    serial: int
    issued_at: datetime
    base: str
    base_release: int
    candidate: str | None = None
    rollout: str = ""
    trial: Mapping[str, Any] = field(default_factory=dict)
    shadow: Mapping[str, Any] = field(default_factory=dict)
    observe_frames: int = 200
    observe_seconds: float = 86400
    floor: int = 0
    revoked: frozenset[str] = frozenset()
    poll_every: float = 300
    report_every: float = 300
    block: float = BLOCK_SECONDS
    window: Mapping[str, Any] | None = None
    max_kbps: float | None = None
    moved: Mapping[str, str] = field(default_factory=dict)
    log: LogRules = LogRules()


def canonical(content: Any) -> bytes:
    """The bytes of a document: the same content gives the same bytes."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def manifest_of(data: bytes, bundle: str | None = None) -> Manifest:
    """Read a manifest; `bundle` is the identity it should have. Raises `FormatError`."""
    content = _loaded(data, "manifest")
    found = hashlib.sha256(data).hexdigest()
    if bundle is not None and found != bundle:
        raise FormatError(f"the manifest of bundle {bundle[:12]} was altered: its SHA-256 is {found[:12]}")
    try:
        files = tuple(
            sorted(
                (str(name), str(each["sha256"]), int(each["size"])) for name, each in content["files"].items()
            )
        )
        if {name for name, _, _ in files} != {MODEL, GOLDEN}:
            raise FormatError(f"a bundle has {MODEL} and {GOLDEN}, this one {[each[0] for each in files]}")
        if not all(_SHA256.fullmatch(sha256) and size >= 0 for _, sha256, size in files):
            raise FormatError("a file of a bundle is named by its SHA-256 and size")
        for part in ("golden", "budget"):
            for name, value in content[part].items():
                if not isinstance(value, int | float) and name != "providers":
                    raise FormatError(f"{name} in the {part} of a bundle is a number, not {value!r}")
        return Manifest(
            id=found,
            project=str(content["project"]),
            release=int(content["release"]),
            files=files,
            requires=dict(content["requires"]),
            golden=dict(content["golden"]),
            budget=dict(content["budget"]),
            content=content,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _broken("manifest", error) from error


def assignment_of(data: bytes) -> Assignment:
    """Read an assignment. Raises `FormatError`."""
    content = _loaded(data, "assignment")
    try:
        candidate = content.get("candidate") or {}
        observe = content.get("observe", {})
        window = content.get("window")
        max_kbps = content.get("max_kbps")
        found = Assignment(
            project=str(content["project"]),
            group=str(content["group"]),
            serial=int(content["serial"]),
            issued_at=datetime.fromisoformat(str(content["issued_at"]).replace("Z", "+00:00")),
            base=str(content["base"]["bundle"]),
            base_release=int(content["base"]["release"]),
            candidate=str(candidate["bundle"]) if candidate else None,
            rollout=str(candidate.get("rollout", "")),
            trial=dict(content.get("trial") or {}),
            shadow=dict(content.get("shadow") or {}),
            observe_frames=int(observe.get("frames", 200)),
            observe_seconds=min(MOST_OBSERVED, max(0.0, float(observe.get("seconds", 86400)))),
            floor=int(content.get("floor", 0)),
            revoked=frozenset(map(str, content.get("revoked", ()))),
            poll_every=_seconds(content.get("poll_every", 300)),
            report_every=_seconds(content.get("report_every", 300)),
            block=_seconds(content.get("block", BLOCK_SECONDS)),
            window=dict(window) if window else None,
            max_kbps=max(LEAST_KBPS, float(max_kbps)) if max_kbps else None,
            moved={str(device): str(group) for device, group in (content.get("moved") or {}).items()},
            log=_log_rules(content.get("log") or {}),
        )
        if found.issued_at.tzinfo is None:
            raise FormatError("`issued_at` of an assignment has a time zone")
        # A stolen online key could otherwise lock every device out for ever.
        if found.floor > found.base_release:
            raise FormatError(
                f"its floor {found.floor} is above the release {found.base_release} of its base"
            )
        return found
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _broken("assignment", error) from error


def _log_rules(content: Mapping[str, Any]) -> LogRules:
    shares = {name: min(1.0, max(0.0, float(content.get(name, getattr(LogRules, name))))) for name in _SHARES}
    return LogRules(**shares, bytes_per_day=max(0, int(content.get("bytes_per_day", 0))))


def place_of_digest(image_sha256: str) -> float:
    """Where a digest lies among all digests, 0 to 1: below a share, an image is drawn, everywhere or nowhere."""
    return float(int(image_sha256[:_DIGITS_OF_DIGEST], 16) / 16**_DIGITS_OF_DIGEST)


def bucket_of(salt: str, device: str) -> int:
    """A number below a million that is drawn by lot from a rollout and a device's name."""
    digest = hashlib.sha256(f"{salt}:{device}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 1_000_000


def arm_of(assignment: Assignment, device: str) -> str:
    """Which part a device has in a rollout: `trial`, `shadow` or `control`."""
    bucket = bucket_of(str(assignment.trial.get("salt", assignment.rollout)), device)
    if bucket < int(assignment.trial.get("ppm", 0)):
        return "trial"
    return "shadow" if bucket < int(assignment.shadow.get("ppm", 0)) else "control"


def check_group(group: str) -> str:
    """The name of a device group. Raises ValueError where it is none."""
    if not GROUP_NAME.fullmatch(group) or group in RESERVED_GROUPS:
        raise ValueError(
            f"{group!r} is no name for a device group: lower-case letters, digits and `-`, at most 63, and not "
            f"{' or '.join(sorted(RESERVED_GROUPS))}; for example line-1"
        )
    return group


def check_device(device: str) -> str:
    """The name of a device. Raises ValueError where it is none."""
    if not DEVICE_NAME.fullmatch(device):
        raise ValueError(
            f"{device!r} is no name for a device: letters, digits, `.`, `_` and `-`, at most 63; for example cam-17"
        )
    return device


def _seconds(asked: Any) -> float:
    # Of a number that is none, `max` gives the other.
    return min(MOST_SECONDS, max(1.0, float(asked)))


def _loaded(data: bytes, what: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
        stated = content["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _broken(what, error) from error
    if stated != FORMAT:
        raise FormatError(
            f"the {what} is of format {stated}, this agent reads {FORMAT}: "
            f"{'update visionops-edge' if isinstance(stated, int) and stated > FORMAT else 'publish it again'}"
        )
    return dict(content)


def _broken(what: str, error: Exception) -> FormatError:
    return error if isinstance(error, FormatError) else FormatError(f"the {what} is broken ({error!r})")


class StateError(EdgeError, ValueError):
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
    # The last report that was signed, and how many of them there was no room for.
    reported: int = 0
    dropped_reports: int = 0
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


def state_to_json(state: State) -> dict[str, Any]:
    """The content of the state file."""
    told: dict[str, Any] = {"format": STATE_FORMAT}
    for name in State.__dataclass_fields__:
        value = getattr(state, name)
        told[name] = _bundle_json(value) if isinstance(value, Bundle) else value
    return told


def state_from_json(content: Any) -> State:
    """The state of a file. Raises `StateError`."""
    try:
        if content["format"] != STATE_FORMAT:
            raise StateError(f"is of format {content['format']}, this agent reads {STATE_FORMAT}")
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
