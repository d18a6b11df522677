"""The ASGI application: who asks, for what, and how the answer or the refusal goes out."""

import errno
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from types import ModuleType

from lakefs_local.catalog import errors
from lakefs_local.credentials import Authenticator
from lakefs_local.http.call import Call, Disconnected, Message, Receive, Refusal, Reply, Send, reply_json
from lakefs_local.http.operations import operations
from lakefs_local.http.router import Router
from lakefs_local.http.routes import actions, branches, changes, imports, objects, repositories, service
from lakefs_local.http.server import Server

Handler = Callable[[Server, Call], Awaitable[Reply]]

API = "/api/v1"
_PUBLIC = {"health_check", "get_setup_state", "setup", "get_auth_capabilities"}
_ROUTES: list[ModuleType] = [service, repositories, branches, changes, objects, imports, actions]
_STATUS: dict[type[errors.CatalogError], int] = {
    errors.NotFound: 404,
    errors.Invalid: 400,
    errors.NotUnique: 409,
    errors.Conflict: 409,
    errors.Forbidden: 403,
    errors.NoChanges: 400,
    errors.Dirty: 400,
    errors.PreconditionFailed: 412,
    errors.TooManyTries: 503,
    errors.BrokenActions: 500,
    errors.Gone: 410,
}
_log = logging.getLogger("lakefs_local")


class Application:
    """One server's ASGI callable. `on_request` is told of every request but health checks."""

    def __init__(
        self, server: Server, authenticator: Authenticator, on_request: Callable[[], None] = lambda: None
    ):
        self._server, self._authenticator, self._on_request = server, authenticator, on_request
        self._router: Router[tuple[str, Handler]] = Router()
        handlers = {name: value for module in _ROUTES for name, value in vars(module).items()}
        for method, template, name in operations():
            wanted = "get_object" if name == "head_object" else name
            self._router.add(method, API + template, (name, handlers.get(wanted) or _not_supported(name)))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"{scope['type']} connections are not served")
        try:
            reply = await self._guarded(scope, receive)
        except Disconnected:
            return
        await _send(scope["method"], reply, send)

    async def _guarded(self, scope: Message, receive: Receive) -> Reply:
        try:
            return await self._answer(scope, receive)
        except Refusal as problem:
            return _refusal(problem.status, problem.message, problem.headers)
        except errors.MergeConflict:
            return reply_json(409, {"reference": ""})
        except errors.CatalogError as problem:
            return _refusal(_STATUS[type(problem)], str(problem))
        except Disconnected:
            raise
        except (OSError, sqlite3.Error) as problem:
            return _storage_failure(scope, problem)
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            return _refusal(500, "internal error: see the server's log")

    async def _answer(self, scope: Message, receive: Receive) -> Reply:
        raw_path = scope["raw_path"].decode("latin-1")
        try:
            found = self._router.find(scope["method"], raw_path)
        except UnicodeDecodeError:
            raise Refusal(400, "the path is not valid UTF-8") from None
        if found is None:
            raise Refusal(404, "invalid API endpoint")
        (name, handler), parameters = found
        call = Call(scope, receive, parameters)
        if name != "health_check":
            self._on_request()
        if name not in _PUBLIC:
            self._check_signed_in(call)
        return await handler(self._server, call)

    def _check_signed_in(self, call: Call) -> None:
        if self._authenticator.key_of(call.headers.get("authorization")) is None:
            raise Refusal(401, "error authenticating request")
        # A browser that remembers the key pair would send it along with a form on somebody else's page.
        if call.method not in ("GET", "HEAD") and call.headers.get("sec-fetch-site") in (
            "cross-site",
            "same-site",
        ):
            raise Refusal(403, "requests from another site may not change anything")


def _not_supported(name: str) -> Handler:
    async def refuse(server: Server, call: Call) -> Reply:
        raise Refusal(501, f"lakefs_local does not support the operation {name}")

    return refuse


def _refusal(status: int, message: str, headers: dict[str, str] | None = None) -> Reply:
    reply = reply_json(status, {"message": message})
    reply.headers.update(headers or {})
    return reply


def _storage_failure(scope: Message, problem: Exception) -> Reply:
    _log.error("%s %s failed: %s", scope["method"], scope["path"], problem)
    full = isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "disk is full" in str(problem):
        return _refusal(507, "the disk that holds the data folder is full: nothing was stored")
    return _refusal(
        500, f"the data folder cannot be read or written ({type(problem).__name__}): nothing was stored"
    )


async def _send(method: str, reply: Reply, send: Send) -> None:
    headers = dict(reply.headers)
    body = reply.body
    # lakeFS answers a HEAD that fails with a bare status.
    if reply.status not in (204, 304) and not (method == "HEAD" and reply.status >= 400):
        if reply.content_type:
            headers["content-type"] = reply.content_type
        if isinstance(body, bytes):
            headers.setdefault("content-length", str(len(body)))
    raw = [(name.encode(), _header_value(value)) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    if isinstance(body, bytes):
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
        return
    async for chunk in body:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _header_value(value: str) -> bytes:
    return value.replace("\r", " ").replace("\n", " ").replace("\0", " ").encode("latin-1", "replace")
