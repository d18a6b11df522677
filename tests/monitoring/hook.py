"""A webhook that takes what it is sent, or answers whatever it is told to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from visionops.serving.prediction_server import in_thread

SECRET = "T0-B1-very-secret"


@dataclass
class Hook:
    """Who is told; `arrived` is set whenever a message comes, `status` is what is answered."""

    received: list[tuple[str, Any]] = field(default_factory=list)
    status: int = 200
    address: str = ""
    arrived: threading.Event = field(default_factory=threading.Event)

    def url(self, channel: str) -> str:
        """The address for a channel, with a secret in it as Slack's have."""
        return f"{self.address}/{channel}/{SECRET}"

    def texts(self, channel: str) -> list[str]:
        """What was said on a channel, as Slack shows it."""
        return [content["text"] for path, content in self.received if path == channel]

    def fields(self, channel: str) -> list[dict[str, str]]:
        """What programs read of each message on a channel."""
        found = [content["attachments"][0]["fields"] for path, content in self.received if path == channel]
        return [{field["title"]: field["value"] for field in fields} for fields in found]

    async def take(self, request: Request) -> Response:
        self.received.append((request.path_params["channel"], await request.json()))
        self.arrived.set()
        return Response("ok", self.status)


@contextmanager
def hook() -> Iterator[Hook]:
    """A webhook in a thread of this process."""
    found = Hook()
    app = Starlette(routes=[Route(f"/{{channel}}/{SECRET}", found.take, methods=["POST"])])
    with in_thread(app) as server:
        found.address = server.address
        yield found
