"""What lakeFS answers, as plain records, and what a server, or its absence, says no with."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resources.error_family import NotFound, Refused, Unavailable, VisionOpsError

# What a server that is busy or restarts answers, or the proxy before it.
_AWAY = (408, 425, 429, 502, 503, 504)
_NO_REPOSITORY = "repository not found"
_PROTECTED, _DIRTY = "protected branch", "dirty branch"


@dataclass(frozen=True)
class Commit:
    """One commit. `created_at` is UTC."""

    id: str
    parents: tuple[str, ...]
    message: str
    committer: str
    created_at: datetime.datetime
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One object of a tree. `checksum` is an opaque version, not always a hash of the content."""

    path: str
    checksum: str
    size: int
    physical_address: str


@dataclass(frozen=True)
class Change:
    """One path that differs. `kind` is added, removed, changed or conflict."""

    path: str
    kind: str


def commit_from(found: Mapping[str, Any]) -> Commit:
    """A commit as the server's JSON has it."""
    return Commit(
        id=found["id"],
        parents=tuple(found["parents"]),
        message=found["message"],
        committer=found["committer"],
        created_at=datetime.datetime.fromtimestamp(found["creation_date"], datetime.UTC),
        metadata=dict(found.get("metadata") or {}),
    )


class LakeFSError(VisionOpsError, RuntimeError):
    """Any failure of a lakeFS call; the message names the server, the object and the fix."""


class LakeFSUnavailable(Unavailable, LakeFSError):
    """Nothing answers, or the server is in trouble: worth trying again."""


class LakeFSAway(LakeFSUnavailable):
    """Nothing answers, or the connection was lost: no fault of what was asked, so that no run counts as an attempt."""


class LakeFSNotFound(NotFound, LakeFSError):
    """The repository, reference or object is not there."""


class LakeFSNoRepository(LakeFSNotFound):
    """The repository itself is not there, and so nothing of it."""


class LakeFSGone(NotFound, LakeFSError):
    """The object is in the tree, and its bytes are no longer in the server's storage."""


class LakeFSConflict(Refused, LakeFSError):
    """Something of that name exists, two changes conflict, or another writer was first."""


class LakeFSRefused(Refused, LakeFSError):
    """The server understood and will not: credentials, protection, a hook, an invalid request."""


def error_from(error: Exception, what: str, server: str) -> LakeFSError:
    """Translate the client's exception about `what` into one of the above."""
    status = getattr(error, "status", None)
    if not status:
        return LakeFSAway(
            f"lakeFS at {server} does not answer ({what}). Start it, or correct LAKEFS_ENDPOINT; "
            "`visionops up` starts the embedded server."
        )
    body = getattr(error, "body", None)
    said = _message(body)
    if said is None:
        # What stands before a lakeFS, a proxy, answers so for one that is away.
        if status in _AWAY:
            return LakeFSAway(f"{what}: status {status} (lakeFS at {server})")
        if status == 500:
            return LakeFSUnavailable(f"{what}: status {status} (lakeFS at {server})")
        if status in (401, 403):
            said = f"status {status}"
        else:
            return not_lakefs(what, server, f"status {status}")
    said = said or str(getattr(error, "reason", "")) or f"status {status}"
    text = f"{what}: {said} (lakeFS at {server}, status {status})"
    if status == 404 and said == _NO_REPOSITORY:
        return LakeFSNoRepository(f"lakeFS at {server} has no such repository ({what})")
    if status == 404:
        return LakeFSNotFound(text)
    if status == 410:
        return LakeFSGone(
            f"the bytes of {what} are gone from the storage of lakeFS at {server} ({said}): restore them from a "
            "backup; `visionops verify PROJECT` names every image that is gone"
        )
    if status == 409:
        return LakeFSConflict(f"{what}: conflicts with what is there: {said} (lakeFS at {server})")
    if status == 401:
        return LakeFSRefused(
            f"{text}. Set LAKEFS_ACCESS_KEY_ID and LAKEFS_SECRET_ACCESS_KEY to a valid key pair."
        )
    if status == 400 and _DIRTY in said:
        return LakeFSRefused(
            f"{text}: somebody changed the branch and did not commit. Commit that in lakeFS, or drop it, as by "
            "`lakectl branch reset lakefs://REPOSITORY/main`; the same command again goes on."
        )
    if status == 403 and _PROTECTED in said:
        return LakeFSRefused(
            f"{text}. VisionOps writes there: take this branch out of the repository's branch protection rules in "
            "lakeFS; the next try goes on."
        )
    if status in _AWAY:
        return LakeFSAway(text)
    if status >= 500:
        return LakeFSUnavailable(text)
    return LakeFSRefused(text)


def not_lakefs(what: str, server: str, answered: str) -> LakeFSRefused:
    """The error for an answer that no lakeFS gives."""
    return LakeFSRefused(
        f"what answers at {server} is no lakeFS ({answered} for the {what}): correct LAKEFS_ENDPOINT"
    )


def _message(body: bytes | str | None) -> str | None:
    """What an answer says, "" where it says nothing; None where it is none of lakeFS's."""
    if not body:
        return ""
    try:
        parsed = json.loads(body)
    except ValueError:
        return None
    return str(parsed["message"]) if isinstance(parsed, dict) and "message" in parsed else None
