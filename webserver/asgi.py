"""Runs an ASGI application: binds, serves within limits until it is stopped, and answers what is under way."""

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from webserver.guard import Held, ServerLimits
from webserver.http_limits import LimitedProtocol

_LIMITS = ServerLimits()


class CannotListen(OSError):
    """The address is taken or not this machine's, or its certificate cannot be used."""


class Certificate(NamedTuple):
    """What TLS needs: the files of the certificate, with those that lead to it, and of its key."""

    certificate: Path
    key: Path


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handling, which would end the process before what is open is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """An application on a bound socket. `run` blocks, `stop` may be called from any thread."""

    def __init__(
        self,
        application: Callable[[Any, Any, Any], Awaitable[None]],
        listening: socket.socket,
        *,
        limits: ServerLimits = _LIMITS,
        certificate: Certificate | None = None,
        lifespan: bool = True,
        stop_within: float,
    ) -> None:
        """Raises `CannotListen` for a certificate that cannot be used."""
        self._socket = listening
        host, port = listening.getsockname()[:2]
        scheme = "http" if certificate is None else "https"
        self.address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        tls: dict[str, Any] = {}
        if certificate is not None:
            _check(certificate)
            tls = {"ssl_certfile": certificate.certificate, "ssl_keyfile": certificate.key}
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                application,
                lifespan="on" if lifespan else "off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                http=functools.partial(LimitedProtocol, limits=limits, held=Held()),  # type: ignore[arg-type]
                timeout_keep_alive=limits.idle,  # type: ignore[arg-type]
                timeout_graceful_shutdown=stop_within,  # type: ignore[arg-type]
                **tls,
            )
        )

    def run(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Run `serve`, which awaits `serving`, in an event loop of its own, then close the socket."""
        try:
            with asyncio.Runner(loop_factory=self._uvicorn.config.get_loop_factory()) as runner:
                runner.run(serve())  # type: ignore[arg-type]
        finally:
            self._socket.close()

    async def serving(self, on_ready: Callable[[], None]) -> None:
        """Serve until stopped."""
        serving = asyncio.ensure_future(self._uvicorn.serve(sockets=[self._socket]))
        while not self._uvicorn.started and not serving.done():
            await asyncio.sleep(0.002)
        if self._uvicorn.started:
            on_ready()
        await serving

    def stop(self, within: float | None = None) -> None:
        """Take no more connections, answer what is under way, for so many seconds at most, then return from `run`."""
        if within is not None:
            self._uvicorn.config.timeout_graceful_shutdown = within  # type: ignore[assignment]
        self._uvicorn.should_exit = True

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._uvicorn.server_state.connections)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `CannotListen`."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Named as TCP, or asyncio would not set TCP_NODELAY on its connections: 40 ms an answer.
        bound = socket.socket(family, kind, socket.IPPROTO_TCP)
    except OSError as error:
        raise _cannot(host, port, error) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(1024)
    except OSError as error:
        bound.close()
        raise _cannot(host, port, error) from error
    return bound


def _cannot(host: str, port: int, error: OSError) -> CannotListen:
    return CannotListen(f"cannot listen on {host} port {port}: {error.strerror}; choose another --port")


def _check(certificate: Certificate) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*certificate)
    except (OSError, ssl.SSLError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise CannotListen(
            f"the certificate {certificate.certificate} with the key {certificate.key} cannot be used: {said}"
        ) from error
