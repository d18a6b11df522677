"""The ASGI application: GET /metrics for Prometheus, GET /health for whoever restarts what hangs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from visionops.exporter.collector import Exporter


def metrics_app(exporter: Exporter) -> Starlette:
    """Answers with what the exporter collects."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        text = await asyncio.to_thread(encode, registry)
        return Response(text, headers={"content-type": content_type})

    async def health(_: Request) -> Response:
        return JSONResponse({"visionops": "metrics"})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        exporter.close()

    return Starlette(routes=[Route("/metrics", metrics), Route("/health", health)], lifespan=lifespan)
