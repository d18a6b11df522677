"""Calling a webhook: the event as JSON in a POST; any answer but 2xx, or none in time, is a refusal.

Whoever may upload names it, so it is given so much time in all, however it spends it: one that sends a byte a second
would never meet a limit between two of them.
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
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

_DEFAULT_TIMEOUT = 60.0
# Of all hooks of one event together.
TOTAL_SECONDS = 120.0
_ANSWER_LIMIT = 64 << 10
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_ENVIRONMENT = re.compile(r"\{\{\s*ENV\.(\w+)\s*\}\}")
# Only such variables can be sent out: an action file is data that anybody who may commit can write.
_ENVIRONMENT_PREFIX = "LAKEFSACTION_"


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


def call(
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
