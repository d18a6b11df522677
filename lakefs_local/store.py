"""Everything the server keeps, opened together: the database, the blob files, and where imports may read."""

import json
import os
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from lakefs_local.folder import DataFolder, FolderError, cannot_write
from lakefs_local.import_sources import open_unlinked
from lakefs_local.storage.blobs import Blobs
from lakefs_local.storage.database import Database
from lakefs_local.storage.records import Entry
from lakefs_local.storage.staged import StagedFiles

_SHARED_MEMORY = 32 * 1024


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
        self._import_from = [path.expanduser().resolve() for path in import_from]

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
