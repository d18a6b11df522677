"""Runs the server: binds, announces itself in `server.json`, stops on a signal or when idle."""

import asyncio
import contextlib
import ipaddress
import json
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from lakefs_local import data_folder
from lakefs_local.data_folder import SAID_BY, DataFolder, FolderError, cannot_write, write_private
from lakefs_local.http.app import Application
from lakefs_local.http.server import AccessLog, Server
from lakefs_local.store import Store
from webserver.asgi import CannotListen, WebServer, bind
from webserver.guard import ServerLimits

DEFAULT_MAX_UPLOAD = 5 << 30
_STOP_WITHIN = 10
# What a form says around the object that it uploads.
_FORM_BYTES = 1 << 20
# A client that computes between two requests finds its connection still open; lakeFS never closes an idle one.
_KEEP_ALIVE = 24 * 3600
# How often a server that may leave looks whether it is in use, in seconds.
_LOOK_EVERY = (0.05, 10)
# How long a server that is about to leave for idleness still answers, after it has withdrawn `server.json`.
_FAREWELL = 1.0


@dataclass(frozen=True)
class Options:
    """`port` 0 takes a free one; the ports of `prefer` are tried before it, in order. `idle_exit` is in seconds,
    None: never; `max_upload` in bytes; `wait` is how many seconds the folder's last server has for leaving. With
    `login` pages ask everybody for a key pair, else only those who are not at this machine."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 0
    prefer: Sequence[int] = ()
    import_from: Sequence[Path] = ()
    idle_exit: float | None = None
    max_upload: int = DEFAULT_MAX_UPLOAD
    wait: float = 0
    login: bool = False


class RunningServer:
    """A data folder being served. Make it, then `run` it (blocking); `stop` may be called from any thread."""

    def __init__(self, options: Options):
        """Opens the folder and binds. Raises FolderError."""
        self._options = options
        self.folder = DataFolder(options.data)
        store = Store(self.folder, options.import_from, options.wait)
        self._inode = self.folder.path.stat().st_ino
        try:
            self._pairs = data_folder.load_or_create_keys(self.folder.credentials)
            self._socket = _bind_first_free(options.host, [*options.prefer, options.port])
        except OSError as problem:
            store.close()
            raise FolderError(cannot_write(self.folder.path, problem)) from problem
        except BaseException:
            store.close()
            raise
        self.store = store
        self._server = Server(store, max_upload=options.max_upload)
        host = self._socket.getsockname()[0]
        self._last_use = time.monotonic()
        # What is kept until the folder is closed: that nobody begins to use a server that leaves.
        self._until_closed = contextlib.ExitStack()
        self._access_log = AccessLog(self.folder.access_log)
        application = Application(
            self._server,
            data_folder.Authenticator(self._pairs),
            self._access_log,
            self._note_request,
            # One that listens to others too asks everybody, or what a browser may see would hang on how it got here.
            local_pages=not options.login and ipaddress.ip_address(host).is_loopback,
        )
        self._web = WebServer(
            application,
            self._socket,
            limits=ServerLimits(body=options.max_upload + _FORM_BYTES, held=None, idle=_KEEP_ALIVE),
            lifespan=False,
            stop_within=_STOP_WITHIN,
        )
        self.endpoint = self._web.address

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until stopped."""
        try:
            self._web.run(lambda: self._serve(on_ready))
        finally:
            self._withdraw()
            self._server.close()
            self._access_log.flush()
            self._until_closed.close()

    def stop(self) -> None:
        """Finish running requests, then return from `run`."""
        self._web.stop()

    def _note_request(self) -> None:
        self._last_use = time.monotonic()

    async def _serve(self, on_ready: Callable[[], None]) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self.stop)
        watch: asyncio.Future[None] | None = None

        def ready() -> None:
            nonlocal watch
            self._announce()
            on_ready()
            if self._options.idle_exit is not None:
                watch = asyncio.ensure_future(self._leave_when_idle(self._options.idle_exit))

        try:
            await self._web.serving(ready)
        finally:
            if watch is not None:
                watch.cancel()

    async def _leave_when_idle(self, idle_exit: float) -> None:
        shortest, longest = _LOOK_EVERY
        while True:
            await asyncio.sleep(min(max(shortest, idle_exit / 10), longest))
            # A folder that was just deleted, or no handle for the lock: the next look knows more.
            with contextlib.suppress(OSError), contextlib.ExitStack() as alone:
                if self._is_busy() or not alone.enter_context(self._no_session()):
                    self._last_use = time.monotonic()
                elif time.monotonic() - self._last_use >= idle_exit and await self._bid_farewell():
                    self._until_closed.push(alone.pop_all())
                    self.stop()
                    return

    def _is_busy(self) -> bool:
        """Whether something runs, or a client of any kind keeps its connection."""
        return self._server.busy or self._web.connections > 0

    @contextlib.contextmanager
    def _no_session(self) -> Iterator[bool]:
        if not self._is_own_folder():
            yield True
            return
        with data_folder.no_other_session(self.folder) as nobody:
            yield nobody

    async def _bid_farewell(self) -> bool:
        """Whether the server may go: whoever read `server.json` just before it went gets an answer, and it stays."""
        self._withdraw()
        withdrawn = time.monotonic()
        await asyncio.sleep(_FAREWELL)
        if self._last_use < withdrawn and not self._is_busy():
            return True
        self._announce()
        return False

    def _announce(self) -> None:
        if not self._is_own_folder():
            return
        process = psutil.Process()
        write_private(
            self.folder.server,
            json.dumps(
                {
                    "endpoint": self.endpoint,
                    "pid": process.pid,
                    "started": process.create_time(),
                    "folder": str(self.folder.path),
                }
            )
            + "\n",
        )
        # The next server of this folder takes the same port, so that links to its pages stay good.
        write_private(self.folder.port, f"{self._socket.getsockname()[1]}\n")

    def _withdraw(self) -> None:
        if self._is_own_folder():
            self.folder.server.unlink(missing_ok=True)

    def _is_own_folder(self) -> bool:
        """Whether the folder is the one opened: it may have been deleted since, and made anew by another server."""
        with contextlib.suppress(FileNotFoundError):
            return self.folder.path.stat().st_ino == self._inode
        return False


class RecordFormatter(logging.Formatter):
    """A record that cannot be taken for two, whatever a client calls its objects, and that moves no cursor."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text; lines after the first are indented."""
        lines = super().format(record).split("\n")
        shown = (
            "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
            for line in lines
        )
        return "\n  ".join(shown)


def serve(options: Options) -> int:
    """Serve in this process until a signal; the exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RecordFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        running = RunningServer(options)
    except FolderError as problem:
        print(f"{SAID_BY}{problem}", file=sys.stderr)
        return 2

    def announce() -> None:
        print(f"lakeFS API at {running.endpoint}, credentials in {running.folder.credentials}", flush=True)

    try:
        running.run(announce)
    except OSError as problem:
        # As where there is no room left to say where it answers.
        print(f"{SAID_BY}{cannot_write(running.folder.path, problem)}", file=sys.stderr)
        return 2
    return 0


@contextlib.contextmanager
def in_thread(options: Options) -> Iterator[RunningServer]:
    """Serve in a thread of this process while the context lasts; gives the RunningServer."""
    running = RunningServer(options)
    ready = threading.Event()
    thread = threading.Thread(target=running.run, args=(ready.set,), name="lakefs_local", daemon=True)
    thread.start()
    try:
        while not ready.wait(0.05):
            if not thread.is_alive():
                raise RuntimeError(f"the server for {options.data} did not start")
        yield running
    finally:
        running.stop()
        thread.join()


def _bind_first_free(host: str, ports: Sequence[int]) -> socket.socket:
    for port in ports[:-1]:
        with contextlib.suppress(CannotListen):
            return bind(host, port)
    try:
        return bind(host, ports[-1])
    except CannotListen as problem:
        raise FolderError(str(problem)) from problem
