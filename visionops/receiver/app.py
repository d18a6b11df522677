"""The ASGI application: POST /lakefs for lakeFS, GET /health for whoever restarts what hangs."""

import asyncio
import logging
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from visionops.receiver.events import TOLD, Event, Guard, Refused

BODY_LIMIT = 64 << 10
_log = logging.getLogger("visionops.webhook")


class SensorNotTicked(RuntimeError):
    """A sensor could not look, or its run could not be requested; its own interval will."""


def receiver_app(guard: Guard, look: Callable[[Event], str]) -> Starlette:
    """Answers lakeFS. `look` has the sensor look for an event and says what came of it; raises `SensorNotTicked`."""

    async def lakefs(request: Request) -> JSONResponse:
        caller = request.client.host if request.client else "unknown"
        try:
            event = guard.admit(request.headers.get("authorization"), await _body(request))
        except ClientDisconnect:
            return JSONResponse({"error": "the call did not come whole"}, 400)
        except Refused as refused:
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
            raise Refused(413, f"the body is larger than {BODY_LIMIT >> 10} KiB")
    return body
