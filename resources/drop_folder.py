"""A drop in a folder: read where it lies."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resources.drop_errors import DropRefused, DropUnavailable
from resources.drop_listing import MARKER, DropFile, Listing, Progress, is_hidden


class DropFolder:
    """`<folder>/<batch>/…`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._folder = Path(address).expanduser()

    def batches(self) -> list[str]:
        with _errors(self.address):
            if not self._folder.exists():
                return []
            return sorted(
                entry.name
                for entry in os.scandir(self._folder)
                if entry.is_dir() and not entry.name.startswith(".")
            )

    def marker(self, batch: str) -> str | None:
        path = self._folder / batch / MARKER
        with _errors(str(path)):
            return _version(path.stat()) if path.exists() else None

    def listing(self, batch: str) -> Listing:
        files = []
        with _errors(f"{self.address}/{batch}"):
            for path in sorted(_walk(self._folder / batch)):
                name = path.relative_to(self._folder / batch).as_posix()
                if not is_hidden(name) and name != MARKER:
                    status = path.lstat()
                    files.append(DropFile(name, status.st_size, _version(status)))
        return Listing(tuple(files), self.marker(batch))

    @contextmanager
    def fetched(self, batch: str, listing: Listing, progress: Progress) -> Iterator[Path]:
        progress(len(listing.files), len(listing.files))
        yield self._folder / batch


def _walk(folder: Path) -> Iterator[Path]:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        else:
            yield Path(entry.path)


def _version(status: os.stat_result) -> str:
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"


@contextmanager
def _errors(place: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise DropRefused(
            f"{error.filename or place}: permission denied; allow the user that runs VisionOps to read it"
        ) from error
    except OSError as error:
        raise DropUnavailable(f"{error.filename or place}: {error.strerror or error}") from error
