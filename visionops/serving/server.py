"""Runs the prediction server: binds, serves until a signal, answers what is under way, writes what is logged."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette

from visionops import interruption
from visionops.serving.patience import PatientProtocol

# For what is being answered, of the seconds that a command has to end.
_STOP_WITHIN = 2


class CannotListen(OSError):
    """The address is taken or not this machine's."""


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handling, which would end the process before the log is written."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class PredictionServer:
    """An application on an address; `port` 0 takes a free one. `run` blocks, `stop` may be called from any thread."""

    def __init__(self, application: Starlette, host: str, port: int) -> None:
        self._socket = _bind(host, port)
        bound_host, bound_port = self._socket.getsockname()[:2]
        self.address = f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                application,
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                http=PatientProtocol,
                timeout_graceful_shutdown=_STOP_WITHIN,
            )
        )

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until stopped, or a signal where this is the main thread."""
        try:
            with asyncio.Runner(loop_factory=self._uvicorn.config.get_loop_factory()) as runner:
                runner.run(self._serve(on_ready))
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Answer what is under way, then return from `run`."""
        self._uvicorn.should_exit = True

    def _told(self, number: int) -> None:
        interruption.note(number)
        self.stop()

    async def _serve(self, on_ready: Callable[[], None]) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self._told, number)
        serving = asyncio.ensure_future(self._uvicorn.serve(sockets=[self._socket]))
        while not self._uvicorn.started and not serving.done():
            await asyncio.sleep(0.002)
        if self._uvicorn.started:
            on_ready()
        await serving


@contextlib.contextmanager
def in_thread(application: Starlette, host: str = "127.0.0.1", port: int = 0) -> Iterator[PredictionServer]:
    """Serve in a thread of this process while the context lasts."""
    server = PredictionServer(application, host, port)
    ready = threading.Event()
    thread = threading.Thread(target=server.run, args=(ready.set,), name="serve", daemon=True)
    thread.start()
    try:
        while not ready.wait(0.05):
            if not thread.is_alive():
                raise RuntimeError(f"the prediction server at {server.address} did not start")
        yield server
    finally:
        server.stop()
        thread.join()


def _bind(host: str, port: int) -> socket.socket:
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
