"""A drop in a folder: read where it lies."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resources import beneath
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
                # A link is taken for a batch that is refused: nobody would look for one that is passed over.
                if entry.is_dir() and not entry.name.startswith(".")
            )

    def marker(self, batch: str) -> str | None:
        path = self._folder / batch / MARKER
        with _errors(str(path)):
            if (self._folder / batch).is_symlink() or not path.exists():
                return None
            return _version(path.lstat())

    def listing(self, batch: str) -> Listing:
        with _errors(f"{self.address}/{batch}"):
            if (self._folder / batch).is_symlink():
                link = (self._folder / batch).lstat()
                return Listing((DropFile(batch, link.st_size, _version(link)),), None)
            files = [
                DropFile(name, status.st_size, _version(status))
                for name, status in sorted(_walk(self._folder, batch), key=lambda found: found[0].split("/"))
                if not is_hidden(name) and name != MARKER
            ]
        return Listing(tuple(files), self.marker(batch))

    @contextmanager
    def fetched(self, batch: str, listing: Listing, progress: Progress) -> Iterator[Path]:
        progress(len(listing.files), len(listing.files))
        yield self._folder / batch


def _walk(root: Path, batch: str) -> Iterator[tuple[str, os.stat_result]]:
    """What lies in a batch, by its path there; links are not followed."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        opened = beneath.opened_folder(str(root), f"{batch}/{folder}", "none")
        with opened as handle, os.scandir(handle) as entries:
            for entry in entries:
                name = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                else:
                    yield name, entry.stat(follow_symlinks=False)


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
