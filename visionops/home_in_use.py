"""One `visionops up` on a home: two daemons would both start every run.

The lock lies beside the home, where it stays when the home is deleted and made anew under a running `up`, and in it
too, for containers that share nothing else.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import psutil

from resources import home

# As long as the guard of an `up` that was killed may need, and more.
WAIT_SECONDS = 40.0
_TELL_WITHIN_SECONDS = 1.0
_LOOK_EVERY_SECONDS = 0.1
# What two readings of one process's start may differ by.
_CLOCK_TOLERANCE_SECONDS = 2.0


class HomeInUse(RuntimeError):
    """Another `visionops up` runs on the home; the message says which."""


@contextlib.contextmanager
def only_one(page: str) -> Iterator[list[int]]:
    """Hold the home while the block lasts; give the open files that hold it, for a process that may outlive this one.

    `page` is where this `up` will answer. Waits for what an `up` that was killed has left. Raises `HomeInUse`.
    """
    started = psutil.Process().create_time()
    holder = {
        "pid": os.getpid(),
        "started": started,
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "page": page,
    }
    with ExitStack() as held:
        yield [held.enter_context(_locked(file, holder)) for file in _places()]


@contextlib.contextmanager
def _locked(file: Path, holder: dict[str, object]) -> Iterator[int]:
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        began = time.monotonic()
        while not _taken(handle):
            _require_gone(handle, time.monotonic() - began)
            time.sleep(_LOOK_EVERY_SECONDS)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(holder).encode(), 0)
        yield handle
        os.ftruncate(handle, 0)
    finally:
        # Closed, not unlocked: the guard keeps it until nothing is left.
        os.close(handle)


def _taken(handle: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _require_gone(handle: int, waited: float) -> None:
    """Raise `HomeInUse` unless what holds the lock is on its way out, or may be, or has not said yet what it is."""
    said = _holder(handle)
    if waited < (WAIT_SECONDS if said and not _is_alive(said) else _TELL_WITHIN_SECONDS):
        return
    pid = said.get("pid")
    who = f"process {pid} since {said.get('since')}, at {said.get('page')}" if said else "another process"
    stop = f"stop it (`kill {pid}`)" if said else "stop it"
    raise HomeInUse(
        f"`visionops up` runs already on {home.home()} ({who}): use it, {stop}, or set VISIONOPS_HOME to another folder"
    )


def _holder(handle: int) -> dict[str, object]:
    with contextlib.suppress(OSError, ValueError):
        said = json.loads(os.pread(handle, 4096, 0))
        return said if isinstance(said, dict) else {}
    return {}


def _is_alive(said: dict[str, object]) -> bool:
    """Whether the process that wrote this runs: not another one of its number, nor one that was killed."""
    try:
        process = psutil.Process(int(str(said.get("pid"))))
        same = abs(process.create_time() - float(str(said.get("started")))) < _CLOCK_TOLERANCE_SECONDS
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, ValueError):
        return False


def _places() -> Iterator[Path]:
    """The files of the lock; the first only where something can be written beside the home."""
    folder = home.home().resolve()
    if os.access(folder.parent, os.W_OK):
        yield folder.with_name(f".{folder.name.removeprefix('.')}.up.lock")
    yield folder / "up.lock"
