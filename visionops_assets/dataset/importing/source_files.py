"""The files of a source: opened where they lie, whatever is put in their place meanwhile (`resources.beneath`)."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedReader, FileIO
from pathlib import Path
from typing import NamedTuple

from resources import beneath
from resources.beneath import Links
from visionops_assets.dataset.importing.source import SourceError


class Entry(NamedTuple):
    """What lies in a folder, by itself: a link is neither folder nor file."""

    name: str
    is_folder: bool
    is_file: bool
    is_link: bool


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a source: `inside` the folder `source` that somebody named, beyond which links do not lead unless
    they may. Called with a name it reads that file; raises OSError."""

    source: str
    inside: str = ""
    links: Links = "inside"

    def __call__(self, name: str) -> bytes:
        return beneath.read_file(self.source, self._below(name), self.links)

    @property
    def path(self) -> Path:
        """Where it lies, to be shown."""
        return Path(self.source, self.inside)

    def within(self, name: str) -> "Folder":
        """A folder in it."""
        return replace(self, inside=self._below(name))

    def file(self, name: str) -> "SourceFile":
        """A file in it, by its path from here."""
        return SourceFile(self, name)

    def open(self, name: str) -> FileIO:
        """A file in it, for reading. Raises OSError for what is not there, a link that leads out, a pipe."""
        return FileIO(beneath.open_file(self.source, self._below(name), self.links))

    @contextmanager
    def entries(self, name: str = "") -> Iterator[tuple[os.stat_result, Iterator[Entry]]]:
        """The state of a folder in it and what lies there, in no order. Raises OSError."""
        opened = beneath.opened_folder(self.source, self._below(name), self.links)
        with opened as handle, os.scandir(handle) as found:
            yield os.fstat(handle), map(_entry, found)

    def target(self, name: str) -> str:
        """The path at which a link in it leads to. Raises OSError for one that may not be followed."""
        if self.links == "none":
            raise OSError(errno.ELOOP, "is a link, which is not followed here", name)
        root, target = beneath.target_of(self.source, self._below(name), self.links)
        return os.path.normpath(f"{root}/{target}")

    def _below(self, name: str) -> str:
        return f"{self.inside}/{name}" if self.inside and name else self.inside or name


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source; it is shown as its path."""

    folder: Folder
    path: str
    shown: str = ""

    @classmethod
    def named(cls, path: Path) -> "SourceFile":
        """The file that somebody named, which may be a link."""
        real = path.resolve()
        return cls(Folder(str(real.parent)), real.name, str(path))

    def __str__(self) -> str:
        return self.shown or str(self.folder.path / self.path)

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """As of a path: `.txt`."""
        return Path(self.name).suffix

    def beside(self, name: str) -> "SourceFile":
        """A file in the same folder."""
        return SourceFile(self.folder, self.path.removesuffix(self.name) + name)

    def open(self) -> BufferedReader:
        """Its bytes. Raises `SourceError` naming it."""
        try:
            return BufferedReader(self.folder.open(self.path))
        except OSError as error:
            raise SourceError(f"{self}: cannot be read: {error.strerror or error}") from error

    def head(self, size: int) -> bytes:
        """Its first bytes."""
        with self.open() as stream:
            return stream.read(size)

    def read_bytes(self) -> bytes:
        """All of it."""
        with self.open() as stream:
            return stream.read()


def size_of(stream: BufferedReader) -> int:
    """How many bytes an open file has; what its name stands for may be another by now."""
    return os.fstat(stream.fileno()).st_size


def _entry(entry: "os.DirEntry[str]") -> Entry:
    return Entry(
        entry.name,
        entry.is_dir(follow_symlinks=False),
        entry.is_file(follow_symlinks=False),
        entry.is_symlink(),
    )
