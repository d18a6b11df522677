"""One HTTP request and its answer, on bare ASGI: what a route needs and no more."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON_BODY_LIMIT = 16 << 20


class Refusal(Exception):
    """An answer other than success, with a message for the client."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


class Disconnected(Exception):
    """The client went away before its request was complete."""


@dataclass(slots=True)
class Reply:
    """`body` is bytes, or an async iterator of them whose total length `headers` must state."""

    status: int
    body: bytes | AsyncIterator[bytes] = b""
    content_type: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def reply_json(status: int, value: Any) -> Reply:
    """A JSON answer."""
    return Reply(
        status, json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), "application/json"
    )


def reply_text(status: int, text: str) -> Reply:
    """A plain text answer."""
    return Reply(status, text.encode(), "text/plain; charset=utf-8")


NO_CONTENT = Reply(204)


class Call:
    """A request: method, path parameters, query, headers, body."""

    def __init__(self, scope: Message, receive: Receive, parameters: dict[str, str]):
        self.scope, self._receive = scope, receive
        self.method: str = scope["method"]
        self.parameters = parameters

    @cached_property
    def headers(self) -> dict[str, str]:
        """Headers by lower-case name; of repeated ones the last."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.scope["headers"]}

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """Query values by name. Raises Refusal (400) for what is not UTF-8."""
        text = self.scope["query_string"].decode("latin-1")
        found: dict[str, list[str]] = {}
        try:
            for name, value in parse_qsl(text, keep_blank_values=True, errors="strict"):
                found.setdefault(name, []).append(value)
        except ValueError as problem:
            raise Refusal(400, f"the query is not valid: {problem}") from None
        return found

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises Disconnected."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]

    async def body(self, limit: int = JSON_BODY_LIMIT) -> bytes:
        """The whole body. Raises Refusal (413) beyond `limit` bytes."""
        parts, size = [], 0
        async for chunk in self.chunks():
            size += len(chunk)
            if size > limit:
                raise Refusal(413, f"request body has an error: larger than {limit} bytes")
            parts.append(chunk)
        return b"".join(parts)
