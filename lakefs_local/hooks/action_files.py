"""Action files, read: which hooks run on which events of which branches; and their webhooks, called: the event as
JSON in a POST, where any answer but 2xx, or none in time, is a refusal.

Whoever may upload may write them: a file has no aliases, and a call so much time in all, and no more answer is read
than is kept.
"""

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import yaml

PREFIX = "_lakefs_actions/"
_SUBJECTS = (
    "commit",
    "merge",
    "create-branch",
    "delete-branch",
    "create-tag",
    "delete-tag",
    "revert",
    "cherry-pick",
)
EVENTS = {"prepare-commit"} | {f"{when}-{subject}" for when in ("pre", "post") for subject in _SUBJECTS}
_DEEPEST, _MOST_NODES, _LONGEST = 16, 10_000, 1024
# The one in C, where PyYAML was built with it, is thirty times as fast.
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_TYPES = {"webhook", "airflow", "lua"}
_NAME = re.compile(r"\w[\w\-. ]+", re.ASCII)
_HOOK_ID = re.compile(r"[_a-zA-Z][\-_a-zA-Z0-9]{1,255}")
_DEFAULT_TIMEOUT = 60.0
# Of all hooks of one event together.
TOTAL_SECONDS = 120.0
_ANSWER_LIMIT = 64 << 10
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_ENVIRONMENT = re.compile(r"\{\{\s*ENV\.(\w+)\s*\}\}")
# Only such variables can be sent out: an action file is data that anybody who may commit can write.
_ENVIRONMENT_PREFIX = "LAKEFSACTION_"


class InvalidAction(ValueError):
    """An action file says something that lakeFS does not accept."""


@dataclass(frozen=True)
class Hook:
    """One call of an action. `condition` is lakeFS's `if`."""

    id: str
    type: str
    properties: dict[str, Any]
    condition: str = ""


@dataclass(frozen=True)
class Action:
    """`events` gives each event's branch patterns; an empty list means every branch."""

    name: str
    events: dict[str, list[str]] = field(default_factory=dict)
    hooks: list[Hook] = field(default_factory=list)

    def matches(self, event: str, branch: str) -> bool:
        """Whether the action runs on an event of a branch."""
        patterns = self.events.get(event)
        return patterns is not None and (
            not patterns or any(fnmatchcase(branch, pattern) for pattern in patterns)
        )


def parse_action(data: bytes) -> Action:
    """Read one action file. Raises InvalidAction."""
    try:
        _check_size(data)
        # Every value as text: otherwise YAML reads the key `on` as true.
        content = yaml.load(data, Loader=_LOADER)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as problem:
        raise InvalidAction(f"yaml: {problem}") from None
    if not isinstance(content, dict):
        raise InvalidAction("'name' is required: invalid action")
    name = content.get("name")
    if not isinstance(name, str) or not name or len(name) > _LONGEST:
        raise InvalidAction("'name' is required: invalid action")
    if not _NAME.fullmatch(name):
        raise InvalidAction("'name' is invalid: invalid action")
    return Action(name, _events(content.get("on")), _hooks(content.get("hooks") or []))


def _check_size(data: bytes) -> None:
    """Refuse what would take much to build, before it is built. Raises InvalidAction and what YAML raises."""
    depth = nodes = 0
    for event in yaml.parse(data, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidAction("yaml: aliases are not supported: write out what they stand for")
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST or nodes > _MOST_NODES:
            raise InvalidAction(
                f"yaml: deeper than {_DEEPEST} or more than {_MOST_NODES} values: invalid action"
            )


def _text_of(value: Any, what: str) -> str:
    """A field that is text, empty where there is none."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise InvalidAction(f"{what} is not a text of up to {_LONGEST} characters: invalid action")
    return value


def _events(content: Any) -> dict[str, list[str]]:
    if not isinstance(content, dict) or not content:
        raise InvalidAction("'on' is required: invalid action")
    events = {}
    for event, scope in content.items():
        if event not in EVENTS:
            raise InvalidAction(f"event '{str(event)[:100]}' is not supported: invalid action")
        patterns = (scope.get("branches") if isinstance(scope, dict) else None) or []
        if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
            raise InvalidAction(f"'branches' of event '{event}' is not a list of patterns: invalid action")
        if patterns and event.endswith("-tag"):
            raise InvalidAction("'branches' is not supported in tag event types. invalid event parameter")
        events[event] = patterns
    return events


def _hooks(content: Any) -> list[Hook]:
    if not isinstance(content, list):
        raise InvalidAction("'hooks' is not a list: invalid action")
    hooks: list[Hook] = []
    for number, item in enumerate(content):
        fields = item if isinstance(item, dict) else {}
        hook_id, kind = _text_of(fields.get("id"), f"'id' of hook[{number}]"), fields.get("type")
        if not _HOOK_ID.fullmatch(hook_id):
            raise InvalidAction(f"hook[{number}] missing ID: invalid action")
        if any(hook.id == hook_id for hook in hooks):
            raise InvalidAction(f"hook[{number}] duplicate ID '{hook_id}': invalid action")
        if not isinstance(kind, str) or kind not in _TYPES:
            raise InvalidAction(f"hook[{number}] type '{hook_id}' unknown: invalid action")
        properties = fields.get("properties")
        condition = _text_of(fields.get("if"), f"'if' of hook[{number}]")
        hooks.append(Hook(hook_id, kind, properties if isinstance(properties, dict) else {}, condition))
    return hooks


class HookFailed(Exception):
    """A hook refused or could not be asked."""


class Calls:
    """The calls that wait for an answer now, so that a server that leaves can end them."""

    def __init__(self) -> None:
        self._open: set[socket.socket] = set()
        self._changing = threading.Lock()
        self._ended = False

    @contextlib.contextmanager
    def of(self, connected: socket.socket, seconds: float) -> Iterator[None]:
        """Cut a connection off after so many seconds in all."""
        # A handle of its own: what speaks TLS or HTTP on the other one takes it away.
        with connected.dup() as handle:
            with self._changing:
                if self._ended:
                    raise OSError("the server leaves")
                self._open.add(handle)
            timer = threading.Timer(seconds, _cut, (handle,))
            timer.daemon = True
            timer.start()
            try:
                yield
            finally:
                timer.cancel()
                with self._changing:
                    self._open.discard(handle)

    def end(self) -> None:
        """Cut all of them off, and begin no more."""
        with self._changing:
            self._ended = True
            for handle in self._open:
                _cut(handle)


def _cut(handle: socket.socket) -> None:
    with contextlib.suppress(OSError):
        handle.shutdown(socket.SHUT_RDWR)


def call_webhook(
    properties: dict[str, Any],
    event: dict[str, Any],
    output: list[str],
    *,
    within: float = TOTAL_SECONDS,
    calls: Calls | None = None,
) -> None:
    """Post the event; what was sent and answered is appended to `output`. Raises HookFailed, also where it takes more
    than `within` seconds in all."""
    url = properties.get("url")
    if not isinstance(url, str):
        raise HookFailed("missing url: webhook wrong format")
    try:
        address = urlsplit(url)
        port = address.port
    except ValueError as problem:
        raise HookFailed(f"{url} is no http address ({problem}): webhook wrong format") from None
    if address.scheme not in ("http", "https") or not address.hostname:
        raise HookFailed(f"{url} is no http address: webhook wrong format")
    query = parse_qsl(address.query, keep_blank_values=True) + _query(properties.get("query_params"))
    target = (address.path or "/") + (f"?{urlencode(query)}" if query else "")
    body = json.dumps(event, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json"}
    for name, value in _mapping(properties.get("headers"), "headers").items():
        headers[name] = _filled(value)
    output += [f"Request:\nPOST {url}\n", f"Request Body:\n{body.decode()}\n"]
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    seconds = min(_timeout(properties.get("timeout")), within)
    if seconds <= 0:
        raise HookFailed(f"the hooks of an event may take {TOTAL_SECONDS:g} s together, which are over")
    connection = kind(address.hostname, port, timeout=seconds)
    began = time.monotonic()
    try:
        connected = socket.create_connection((connection.host, connection.port), seconds)
        with (calls or Calls()).of(connected, max(0.0, seconds - (time.monotonic() - began))):
            connection.sock = (
                ssl.create_default_context().wrap_socket(connected, server_hostname=address.hostname)
                if address.scheme == "https"
                else connected
            )
            connection.request("POST", target, body, headers)
            answer = connection.getresponse()
            status = answer.status
            said = answer.read(_ANSWER_LIMIT).decode(errors="replace")
        if time.monotonic() - began >= seconds:
            raise TimeoutError(f"no whole answer within {seconds:g} s")
        output.append(f"Response:\n{status}\n{said}\n")
    except (OSError, http.client.HTTPException, ValueError) as problem:
        raise HookFailed(f"action failed: Post {url!r}: {problem}") from None
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise HookFailed(f"action failed: webhook request failed (status code: {status})")


def _timeout(text: Any) -> float:
    if not text:
        return _DEFAULT_TIMEOUT
    parts = _DURATION.findall(str(text))
    if "".join(number + unit for number, unit in parts) != text:
        raise HookFailed(f"webhook request duration: {text!r} is no duration such as 10s")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _query(params: Any) -> list[tuple[str, str]]:
    found = []
    for name, value in _mapping(params, "query params").items():
        found += [(name, _filled(item)) for item in (value if isinstance(value, list) else [value])]
    return found


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if value and not isinstance(value, dict):
        raise HookFailed(f"unsupported {what}: webhook wrong format")
    return value or {}


def _filled(value: Any) -> str:
    if not isinstance(value, str):
        raise HookFailed("headers and query params should contain only strings: webhook wrong format")

    def look_up(match: re.Match[str]) -> str:
        name = match[1]
        if not name.startswith(_ENVIRONMENT_PREFIX) or name not in os.environ:
            raise HookFailed(f"environment variable {name} is not set or not for actions: missing env var")
        return os.environ[name]

    return _ENVIRONMENT.sub(look_up, value)
