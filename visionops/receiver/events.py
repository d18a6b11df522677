"""Calls of a lakeFS webhook: who may call, what is told, and whether it was told before.

lakeFS signs no body, so a call is known by a token in its header, and a repeated one by what it says: the same event of
the same second is taken once, an old one not at all. Whoever has the token can have a sensor look, no more.
"""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from resources.webhook_token import TOKEN

TOLD = ("post-commit", "post-merge")
LEAST_TOKEN = 16
# How old an event may be, or how far lakeFS's clock may be ahead.
WINDOW = timedelta(minutes=5)


class Refused(Exception):
    """A call that is not taken: the HTTP status, and why, without secrets."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


@dataclass(frozen=True)
class Event:
    """What lakeFS says happened. `identity` is the digest of everything it says."""

    kind: str
    repository: str
    branch: str
    commit: str
    when: datetime
    identity: str

    @classmethod
    def read(cls, body: bytes) -> "Event":
        """The event of a body. Raises `Refused` (400) naming what is missing."""
        try:
            told = json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(400, "the body is no JSON: lakeFS posts its event as JSON") from None
        if not isinstance(told, dict):
            raise Refused(400, "the body is no JSON object: lakeFS posts its event as one")
        kind, repository, branch = (
            _text(told, name) for name in ("event_type", "repository_id", "branch_id")
        )
        canonical = json.dumps(told, sort_keys=True, separators=(",", ":"))
        return cls(
            kind,
            repository,
            branch,
            str(told.get("commit_id") or told.get("source_ref") or ""),
            _time(_text(told, "event_time")),
            hashlib.sha256(canonical.encode()).hexdigest(),
        )


@dataclass
class Guard:
    """Lets each genuine event in once. `now` tells the time (UTC)."""

    token: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _taken: dict[str, datetime] = field(default_factory=dict)
    _started: datetime = field(init=False)

    def __post_init__(self) -> None:
        if len(self.token) < LEAST_TOKEN:
            raise ValueError(
                f"{TOKEN} has {len(self.token)} characters, {LEAST_TOKEN} are the least: make one with "
                '`python -c "import secrets; print(secrets.token_urlsafe(32))"`'
            )
        self._started = self.now().replace(microsecond=0)

    def admit(self, authorization: str | None, body: bytes) -> Event:
        """The event of a call. Raises `Refused`: 401 without the token, 400 for no event, 409 for a repeated one."""
        expected = f"Bearer {self.token}".encode()
        if not hmac.compare_digest((authorization or "").encode(), expected):
            raise Refused(401, "no valid token: send `Authorization: Bearer <token>`")
        event = Event.read(body)
        now = self.now()
        if event.when > now + WINDOW:
            raise Refused(
                409, f"the event is of {event.when:%H:%M:%S} UTC, which is still to come: set the clocks"
            )
        # What was told before this process began may have been taken by the one before it.
        if event.when < max(now - WINDOW, self._started):
            raise Refused(
                409,
                f"the event is of {event.when:%Y-%m-%d %H:%M:%S} UTC, too old to be told from a repeated one",
            )
        self._taken = {known: when for known, when in self._taken.items() if when >= now - WINDOW}
        if event.identity in self._taken:
            raise Refused(409, "this event was taken already")
        self._taken[event.identity] = event.when
        return event

    def forget(self, event: Event) -> None:
        """Let an event in once more: nothing came of it."""
        self._taken.pop(event.identity, None)


def _text(told: dict[str, Any], name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(400, f"the event says no {name}")
    return value


def _time(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(400, "event_time is no time such as 2026-03-02T08:00:00Z") from None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
