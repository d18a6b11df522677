"""The ASGI application: POST /predict, GET /health, GET /metrics."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge.image_header import UnreadableImage
from visionops.prediction_log import BackgroundLog
from visionops.serving import metrics
from visionops.serving.batcher import Batcher
from visionops.serving.current import CurrentModel
from visionops.serving.decoding import Busy, Decoding
from visionops.serving.images import NoImage, hint, image_of
from visionops_assets.monitoring.prediction import Answer, Picture, RunningModel, answer
from visionops_assets.training.recipe import InputSpec

_log = logging.getLogger(__name__)

DECODE_SECONDS = 2.0
QUEUE = 1024
# When whoever was sent away may come again.
_RETRY = {"retry-after": "1"}
# A picture, and the input that it was made for.
_Decoded = tuple[Picture, InputSpec]


class PredictionApp:
    """Answers images by the current model, and gives what was predicted to the log, if there is one."""

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
        self._metrics = metrics.Metrics(project, group, log.to_json if log is not None else dict)
        self._metrics.serving(current.model)
        self._decoding = Decoding(decode_seconds)
        self._runner = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._batcher: Batcher[_Decoded, Answer | UnreadableImage] = Batcher(
            self._answer, self._runner, batch
        )
        self._waiting, self._queue = 0, queue
        self.asgi = Starlette(
            routes=[
                Route("/predict", self._predict, methods=["POST"]),
                Route("/health", self._health),
                Route("/metrics", self._show_metrics),
            ],
            lifespan=self._lifespan,
            exception_handlers={404: _say_what_there_is, 405: _say_what_there_is},
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(
            self._current.watch(self._look_every, lambda model: self._metrics.serving(model, swapped=True))
        )
        async with self._batcher:
            yield
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        self._runner.shutdown()
        await asyncio.to_thread(self._decoding.close)
        if self._log is not None:
            await asyncio.to_thread(self._log.close)

    async def _predict(self, request: Request) -> Response:
        if self._waiting >= self._queue:
            return self._busy(time.perf_counter())
        self._waiting += 1
        try:
            return await self._predicted(request)
        finally:
            self._waiting -= 1

    async def _predicted(self, request: Request) -> Response:
        try:
            data = await image_of(request)
        except NoImage as error:
            return self._say(error.status, {"error": str(error)}, time.perf_counter())
        except ClientDisconnect:
            return Response(status_code=400)
        started = time.perf_counter()
        try:
            shipped = self._current.model.shipped
            found = await self._batcher.ask((await self._decoding.picture(data, shipped), shipped.input))
        except UnreadableImage as error:
            found = error
        except Busy:
            return self._busy(started)
        except asyncio.CancelledError:
            # Only of what a server that stops waited for too long.
            return self._say(503, {"error": "the server stops before this image is answered"}, started)
        except Exception:
            # Raised on, it would end the connection behind its answer, and the client's next request with it.
            _log.exception("a prediction of %s failed", self._project)
            return self._say(500, {"error": "the prediction failed; the server's log says why"}, started)
        if isinstance(found, UnreadableImage):
            return self._say(400, {"error": f"{found}{hint(request)}"}, started)
        return self._say(200, {"project": self._project, **found.to_json()}, started)

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
        return Response(self._metrics.text(), media_type=metrics.CONTENT_TYPE)

    def _busy(self, started: float) -> Response:
        return self._say(
            429,
            {"error": "too many images wait; send it again in a second, or less at once"},
            started,
            _RETRY,
        )

    def _say(
        self, status: int, told: dict[str, object], started: float, headers: dict[str, str] | None = None
    ) -> Response:
        self._metrics.answered(status, time.perf_counter() - started)
        return JSONResponse(told, status, headers)

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
