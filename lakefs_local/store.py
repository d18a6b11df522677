"""Everything the server keeps, opened together: the database, the blob files, files that clients write themselves,
where imports may read, and the gate that lets changes run side by side and a collection only when none of them
runs.
"""

import hashlib
import hmac
import json
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lakefs_local.data_folder import DataFolder, FolderError, cannot_write, named_folder, write_private
from lakefs_local.import_sources import open_unlinked
from lakefs_local.storage.blobs import Blobs
from lakefs_local.storage.database import Database
from lakefs_local.storage.encoding import Entry

_SHARED_MEMORY = 32 * 1024
_VALID_SECONDS = 6 * 3600
_DIGITS = "0123456789abcdefghijklmnopqrstuv"


class Store:
    """Opens a data folder, within `wait` seconds; its only writer until `close`. Raises FolderError."""

    def __init__(self, folder: DataFolder, import_from: Sequence[Path] = (), wait: float = 0):
        folder.open(wait)
        try:
            self.folder = folder
            self.blobs = Blobs(folder.path)
            self.blobs.prepare()
            self.staged = StagedFiles(folder.path)
            self.database = Database(folder.database)
        except sqlite3.DatabaseError as problem:
            folder.close()
            raise FolderError(_unusable(folder.database, problem)) from problem
        except OSError as problem:
            folder.close()
            raise FolderError(cannot_write(folder.path, problem)) from problem
        except BaseException:
            folder.close()
            raise
        self._import_from = [named_folder(path) for path in import_from]

    def close(self) -> None:
        """Finish writing and release the folder."""
        self.database.close()
        self.folder.close()

    def open_content(self, entry: Entry) -> int:
        """A handle of the file that holds an object's bytes. Raises OSError: one that was imported may be gone, or a
        link be in its place, which is not followed out of the folders that imports may read."""
        if entry.blob is not None:
            return os.open(self.blobs.path(entry.blob), os.O_RDONLY | os.O_CLOEXEC)
        location = entry.location or ""
        try:
            return open_unlinked(location)
        except OSError as problem:
            # Of an import before links were refused, or of a folder that was moved behind one.
            real = os.path.realpath(location)
            if real == location or not self.may_import(Path(real)):
                raise problem
            return open_unlinked(real)

    def may_import(self, path: Path) -> bool:
        """Whether a file or folder, with links followed, lies in a folder that imports may read."""
        real = path.resolve()
        return any(real.is_relative_to(allowed) for allowed in self._allowed())

    def _allowed(self) -> list[Path]:
        # Read anew each time: `discovery.ensure_running` adds folders for a server that is already running.
        try:
            added = json.loads(self.folder.import_folders.read_text())
        except (FileNotFoundError, ValueError):
            added = []
        return self._import_from + [Path(os.path.realpath(path)) for path in added if isinstance(path, str)]


def _unusable(database: Path, problem: sqlite3.DatabaseError) -> str:
    # SQLite calls a disk without room for its shared memory an I/O error.
    if shutil.disk_usage(database.parent).free < _SHARED_MEMORY:
        return f"{database} cannot be opened: no room is left on its disk; free some space"
    if isinstance(problem, sqlite3.OperationalError):
        return f"{database} cannot be opened: {problem}"
    return (
        f"{database} is damaged ({problem}): restore it from a backup, or try `sqlite3 {database} .recover`: "
        "it holds every commit"
    )


class StagedFiles:
    """The folder of such files. Raises OSError if its key cannot be read or made."""

    def __init__(self, folder: Path):
        self.folder = folder / "staged"
        self.folder.mkdir(exist_ok=True, mode=0o700)
        key_file = folder / "signing.key"
        if not key_file.exists():
            write_private(key_file, secrets.token_hex(32))
        self._key = key_file.read_text().encode()

    def address(self, repository: str, branch: str, path: str) -> str:
        """A new file path for one object; the file is not made."""
        name = f"{int(time.time()) + _VALID_SECONDS}-{secrets.token_hex(12)}"
        return f"{self.folder}/{name}-{self._signature(name, repository, branch, path)}"

    def gave_out(self, location: str, repository: str, branch: str, path: str) -> bool:
        """Whether `address` made this path for this object, and not too long ago."""
        name = location.removeprefix(f"{self.folder}/").rpartition("-")[0]
        expected = f"{self.folder}/{name}-{self._signature(name, repository, branch, path)}"
        if not hmac.compare_digest(expected.encode(), location.encode()):
            return False
        return self._expiry(name) > time.time()

    def expired(self) -> list[Path]:
        """Files whose address can no longer be linked."""
        return [file for file in self.folder.iterdir() if self._expiry(file.name) < time.time()]

    @staticmethod
    def _expiry(name: str) -> float:
        stamp = name.partition("-")[0]
        return float(stamp) if stamp.isdigit() else 0.0

    def _signature(self, *said: str) -> str:
        return hmac.new(self._key, json.dumps(said).encode(), hashlib.sha256).hexdigest()[:40]


class Busy(RuntimeError):
    """Changes were running for longer than the collection was willing to wait."""


class Gate:
    """Many may be `shared` at once, `exclusive` is alone. Who waits for `exclusive` does not hold up `shared`."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._inside = 0
        self._closed = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Wait while the gate is taken exclusively."""
        with self._condition:
            self._condition.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                self._condition.notify_all()

    @contextmanager
    def exclusive(self, wait_seconds: float) -> Iterator[None]:
        """Raises Busy."""
        deadline = time.monotonic() + wait_seconds
        with self._condition:
            free = self._condition.wait_for(
                lambda: not self._inside and not self._closed, max(0.0, deadline - time.monotonic())
            )
            if not free:
                raise Busy("imports or changes with hooks are running: try again when they have ended")
            self._closed = True
        try:
            yield
        finally:
            with self._condition:
                self._closed = False
                self._condition.notify_all()


_TIME_BITS, _RANDOM_BITS = 65, 35


def new_id() -> str:
    """A new id, unique and sorted newest first."""
    number = ((1 << _TIME_BITS) - 1 - time.time_ns()) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return "".join(_DIGITS[number >> shift & 31] for shift in range(95, -1, -5))
