"""Who uses the server of a data folder: a lock that every process shares from when it asked for the server to its end.

The system lets go of it with the process, however that ends: nothing has to be cleaned up, and no number of a dead
process can be taken for a living one. A server that may leave takes the same lock for itself alone.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from lakefs_local.folder import DataFolder, FolderError

_LOOK_EVERY = 0.02

# The open file of each folder that this process uses.
_held: dict[Path, int] = {}
_changing = threading.Lock()


def hold(folder: DataFolder, within: float) -> None:
    """Be a session of a folder's server until this process ends or calls `release`; once is as good as often.

    Waits up to `within` seconds for a server that is about to leave. Raises FolderError if it does not, OSError.
    """
    with _changing:
        if (held := _held.get(folder.path)) is not None and _is_in_place(held, folder.sessions):
            return
        _close(_held.pop(folder.path, None))
        deadline = time.monotonic() + within
        # A folder that was deleted and made anew meanwhile has another file.
        while (handle := _locked(folder.sessions, fcntl.LOCK_SH)) is None:
            if time.monotonic() > deadline:
                raise FolderError(f"the server of {folder.path} neither stays nor leaves: stop it")
            time.sleep(_LOOK_EVERY)
        _held[folder.path] = handle


def release(folder: DataFolder) -> None:
    """Use the folder's server no longer."""
    with _changing:
        _close(_held.pop(folder.path, None))


@contextlib.contextmanager
def none_else(folder: DataFolder) -> Iterator[bool]:
    """Whether no process uses the folder's server; while the context lasts none can begin to. Raises OSError."""
    handle = _locked(folder.sessions, fcntl.LOCK_EX)
    try:
        yield handle is not None
    finally:
        _close(handle)


def _locked(path: Path, kind: int) -> int | None:
    """The open, locked file, or None while somebody holds it otherwise."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except BaseException:
        os.close(handle)
        raise
    if _is_in_place(handle, path):
        return handle
    os.close(handle)
    return None


def _is_in_place(handle: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def _close(handle: int | None) -> None:
    # Closed, not unlocked: a forked child that shares the lock keeps it.
    if handle is not None:
        os.close(handle)
