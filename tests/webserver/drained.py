"""A server in a process of its own that answers once a file is there, and hears signals as commands do."""

import asyncio
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


def serve(folder: str) -> None:
    """Write the address into a file, then answer until a signal."""
    from visionops import interruption
    from visionops.serving.prediction_server import PredictionServer

    interruption.hear()
    place = Path(folder)

    async def answer(_: Request) -> PlainTextResponse:
        (place / "came").touch()
        while not (place / "go").exists():
            await asyncio.sleep(0.01)
        return PlainTextResponse("answered")

    server = PredictionServer(Starlette(routes=[Route("/", answer)]), "127.0.0.1", 0)

    def ready() -> None:
        (place / "address").write_text(server.address)

    server.run(ready)
    if interruption.asked():
        interruption.leave()
