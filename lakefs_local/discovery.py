"""Finding, starting, sharing and stopping the server of a data folder.

A running server says in `server.json` where it answers and which process it is. Demo, UI, steps in other processes
and notebooks that name the same folder share one server.
"""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from filelock import FileLock, Timeout

from lakefs_local import data_folder
from lakefs_local.data_folder import SAID_BY, DataFolder, FolderError, named_folder, write_private

DEFAULT_PORT = 8000
_START_WITHIN = 30.0
# How long the folder's last server has for leaving; less than the above, so that what it says is told.
_LEAVE_WITHIN = 25.0
_STOP_WITHIN = 20.0
_LOG_LIMIT = 10 << 20
# What two readings of one process's start time may differ by, in seconds.
_CLOCK_TOLERANCE = 2.0

_started: list[subprocess.Popen[bytes]] = []
_in_this_process: dict[Path, Any] = {}


@dataclass(frozen=True)
class Server:
    """A running server and a key pair for it. `endpoint` is without `/api/v1`."""

    endpoint: str
    access_key_id: str
    secret_access_key: str
    pid: int


def running(data: Path) -> Server | None:
    """The live server of a data folder: its process is the one that wrote `server.json`, and it answers."""
    folder = DataFolder(data)
    known = _known(folder)
    if known is None or not _answers(known["endpoint"]):
        return None
    return _server(folder, known)


def serves(server: Server, data: Path) -> bool:
    """Whether `server` is still the one of a data folder; it is not asked. At its port there may be another one."""
    known = _known(DataFolder(data))
    return known is not None and (known["endpoint"], known["pid"]) == (server.endpoint, server.pid)


def ensure_running(data: Path, *, idle_exit: float = 300, import_from: Sequence[Path] = ()) -> Server:
    """The live server of a data folder; one is started if there is none. It stays while this process lives.

    One that was started leaves when no such process lives any more, no client keeps a connection, nothing runs and
    `idle_exit` seconds have passed so. `import_from` names folders that imports may read from now on, also for a
    server that runs already. Raises FolderError, with what it said last, if the server does not come up.
    """
    folder = DataFolder(data)
    try:
        # The lock lies beside the folder: who waits for it goes on in the folder that is there then.
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.start_lock, timeout=_START_WITHIN):
            folder.path.mkdir(exist_ok=True, mode=0o700)
            _allow_imports(folder, import_from)
            data_folder.hold_session(folder, _START_WITHIN)
            return running(data) or _start(folder, idle_exit)
    except Timeout as problem:
        raise FolderError(
            f"another process starts the server of {folder.path} and does not come to an end: wait for it, or end it"
        ) from problem
    except OSError as problem:
        raise FolderError(f"cannot use the data folder {folder.path}: {problem}") from problem


def stop(data: Path, *, unless_used: bool = False) -> bool:
    """Stop the server of a data folder and wait until it has left. False if none ran, or, with `unless_used`, if
    another process uses it: then it leaves after that one. Raises FolderError."""
    folder = DataFolder(data)
    data_folder.release_session(folder)
    known = _known(folder)
    if known is None:
        return False
    with data_folder.no_other_session(folder) as nobody:
        if unless_used and not nobody:
            return False
        return _stop(folder, known)


def _stop(folder: DataFolder, known: dict[str, Any]) -> bool:
    if known["pid"] == os.getpid():
        _in_this_process[folder.path].stop()
        return True
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(known["pid"])
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_WITHIN
        while _is_alive(known):
            if time.monotonic() > deadline:
                raise FolderError(f"the server of {folder.path} (process {process.pid}) does not stop")
            time.sleep(0.02)
    _reap()
    return True


@contextlib.contextmanager
def serving(data: Path, *, import_from: Sequence[Path] = (), **options: Any) -> Iterator[Server]:
    """Serve a data folder on a free port while the context lasts, in a thread of this process: for tests.

    `options` are those of `serve.Options`. Raises FolderError.
    """
    from lakefs_local import serve

    with serve.in_thread(serve.Options(data=data, import_from=import_from, **options)) as started:
        _in_this_process[started.folder.path] = started
        try:
            known = _known(started.folder)
            assert known is not None
            yield _server(started.folder, known)
        finally:
            del _in_this_process[started.folder.path]
            data_folder.release_session(started.folder)


def _start(folder: DataFolder, idle_exit: float) -> Server:
    arguments = ["serve", "--data", str(folder.path), "--port", "0", "--idle-exit", str(idle_exit)]
    arguments += ["--wait", str(_LEAVE_WITHIN)]
    for port in (_last_port(folder), DEFAULT_PORT):
        arguments += ["--prefer-port", str(port)] if port else []
    # The server may outlive this process and its working directory, hence its own session and no cwd on its path.
    environment = dict(os.environ)
    root = str(Path(__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    if folder.log.exists() and folder.log.stat().st_size > _LOG_LIMIT:
        folder.log.replace(folder.log.with_suffix(".log.1"))
    with folder.log.open("ab") as log:
        before = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lakefs_local", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=folder.path,
            env=environment,
        )
    _started.append(process)
    deadline = time.monotonic() + _START_WITHIN
    while time.monotonic() < deadline:
        known = _known(folder)
        if known is not None and _answers(known["endpoint"]):
            if known["pid"] != process.pid:
                process.terminate()
            return _server(folder, known)
        if process.poll() is not None:
            raise FolderError(_why_not(folder, before))
        time.sleep(0.02)
    process.terminate()
    raise FolderError(
        f"the lakeFS server for {folder.path} did not answer within {_START_WITHIN:.0f} s: {folder.log} says more"
    )


def _last_port(folder: DataFolder) -> int | None:
    """The port that this folder's last server had: links to its pages are stored elsewhere."""
    try:
        return int(folder.port.read_text())
    except (OSError, ValueError):
        return None


def _known(folder: DataFolder) -> dict[str, Any] | None:
    """What `server.json` says, if the process that wrote it still runs."""
    try:
        said = json.loads(folder.server.read_text())
        known = {
            "endpoint": str(said["endpoint"]),
            "pid": int(said["pid"]),
            "started": float(said["started"]),
        }
        # A folder that was copied holds the `server.json` of the server of another one.
        if not Path(said.get("folder", folder.path)).samefile(folder.path):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if _is_alive(known) else None


def _is_alive(known: dict[str, Any]) -> bool:
    _reap()
    try:
        process = psutil.Process(known["pid"])
        same = abs(process.create_time() - known["started"]) < _CLOCK_TOLERANCE
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _reap() -> None:
    _started[:] = [process for process in _started if process.poll() is None]


def _answers(endpoint: str) -> bool:
    address = urlsplit(endpoint)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
    try:
        connection.request("GET", "/api/v1/healthcheck")
        return connection.getresponse().status == 204
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _server(folder: DataFolder, known: dict[str, Any]) -> Server:
    pair = data_folder.load_keys(folder.credentials)[0]
    return Server(known["endpoint"], pair.access_key_id, pair.secret_access_key, known["pid"])


def _allow_imports(folder: DataFolder, import_from: Sequence[Path]) -> None:
    try:
        allowed = json.loads(folder.import_folders.read_text())
    except (FileNotFoundError, ValueError):
        allowed = []
    wanted = [str(named_folder(path)) for path in import_from]
    if set(wanted) - set(allowed):
        write_private(folder.import_folders, json.dumps(sorted({*allowed, *wanted})))


def _why_not(folder: DataFolder, before: int) -> str:
    """What a server that did not start said last, of all that its log has from `before` on."""
    try:
        with folder.log.open("rb") as log:
            log.seek(before)
            lines = log.read().decode(errors="replace").splitlines()
    except OSError as problem:
        lines = [f"no log: {problem}"]
    said = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    own = said.removeprefix(SAID_BY)
    # What it says of its folder says all; of anything else there is more in the log.
    return own if own != said else f"the lakeFS server for {folder.path} did not start: {said} ({folder.log})"
