"""The ASGI application of the prediction server, POST /predict, GET /health, GET /metrics, and its numbers for
Prometheus.
"""

import asyncio
import contextlib
import gc
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edge.images.header import UnreadableImage
from visionops.serving.prediction_log import BackgroundLog
from visionops.serving.request_handling import (
    FAILED,
    TOO_MANY,
    Batcher,
    Busy,
    CurrentModel,
    Decoding,
    NoImage,
    body_hint,
    image_of,
)
from visionops_assets.config.recipe import InputSpec
from visionops_assets.monitoring.prediction import Answer, Picture, RunningModel, answer

_log = logging.getLogger(__name__)

DECODE_SECONDS = 2.0
QUEUE = 1024
# When whoever was sent away may come again.
_RETRY = (b"retry-after", b"1")
_PREDICT = "/predict"
# Kept: json.dumps makes one a call.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
# A picture, and the input that it was made for.
_Decoded = tuple[Picture, InputSpec]
# Status, body, and when the answering began.
_Said = tuple[int, bytes, float]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class PredictionApp:
    """Answers images by the current model, and gives what was predicted to the log, if there is one.

    An ASGI application. Images go past Starlette, whose way there and back takes longer than decoding a small one.
    """

    def __init__(
        self,
        project: str,
        group: str,
        current: CurrentModel,
        log: BackgroundLog | None,
        *,
        batch: int,
        look_every: float,
        queue: int = QUEUE,
        decode_seconds: float = DECODE_SECONDS,
    ) -> None:
        self._project, self._group = project, group
        self._current, self._log, self._look_every = current, log, look_every
        self._metrics = ServingMetrics(project, group, log.to_json if log is not None else dict)
        self._metrics.serving(current.model.version)
        self._decoding = Decoding(decode_seconds)
        self._batcher: Batcher[_Decoded, Answer | UnreadableImage] = Batcher(
            self._answer, batch, at_once=current.at_once
        )
        self._waiting, self._queue = 0, queue
        self._starlette = Starlette(
            routes=[
                Route(_PREDICT, self, methods=["POST"]),
                Route("/health", self._health),
                Route("/metrics", self._show_metrics),
            ],
            lifespan=self._lifespan,
            exception_handlers={404: _say_what_there_is, 405: _say_what_there_is},
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(
            self._current.watch(
                self._look_every, lambda model: self._metrics.serving(model.version, swapped=True)
            )
        )
        # What is there stays: looked through for garbage, it holds up everybody for a tenth of a second each time.
        gc.collect()
        gc.freeze()
        async with self._batcher:
            yield
        gc.unfreeze()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await asyncio.to_thread(self._decoding.close)
        if self._log is not None:
            await asyncio.to_thread(self._log.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != _PREDICT or scope["method"] != "POST":
            await self._starlette(scope, receive, send)
            return
        if self._waiting >= self._queue:
            status, body, started = _busy(time.perf_counter())
        else:
            self._waiting += 1
            try:
                status, body, started = await self._predicted(scope, receive)
            except ClientDisconnect:
                return
            finally:
                self._waiting -= 1
        self._metrics.answered(status, time.perf_counter() - started)
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        if status == 429:
            headers.append(_RETRY)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _predicted(self, scope: Scope, receive: Receive) -> _Said:
        """Raises `ClientDisconnect`."""
        try:
            data = await image_of(scope, receive)
        except NoImage as error:
            return _failed(error.status, str(error), time.perf_counter())
        started = time.perf_counter()
        try:
            shipped = self._current.model.shipped
            found = await self._batcher.ask((await self._decoding.picture(data, shipped), shipped.input))
            if isinstance(found, Answer):
                return 200, _json({"project": self._project, **found.to_json()}), started
        except UnreadableImage as error:
            found = error
        except Busy:
            return _busy(started)
        except asyncio.CancelledError:
            # Only of what a server that stops waited for too long.
            return _failed(503, "the server stops before this image is answered", started)
        except Exception:
            # Raised on, it would end the connection behind its answer, and the client's next request with it.
            _log.exception("a prediction of %s failed", self._project)
            return _failed(500, FAILED, started)
        return _failed(400, f"{found}{body_hint(scope)}", started)

    async def _health(self, _: Request) -> Response:
        told = {
            "status": "ok",
            "project": self._project,
            "group": self._group,
            "model": self._current.model.to_json(),
            "since": self._current.since.isoformat(),
            "problem": self._current.problem,
            "log": self._log.to_json() if self._log is not None else None,
        }
        return JSONResponse(told)

    async def _show_metrics(self, _: Request) -> Response:
        self._metrics.waiting(self._waiting)
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    def _answer(self, decoded: Sequence[_Decoded]) -> list[Answer | UnreadableImage]:
        """One batch, by one model."""
        model = self._current.model
        seen = [self._fitting(picture, spec, model) for picture, spec in decoded]
        readable = [each for each in seen if isinstance(each, Picture)]
        answers = answer(model, readable)
        self._metrics.batch(len(decoded))
        if self._log is not None and readable:
            self._log.add(readable, answers)
        told = iter(answers)
        return [next(told) if isinstance(each, Picture) else each for each in seen]

    def _fitting(self, picture: Picture, spec: InputSpec, model: RunningModel) -> Picture | UnreadableImage:
        """A picture as this model takes it: it may have come into production since, and take others."""
        if spec == model.shipped.input:
            return picture
        try:
            return self._decoding.picture_now(picture.data, model.shipped)
        except UnreadableImage as error:
            return error


def _json(told: dict[str, object]) -> bytes:
    return _ENCODER.encode(told).encode()


def _failed(status: int, why: str, started: float) -> _Said:
    return status, _json({"error": why}), started


def _busy(started: float) -> _Said:
    return _failed(429, TOO_MANY, started)


async def _say_what_there_is(request: Request, error: Exception) -> Response:
    """Of an address that is none, or a way of asking that is none."""
    base = str(request.base_url).rstrip("/")
    status = getattr(error, "status_code", 404)
    told = {
        "error": f"{request.method} {request.url.path} is not answered here",
        "predict": f"POST an image: curl -F file=@image.png {base}/predict",
        "health": f"{base}/health",
        "metrics": f"{base}/metrics",
    }
    return JSONResponse(told, status, headers=getattr(error, "headers", None))


class ServingMetrics:
    """What one server counts, in a registry of its own. `log` gives the state of its prediction log."""

    def __init__(self, project: str, group: str, log: Callable[[], dict[str, Any]]) -> None:
        self._registry = CollectorRegistry()
        self._labels = {"project": project, "group": group}
        names = list(self._labels)
        self._answered: dict[int, Counter] = {}
        self._requests = Counter(
            "visionops_serve_requests_total", "Requests answered", [*names, "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "visionops_serve_request_duration_seconds",
            "Time from an image's last byte to its answer",
            names,
            buckets=_SECONDS,
            registry=self._registry,
        ).labels(**self._labels)
        self._batch = Histogram(
            "visionops_serve_batch_size",
            "Images answered together",
            names,
            buckets=_IMAGES,
            registry=self._registry,
        ).labels(**self._labels)
        self._version = Gauge(
            "visionops_serve_model_version",
            "The registered version that answers",
            names,
            registry=self._registry,
        )
        self._swaps = Counter(
            "visionops_serve_model_swaps_total",
            "Changes of the model while serving",
            names,
            registry=self._registry,
        )
        self._waiting = Gauge(
            "visionops_serve_waiting_requests",
            "Requests that came and are not answered yet",
            names,
            registry=self._registry,
        )
        for state, description in (
            ("written", "Rows of the log that were spooled"),
            ("waiting", "Rows of the log that wait for the spool"),
            (
                "dropped",
                "Rows of the log that were lost: too many waited, or the spool took none until the end",
            ),
            ("captured", "Frames that were spooled with their row"),
        ):
            gauge = Gauge(f"visionops_serve_log_{state}_rows", description, names, registry=self._registry)
            gauge.labels(**self._labels).set_function(partial(_count, log, state))

    def answered(self, status: int, seconds: float) -> None:
        """Count one request."""
        answered = self._answered.get(status)
        if answered is None:
            answered = self._requests.labels(**self._labels, status=str(status))
            self._answered[status] = answered
        answered.inc()
        self._seconds.observe(seconds)

    def waiting(self, requests: int) -> None:
        """Say how many wait."""
        self._waiting.labels(**self._labels).set(requests)

    def batch(self, images: int) -> None:
        """Count one batch."""
        self._batch.observe(images)

    def serving(self, version: int, *, swapped: bool = False) -> None:
        """Say which registered version answers from now on."""
        self._version.labels(**self._labels).set(version)
        if swapped:
            self._swaps.labels(**self._labels).inc()

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)


def _count(log: Callable[[], dict[str, Any]], state: str) -> float:
    return float(log().get(state, 0))
