"""A server that is a device: it answers by what its group is assigned, as agents in the field do.

The agent keeps the model current beside it, tries a new one in a process of its own before it answers, and goes back
from one that fails; images are answered by a process, which takes no request along when it dies. GET /health tells what
`visionops-edge status` tells.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge import machine
from edge.answering import NoModel
from edge.device import Device
from edge.files import named_path
from edge.runner import BadImage
from edge.settings import Settings
from resources.error_family import Invalid
from resources.models.records import EVERYWHERE
from visionops.serving.prediction_app import CONTENT_TYPE, QUEUE, ServingMetrics
from visionops.serving.request_handling import FAILED, TOO_MANY, NoImage, body_hint, image_of

_log = logging.getLogger(__name__)
_RETRY = {"retry-after": "1"}


def opened_device(folder: Path, *, project: str, device: str, group: str = EVERYWHERE) -> Device:
    """The device of a folder that `visionops fleet provision` made, held to its names; `group` `all`: its own.

    Raises `Invalid` for another's folder, and `SettingsError`.
    """
    if (why := machine.unsupported()) is not None:
        raise Invalid(why)
    settings = Settings.read(named_path(folder).absolute())
    asked = (project, device, settings.group if group == EVERYWHERE else group)
    if asked != (settings.project, settings.device, settings.group):
        raise Invalid(
            f"{folder} is of {settings.device}, group {settings.group} of {settings.project}, not of {asked[1]}, group "
            f"{asked[2]} of {asked[0]}: name its own, or `visionops fleet provision {project} --group GROUP --device "
            f"{device} --to FOLDER` makes another"
        )
    # What is answered comes over HTTP, and its answer goes back there.
    return Device(replace(settings, source=None, sink=None))


class AssignedApp:
    """An ASGI application: POST /predict, GET /health, GET /metrics. `device` is entered by who serves."""

    def __init__(self, project: str, device: Device, queue: int = QUEUE) -> None:
        self._project, self._device, self._queue = project, device, queue
        self._metrics = ServingMetrics(project, device.agent.state.group, dict)
        self._waiting, self._version = 0, -1
        # The agent answers one image after the other.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answer")
        self._routes = Starlette(
            routes=[
                Route("/predict", self._predict, methods=["POST"]),
                Route("/health", self._health),
                Route("/metrics", self._show_metrics),
            ]
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._routes(scope, receive, send)

    def answers(self) -> str:
        """What answers, in words."""
        status = self._device.agent.status()
        serving = status["serving"]
        if serving is None:
            return f"no model answers yet ({status['problem'] or 'the first one is on its way'})"
        told = f"version {serving['version']} of {self._project} (release {serving['release']}) answers"
        return f"{told} as {status['device']} of {status['group']}"

    async def _predict(self, request: Request) -> Response:
        if self._waiting >= self._queue:
            return self._said(429, {"error": TOO_MANY}, time.perf_counter())
        self._waiting += 1
        try:
            data = await image_of(request.scope, request.receive)
            started = time.perf_counter()
            return self._said(*await self._answered(request, data), started)
        except NoImage as error:
            return self._said(error.status, {"error": str(error)}, time.perf_counter())
        except ClientDisconnect:
            return Response(status_code=499)
        finally:
            self._waiting -= 1

    async def _answered(self, request: Request, data: bytes) -> tuple[int, dict[str, Any]]:
        answer = partial(self._device.answer, data)
        try:
            told = await asyncio.get_running_loop().run_in_executor(self._thread, answer)
        except BadImage as error:
            return 400, {"error": f"{error}{body_hint(request.scope)}"}
        except NoModel as error:
            return 503, {"error": str(error)}
        except Exception:
            _log.exception("a prediction of %s failed", self._project)
            return 500, {"error": FAILED}
        self._serves(told["model"])
        return 200, {"project": self._project, **told}

    def _serves(self, model: Mapping[str, Any]) -> None:
        if model["version"] != self._version:
            self._metrics.serving(model["version"], swapped=self._version >= 0)
            self._version = model["version"]

    def _said(self, status: int, told: Mapping[str, Any], started: float) -> Response:
        self._metrics.answered(status, time.perf_counter() - started)
        return JSONResponse(told, status, headers=_RETRY if status in (429, 503) else None)

    async def _health(self, _: Request) -> Response:
        status = self._device.agent.status()
        serving = status["serving"]
        told = {
            "status": "ok" if serving is not None else "no model",
            "project": self._project,
            "model": serving,
            **{
                name: status[name]
                for name in ("device", "group", "phase", "candidate", "quarantine", "problem")
            },
        }
        return JSONResponse(told, 200 if serving is not None else 503)

    async def _show_metrics(self, _: Request) -> Response:
        self._metrics.waiting(self._waiting)
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)
