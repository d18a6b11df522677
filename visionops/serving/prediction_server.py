"""Runs the prediction server, and what else listens: until a signal, which lets it answer what is under way."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.error_family import Invalid, Unavailable
from visionops import interruption
from webserver.asgi import CannotListen, Certificate, WebServer, bind
from webserver.guard import Guarded, ServerLimits

__all__ = ["Access", "CannotListen", "PredictionServer", "in_thread"]

# Ctrl-C: for what is being answered, of the seconds that a command has to end.
_STOP_WITHIN = 2
# SIGTERM, from whoever starts the next one: what is under way is answered.
DRAIN_SECONDS = 20.0
# An image, and what a form says around it.
BODY = 34 << 20
_LIMITS = ServerLimits(body=BODY)


@dataclass(frozen=True)
class Access:
    """Who may ask a server: by `token`, else by `hosts`; over TLS with a certificate and its key."""

    token: str = ""
    hosts: Sequence[str] = ()
    public: Sequence[str] = ("/health",)
    certificate: Path | None = None
    key: Path | None = None

    @property
    def tls(self) -> Certificate | None:
        """The files of TLS. Raises ValueError where one of two is missing."""
        if self.certificate is None and self.key is None:
            return None
        if self.certificate is None or self.key is None:
            raise Invalid("TLS takes both --tls-cert and --tls-key")
        return Certificate(self.certificate, self.key)


class PredictionServer:
    """An application on an address; `port` 0 takes a free one. `run` blocks, `stop` may be called from any thread."""

    def __init__(
        self,
        application: Callable[[Any, Any, Any], Awaitable[None]],
        host: str,
        port: int,
        *,
        access: Access | None = None,
        limits: ServerLimits = _LIMITS,
        drain: float = DRAIN_SECONDS,
    ) -> None:
        """Raises `CannotListen`, and ValueError for access that cannot be."""
        access = access or Access()
        guarded = Guarded(application, token=access.token, hosts=[*access.hosts, host], public=access.public)
        certificate = access.tls
        listening = bind(host, port)
        try:
            self._server = WebServer(
                guarded, listening, limits=limits, certificate=certificate, stop_within=_STOP_WITHIN
            )
        except CannotListen:
            listening.close()
            raise
        self.address, self._drain = self._server.address, drain
        self._heard: int | None = None

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until stopped, or a signal where this is the main thread."""
        self._server.run(lambda: self._serve(on_ready))
        if self._heard is not None:
            interruption.note(self._heard)

    def stop(self) -> None:
        """Answer what is under way, then return from `run`."""
        self._server.stop()

    def _told(self, number: int) -> None:
        if number == signal.SIGTERM and self._heard is None:
            # Noted at once, the command would be ended within seconds.
            self._heard = number
            self._server.stop(self._drain)
            return
        interruption.note(number)
        self._server.stop(_STOP_WITHIN)

    async def _serve(self, on_ready: Callable[[], None]) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self._told, number)
        await self._server.serving(on_ready)


@contextlib.contextmanager
def in_thread(
    application: Callable[[Any, Any, Any], Awaitable[None]],
    host: str = "127.0.0.1",
    port: int = 0,
    **options: Any,
) -> Iterator[PredictionServer]:
    """Serve in a thread of this process while the context lasts."""
    server = PredictionServer(application, host, port, **options)
    ready = threading.Event()
    thread = threading.Thread(target=server.run, args=(ready.set,), name="serve", daemon=True)
    thread.start()
    try:
        while not ready.wait(0.05):
            if not thread.is_alive():
                raise Unavailable(f"the prediction server at {server.address} did not start")
        yield server
    finally:
        server.stop()
        thread.join()
