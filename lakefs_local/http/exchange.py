"""One HTTP request and its answer, on bare ASGI: what a route needs and no more; its query parameters and JSON
body, checked as lakeFS's schema does and refused in its words.
"""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from lakefs_local.catalog.conventions import Paging

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON_BODY_LIMIT = 16 << 20
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
MAX_AMOUNT = 1000
DEFAULT_AMOUNT = 100


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


FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799


def text_of(call: Call, name: str, default: str | None = None, *, allow_empty: bool = True) -> str:
    """A string; without a default it must be there and, unless allowed, not empty. Raises Refusal (400)."""
    values = call.query.get(name)
    if values is None:
        if default is None:
            raise _query_error(name, "value is required but missing")
        return default
    if not values[-1] and not allow_empty:
        raise _query_error(name, "empty value is not allowed")
    return values[-1]


def required_text(call: Call, name: str) -> str:
    """A string that must be there and not empty. Raises Refusal (400)."""
    return text_of(call, name, allow_empty=False)


def boolean_of(call: Call, name: str, default: bool = False) -> bool:
    """A boolean as Go's `strconv.ParseBool` reads it: official Python clients send `True`. Raises Refusal (400)."""
    value = text_of(call, name, "")
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    if value:
        raise _query_error(name, f"value {value}: an invalid boolean: invalid syntax")
    return default


def strings_of(call: Call, name: str) -> list[str]:
    """A string that may be repeated."""
    return [value for value in call.query.get(name, []) if value]


def choice_of(call: Call, name: str, allowed: list[str], default: str) -> str:
    """One of some values. Raises Refusal (400)."""
    value = text_of(call, name, default)
    if value not in allowed:
        raise _query_error(name, f"value is not one of the allowed values {_in_a_row(allowed)}")
    return value


def amount_of(call: Call) -> int:
    """How many results a page holds: 100 by default, at most 1,000; 0 and -1 mean the most. Raises Refusal (400)."""
    value = text_of(call, "amount", str(DEFAULT_AMOUNT))
    if not _INTEGER.fullmatch(value):
        raise _query_error("amount", f"value {value}: an invalid integer: invalid syntax")
    number = int(value)
    if number < -1:
        raise _query_error("amount", "number must be at least -1")
    if number > MAX_AMOUNT:
        raise _query_error("amount", f"number must be at most {MAX_AMOUNT}")
    return number if number > 0 else MAX_AMOUNT


def paging_of(call: Call) -> Paging:
    """`prefix`, `after`, `amount` and `delimiter`. Raises Refusal (400)."""
    return Paging(
        text_of(call, "prefix", ""),
        text_of(call, "after", ""),
        amount_of(call),
        text_of(call, "delimiter", ""),
    )


@dataclass(frozen=True)
class Field:
    """A property of a JSON object. `kind`: string, boolean, integer, time (seconds since the epoch), strings (a map),
    list of strings, object, list."""

    kind: str = "string"
    needed: bool = False
    pattern: str = ""
    allowed: list[str] = field(default_factory=list)
    schema: "Schema | None" = None


@dataclass(frozen=True)
class Schema:
    """A JSON object by the name that lakeFS gives it."""

    name: str
    fields: dict[str, Field]


async def json_body(call: Call, schema: Schema, *, optional: bool = False) -> dict[str, Any]:
    """The JSON body, checked. Raises Refusal (400)."""
    data = await call.body()
    if not data and optional:
        return {}
    value = _decoded(data)
    _check_object(value, schema, schema.name, "")
    return {name: found for name, found in value.items() if found is not None}


async def json_list(call: Call, schema: Schema) -> list[dict[str, Any]]:
    """A JSON body that is a list of objects, checked. Raises Refusal (400)."""
    value = _decoded(await call.body())
    if not isinstance(value, list):
        raise _body_error(schema.name, "", "value must be an array")
    for at, item in enumerate(value):
        _check_object(item, schema, schema.name, f"/{at}")
    return value


def _decoded(data: bytes) -> Any:
    if not data:
        raise Refusal(400, "request body has an error: value is required but missing")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as problem:
        reason = "unexpected EOF" if len(data) < 2 else str(problem)
        raise Refusal(400, f"request body has an error: failed to decode request body: {reason}") from None


def _check_object(value: Any, schema: Schema, root: str, at: str) -> None:
    if not isinstance(value, dict):
        raise _body_error(
            root, at, "value must be an object" if value is not None else "Value is not nullable"
        )
    for name, expected in schema.fields.items():
        if value.get(name) is None:
            if expected.needed:
                raise _body_error(root, f"{at}/{name}", f'property "{name}" is missing')
            continue
        _check(value[name], expected, root, f"{at}/{name}")


def _check(value: Any, expected: Field, root: str, at: str) -> None:
    kind = expected.kind
    if kind == "string":
        _check_string(value, expected, root, at)
    elif kind == "boolean" and not isinstance(value, bool):
        raise _body_error(root, at, "value must be a boolean")
    elif kind in ("integer", "time"):
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 62:
            raise _body_error(root, at, "value must be an integer")
        if kind == "time" and not FIRST_SECOND <= value <= LAST_SECOND:
            raise _body_error(root, at, "value must be a time in the years 1 to 9999, in seconds")
    elif kind == "object" and expected.schema:
        _check_object(value, expected.schema, root, at)
    elif kind == "strings":
        if not isinstance(value, dict):
            raise _body_error(root, at, "value must be an object")
        for name, item in value.items():
            _check_string(name, expected, root, at)
            _check_string(item, expected, root, f"{at}/{name}")
    elif kind == "list":
        if not isinstance(value, list):
            raise _body_error(root, at, "value must be an array")
        for number, item in enumerate(value):
            if expected.schema:
                _check_object(item, expected.schema, root, f"{at}/{number}")
            else:
                _check_string(item, expected, root, f"{at}/{number}")


def _check_string(value: Any, expected: Field, root: str, at: str) -> None:
    if not isinstance(value, str):
        raise _body_error(root, at, "value must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _body_error(root, at, "string is not valid UTF-8") from None
    if expected.pattern and not re.fullmatch(expected.pattern, value, re.DOTALL):
        raise _body_error(root, at, f'string doesn\'t match the regular expression "^{expected.pattern}$"')
    if expected.allowed and value not in expected.allowed:
        raise _body_error(root, at, f"value is not one of the allowed values {_in_a_row(expected.allowed)}")


def _query_error(name: str, reason: str) -> Refusal:
    return Refusal(400, f'parameter "{name}" in query has an error: {reason}')


def _body_error(schema: str, at: str, reason: str) -> Refusal:
    place = f'Error at "{at}": ' if at else ""
    return Refusal(
        400, f"request body has an error: doesn't match schema #/components/schemas/{schema}: {place}{reason}"
    )


def _in_a_row(values: list[str]) -> str:
    return json.dumps(values, separators=(",", ":"))
