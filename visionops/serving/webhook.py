"""What lakeFS calls after a commit: the action that calls, and its way onto a repository's main; who may call, what
is told, and whether it was told before; POST /lakefs, and GET /health for whoever restarts what hangs.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from resources import home
from resources.environ import WEBHOOK_TOKEN
from resources.error_family import Invalid, Refused, Unavailable
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import LakeFSNotFound

TOLD = ("post-commit", "post-merge")
LEAST_TOKEN = 16
# How old an event may be, or how far lakeFS's clock may be ahead.
WINDOW = timedelta(minutes=5)
BODY_LIMIT = 64 << 10
_log = logging.getLogger("visionops.webhook")
ACTION_TEMPLATE = home.ROOT / "deploy" / "lakefs" / "visionops.yaml"
ACTION_PATH = "_lakefs_actions/visionops.yaml"
ACTION_BRANCH = "visionops-webhook"
ACTION_MESSAGE = "Tell VisionOps of each commit to main"


class CallRefused(Refused):
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
            raise CallRefused(400, "the body is no JSON: lakeFS posts its event as JSON") from None
        if not isinstance(told, dict):
            raise CallRefused(400, "the body is no JSON object: lakeFS posts its event as one")
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
class WebhookGuard:
    """Lets each genuine event in once. `now` tells the time (UTC)."""

    token: str
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _taken: dict[str, datetime] = field(default_factory=dict)
    _started: datetime = field(init=False)

    def __post_init__(self) -> None:
        if len(self.token) < LEAST_TOKEN:
            raise Invalid(
                f"{WEBHOOK_TOKEN} has {len(self.token)} characters, {LEAST_TOKEN} are the least: make one with "
                '`python -c "import secrets; print(secrets.token_urlsafe(32))"`'
            )
        self._started = self.now().replace(microsecond=0)

    def admit(self, authorization: str | None, body: bytes) -> Event:
        """The event of a call. Raises `Refused`: 401 without the token, 400 for no event, 409 for a repeated one."""
        expected = f"Bearer {self.token}".encode()
        if not hmac.compare_digest((authorization or "").encode(), expected):
            raise CallRefused(401, "no valid token: send `Authorization: Bearer <token>`")
        event = Event.read(body)
        now = self.now()
        if event.when > now + WINDOW:
            raise CallRefused(
                409, f"the event is of {event.when:%H:%M:%S} UTC, which is still to come: set the clocks"
            )
        # What was told before this process began may have been taken by the one before it.
        if event.when < max(now - WINDOW, self._started):
            raise CallRefused(
                409,
                f"the event is of {event.when:%Y-%m-%d %H:%M:%S} UTC, too old to be told from a repeated one",
            )
        self._taken = {known: when for known, when in self._taken.items() if when >= now - WINDOW}
        if event.identity in self._taken:
            raise CallRefused(409, "this event was taken already")
        self._taken[event.identity] = event.when
        return event

    def forget(self, event: Event) -> None:
        """Let an event in once more: nothing came of it."""
        self._taken.pop(event.identity, None)


def _text(told: dict[str, Any], name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not value:
        raise CallRefused(400, f"the event says no {name}")
    return value


def _time(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise CallRefused(400, "event_time is no time such as 2026-03-02T08:00:00Z") from None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


class SensorNotTicked(Unavailable, RuntimeError):
    """A sensor could not look, or its run could not be requested; its own interval will."""


def receiver_app(guard: WebhookGuard, look: Callable[[Event], str]) -> Starlette:
    """Answers lakeFS. `look` has the sensor look for an event and says what came of it; raises `SensorNotTicked`."""

    async def lakefs(request: Request) -> JSONResponse:
        caller = request.client.host if request.client else "unknown"
        try:
            event = guard.admit(request.headers.get("authorization"), await _body(request))
        except ClientDisconnect:
            return JSONResponse({"error": "the call did not come whole"}, 400)
        except CallRefused as refused:
            _log.warning("refused a call from %s: %s", caller, refused.why)
            return JSONResponse({"error": refused.why}, refused.status)
        if event.kind not in TOLD:
            return JSONResponse({"ignored": f"{event.kind}: only {' and '.join(TOLD)} are looked at"})
        try:
            said = await asyncio.to_thread(look, event)
        except SensorNotTicked as error:
            guard.forget(event)
            _log.error("%s of %s/%s: %s", event.kind, event.repository, event.branch, error)
            return JSONResponse({"error": str(error)}, 503)
        _log.info("%s of %s/%s: %s", event.kind, event.repository, event.branch, said)
        return JSONResponse({"said": said})

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"visionops": "webhook"})

    return Starlette(routes=[Route("/lakefs", lakefs, methods=["POST"]), Route("/health", health)])


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_LIMIT:
            raise CallRefused(413, f"the body is larger than {BODY_LIMIT >> 10} KiB")
    return body


def action_file(url: str) -> bytes:
    """The action file that posts to `url`. Raises ValueError for what is no http address."""
    if not re.fullmatch(r"https?://[^\s/\"'#]+(/[^\s\"'#]*)?", url):
        raise Invalid(
            f"{url} is no http address of a receiver, such as http://visionops.example.com:9322/lakefs"
        )
    return re.sub(r"(?m)^(\s*url: ).*$", lambda found: found[1] + url, ACTION_TEMPLATE.read_text()).encode()


def install_action(lakefs: LakeFSResource, repository: str, url: str) -> str | None:
    """Commit the action on a branch and merge it to main; the merge commit, or None where it is there already.

    By a merge, since main may be protected. Raises what lakeFS raises.
    """
    content = action_file(url)
    # As the first import would.
    lakefs.create_repository(repository)
    with contextlib.suppress(LakeFSNotFound):
        if lakefs.read(repository, MAIN, ACTION_PATH) == content:
            return None
    lakefs.delete_branch(repository, ACTION_BRANCH)
    lakefs.create_branch(repository, ACTION_BRANCH)
    lakefs.write(repository, ACTION_BRANCH, ACTION_PATH, content)
    lakefs.save(repository, ACTION_BRANCH, ACTION_MESSAGE, {})
    merged = lakefs.merge(repository, ACTION_BRANCH, MAIN, ACTION_MESSAGE)
    lakefs.delete_branch(repository, ACTION_BRANCH)
    return merged
