"""The data folder: what lies in it, which format it has, and who may write to it."""

import ctypes
import errno
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

FORMAT = 1
# How a line of the command line begins that says why it cannot go on.
SAID_BY = "lakefs_local: "


class FolderError(RuntimeError):
    """The data folder cannot be used; the message says why and what to do."""


class DataFolder:
    """Paths inside a data folder, and the lock that keeps a second writer out."""

    def __init__(self, path: Path):
        self.path = path.expanduser().resolve()
        self.database = self.path / "metadata.db"
        self.credentials = self.path / "credentials.json"
        self.server = self.path / "server.json"
        self.port = self.path / "port"
        self.sessions = self.path / "sessions.lock"
        self.start_lock = self.path.with_name(f"{self.path.name}.start.lock")
        self.log = self.path / "server.log"
        self.access_log = self.path / "access.log"
        self.import_folders = self.path / "import_folders.json"
        self._format = self.path / "format.json"
        # Taken in one thread and released in another when the server runs in a thread.
        self._lock = FileLock(self.path / "writer.lock", thread_local=False)

    def open(self, wait: float = 0) -> None:
        """Create the folder or check its format, and become its writer once the last one has left, within `wait` s.

        Raises FolderError if the format is unknown, another process writes here, or the folder is not writable.
        """
        try:
            if not self.path.is_dir():
                self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
                sync_folder(self.path.parent)
            self._lock.acquire(timeout=wait)
        except Timeout:
            raise FolderError(
                f"{self.path} is already being served{self._holder()}: use that server or stop it"
            ) from None
        except OSError as problem:
            raise FolderError(cannot_write(self.path, problem)) from problem
        try:
            self.check_format(new=True)
        except OSError as problem:
            self._lock.release()
            raise FolderError(cannot_write(self.path, problem)) from problem
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Let another process write here."""
        self._lock.release()

    def check_format(self, *, new: bool = False) -> None:
        """Check that this version reads the folder's format; `new`: an empty folder gets it. Raises FolderError."""
        try:
            found = json.loads(self._format.read_text()).get("format")
        except FileNotFoundError:
            if self.database.exists() or not new:
                raise FolderError(
                    f"{self.path} is not a data folder of lakefs_local: it has no format.json"
                ) from None
            write_private(self._format, json.dumps({"format": FORMAT, "of": "lakefs_local"}))
            return
        except (OSError, ValueError, AttributeError) as problem:
            raise FolderError(
                f'{self._format} is damaged ({problem}): write {{"format": {FORMAT}, "of": "lakefs_local"}} into it'
            ) from problem
        if found != FORMAT:
            raise FolderError(
                f"{self.path} has format {found}, this version reads {FORMAT}: use the version that made it"
            )

    def _holder(self) -> str:
        try:
            server = json.loads(self.server.read_text())
            return f" by process {server['pid']} at {server['endpoint']}"
        except (OSError, ValueError, KeyError, TypeError):
            return " by another process"


def cannot_write(folder: Path, problem: OSError) -> str:
    """Why a server cannot write into its data folder, and what mends it, in one line."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no room is left on the disk of the data folder {folder}: free some space, or use another folder"
        )
    return f"cannot write to the data folder {folder}: {problem.strerror or problem}"


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically and durably; only its owner can read it (mode 0600)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


class FileSystemSync:
    """Makes durable all that was written to a folder's file system since this was opened. Use as a context manager.

    Linux's syncfs(2): one wait for many files. Only since Linux 5.8 does it tell of writes that failed.
    """

    _since = (5, 8)

    @classmethod
    def of(cls, folder: Path) -> "FileSystemSync | None":
        """For the file system that a folder lies on; None where the system cannot be relied on for it."""
        if sys.platform != "linux" or _kernel() < cls._since:
            return None
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        return None if syncfs is None else cls(folder, syncfs)

    def __init__(self, folder: Path, syncfs: Callable[[int], int]) -> None:
        self._syncfs, self._folder = syncfs, folder
        # Failures are told to handles that were open when they happened.
        self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> "FileSystemSync":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def wait(self) -> None:
        """Return once all is on disk. Raises OSError when something could not be written."""
        if self._syncfs(self._handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(self._folder))


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
