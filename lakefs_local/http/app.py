"""The ASGI application: who asks, for what, and how the answer or the refusal goes out."""

import errno
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import ModuleType

from lakefs_local.catalog import conventions
from lakefs_local.data_folder import Authenticator
from lakefs_local.http import change_routes, import_routes, object_routes, repository_routes
from lakefs_local.http.exchange import Call, Disconnected, Message, Receive, Refusal, Reply, Send, reply_json
from lakefs_local.http.router import Router, operations
from lakefs_local.http.server import AccessLog, Server
from lakefs_local.pages import routes as pages
from lakefs_local.pages.routes import Visitors
from webserver.guard import is_foreign

Handler = Callable[[Server, Call], Awaitable[Reply]]

API = "/api/v1"
_PUBLIC = {"health_check", "get_setup_state", "setup", "get_auth_capabilities"} | pages.PUBLIC
_ROUTES: list[ModuleType] = [
    repository_routes,
    repository_routes,
    change_routes,
    change_routes,
    object_routes,
    import_routes,
    repository_routes,
]
_STATUS: dict[type[conventions.CatalogError], int] = {
    conventions.NotFound: 404,
    conventions.Invalid: 400,
    conventions.NotUnique: 409,
    conventions.Conflict: 409,
    conventions.Forbidden: 403,
    conventions.NoChanges: 400,
    conventions.Dirty: 400,
    conventions.PreconditionFailed: 412,
    conventions.TooManyTries: 503,
    conventions.BrokenActions: 500,
    conventions.Gone: 410,
}
_DAMAGED = ("malformed", "not a database", "disk I/O error")
_log = logging.getLogger("lakefs_local")


@dataclass(frozen=True, slots=True)
class _Route:
    name: str
    handler: Handler
    is_page: bool = False


@dataclass(slots=True)
class _Answered:
    """What is known of a request by the time it is answered."""

    operation: str = "unknown"
    key: str = ""
    is_page: bool = False


class Application:
    """One server's ASGI callable. `on_request` is told of every request but health checks.

    `local_pages`: whoever sits at this machine sees the pages without a key pair.
    """

    def __init__(
        self,
        server: Server,
        authenticator: Authenticator,
        access_log: AccessLog,
        on_request: Callable[[], None] = lambda: None,
        *,
        local_pages: bool = False,
    ):
        self._server, self._authenticator, self._on_request = server, authenticator, on_request
        self._access_log, self._visitors = access_log, Visitors() if local_pages else None
        self._router: Router[_Route] = Router()
        handlers = {name: value for module in _ROUTES for name, value in vars(module).items()}
        for method, template, name in operations():
            wanted = "get_object" if name == "head_object" else name
            self._router.add(
                method, API + template, _Route(name, handlers.get(wanted) or _not_supported(name))
            )
        for method, template, handler in pages.PAGES:
            self._router.add(method, template, _Route(handler.__name__, handler, is_page=True))
        for method, template, handler in [*pages.OTHERS, *import_routes.OPERATIONS]:
            self._router.add(method, template, _Route(handler.__name__, handler))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"{scope['type']} connections are not served")
        started = time.perf_counter()
        answered = _Answered()
        status, sent = 499, 0
        try:
            reply = await self._guarded(scope, receive, answered)
            status = reply.status
            sent = await _send(scope["method"], reply, send)
        except Disconnected:
            return
        finally:
            self._note(scope, answered, status, sent, time.perf_counter() - started)

    async def _guarded(self, scope: Message, receive: Receive, answered: _Answered) -> Reply:
        try:
            return await self._answer(scope, receive, answered)
        except Refusal as problem:
            refusal = problem
        except conventions.MergeConflict:
            return reply_json(409, {"reference": ""})
        except conventions.CatalogError as problem:
            refusal = Refusal(_STATUS[type(problem)], str(problem))
        except Disconnected:
            raise
        except (OSError, sqlite3.Error) as problem:
            refusal = _storage_failure(scope, problem)
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            refusal = Refusal(500, "internal error: see the server's log")
        if answered.is_page:
            return pages.refusal(refusal.status, refusal.message)
        reply = reply_json(refusal.status, {"message": refusal.message})
        reply.headers.update(refusal.headers)
        return reply

    async def _answer(self, scope: Message, receive: Receive, answered: _Answered) -> Reply:
        raw_path = scope["raw_path"].decode("latin-1")
        try:
            found = self._router.find(scope["method"], raw_path)
        except UnicodeDecodeError:
            raise Refusal(400, "the path is not valid UTF-8") from None
        if found is None:
            raise Refusal(404, "invalid API endpoint")
        route, parameters = found
        answered.operation, answered.is_page = route.name, route.is_page
        call = Call(scope, receive, parameters)
        if route.name != "health_check":
            self._on_request()
        at_home = route.is_page and self._visitors is not None and self._visitors.is_at_home(call)
        if route.name not in _PUBLIC and not at_home:
            answered.key = self._signed_in(call)
        return await route.handler(self._server, call)

    def _signed_in(self, call: Call) -> str:
        key = self._authenticator.key_of(call.headers.get("authorization"))
        if key is None:
            raise Refusal(401, "error authenticating request")
        # A browser that remembers the key pair would send it along with a form on somebody else's page.
        foreign = is_foreign(dict(call.scope["headers"]), call.headers.get("host", ""))
        if foreign and call.method not in ("GET", "HEAD"):
            raise Refusal(403, "requests from another site may not change anything")
        return key

    def _note(self, scope: Message, answered: _Answered, status: int, sent: int, seconds: float) -> None:
        self._server.metrics.observe(answered.operation, status, seconds, sent)
        target = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        client = scope["client"][0] if scope.get("client") else "-"
        self._access_log.add(client, answered.key, scope["method"], target, status, sent, seconds)


def _not_supported(name: str) -> Handler:
    async def refuse(server: Server, call: Call) -> Reply:
        raise Refusal(501, f"lakefs_local does not support the operation {name}")

    return refuse


def _storage_failure(scope: Message, problem: Exception) -> Refusal:
    _log.error("%s %s failed: %s", scope["method"], scope["path"], problem)
    full = isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "disk is full" in str(problem):
        return Refusal(507, "the disk that holds the data folder is full: nothing was stored")
    if isinstance(problem, sqlite3.Error) and any(part in str(problem) for part in _DAMAGED):
        return Refusal(
            500,
            "metadata.db of the data folder is damaged: nothing was stored; stop the server, then restore the file "
            "from a backup, or try `sqlite3 metadata.db .recover`",
        )
    kind = type(problem).__name__
    return Refusal(500, f"the data folder cannot be read or written ({kind}): nothing was stored")


async def _send(method: str, reply: Reply, send: Send) -> int:
    """Send an answer; how many bytes its body had."""
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
        body = b"" if method == "HEAD" else body
        await send({"type": "http.response.body", "body": body})
        return len(body)
    sent = 0
    async for chunk in body:
        sent += len(chunk)
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    return sent


def _header_value(value: str) -> bytes:
    return value.replace("\r", " ").replace("\n", " ").replace("\0", " ").encode("latin-1", "replace")
