"""The files of a source: opened where they lie, whatever is put in their place meanwhile (`resources.safe_files`);
unpacked into a folder of their own, for as long as anybody holds it; and how much they may take before they are
refused.

Work and memory are held to the size of the file: what somebody really has is a few times as large as its file, what
was made to do harm is a thousand times. Each bound is a setting in the environment, which a refusal names.
"""

import errno
import functools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedReader, FileIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from resources import safe_files
from resources.safe_files import Links, WorkingFolder
from resources.settings import SourceBounds
from visionops_assets.dataset.importing.image_source import SourceError

_KINDS = (
    (b"\x89PNG", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"\0\0\0\x0cjP  ", ".jp2"),
)
# Folders of a name, with it.
_DEEPEST_FOLDER = 16
# What is wrong with a name, not with the disk; ValueErrors, as of a null, have no number.
_NO_NAME = (None, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
TIMES = "VISIONOPS_SOURCE_TIMES"
MEMBERS = "VISIONOPS_SOURCE_MEMBERS"
HEADER = "VISIONOPS_SOURCE_HEADER_KIB"
TEXT = "VISIONOPS_SOURCE_TEXT_MIB"
VALUE = "VISIONOPS_SOURCE_VALUE_MIB"
SETTINGS = "VISIONOPS_SOURCE_SETTINGS_KIB"
COLUMNS = "VISIONOPS_SOURCE_COLUMNS"
DEPTH = "VISIONOPS_SOURCE_DEPTH"
TABLE = "VISIONOPS_SOURCE_TABLE_MIB"
# What is believed whatever the size of the file: bytes, and rows or labels.
_FREE_BYTES = {"archive": 256 << 20, "table": 64 << 20}
_FREE_ROWS = 200_000


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
        return safe_files.read_beneath(self.source, self._below(name), self.links)

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
        return FileIO(safe_files.open_beneath(self.source, self._below(name), self.links))

    @contextmanager
    def entries(self, name: str = "") -> Iterator[tuple[os.stat_result, Iterator[Entry]]]:
        """The state of a folder in it and what lies there, in no order. Raises OSError."""
        opened = safe_files.folder_beneath(self.source, self._below(name), self.links)
        with opened as handle, os.scandir(handle) as found:
            yield os.fstat(handle), map(_entry, found)

    def target(self, name: str) -> str:
        """The path at which a link in it leads to. Raises OSError for one that may not be followed."""
        if self.links == "none":
            raise OSError(errno.ELOOP, "is a link, which is not followed here", name)
        root, target = safe_files.target_of(self.source, self._below(name), self.links)
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


class UnpackedFolder:
    """A temporary folder that goes with its last holder."""

    def __init__(self) -> None:
        # What an import that was killed had unpacked goes first.
        self._held = WorkingFolder(Path(tempfile.gettempdir()), "visionops-unpacked")
        self.folder, self.remove = self._held.path, self._held.remove


class UnpackedImages(UnpackedFolder):
    """Images that lay in tables."""

    def add(self, data: bytes, folder: str, path: str, otherwise: str) -> str:
        """Write an image under the path that it comes with, or under another name; gives the path from the folder."""
        parts = PurePosixPath(path.replace("\\", "/")).parts
        inside = [part for part in parts if part not in ("/", "..", ".") and not part.endswith(":")]
        kind = image_suffix_of(data) or ".bin"
        names = [f"{otherwise}{kind}"]
        if 0 < len(inside) <= _DEEPEST_FOLDER:
            name = "/".join(inside)
            if suffix_of(name) is None:
                name += kind
            # For a name that another image has, or that no file can have.
            own = f"{otherwise}{PurePosixPath(name).suffix}"
            names = [name, f"{name.rpartition('/')[0]}/{own}".lstrip("/"), f"{otherwise}{kind}"]
        try:
            for number, name in enumerate(names, start=1):
                name = f"{folder}/{name}" if folder else name
                target = self.folder / name
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    stream = target.open("xb")
                except (OSError, ValueError) as error:
                    if number == len(names) or getattr(error, "errno", None) not in _NO_NAME:
                        raise
                    continue
                with stream:
                    stream.write(data)
                break
        except OSError as error:
            raise SourceError(
                f"{self.folder}: images of a table cannot be unpacked there: {error.strerror}; set TMPDIR"
            ) from error
        return name


def suffix_of(name: str) -> str | None:
    """The suffix of a file's name, if it is a short one."""
    suffix = PurePosixPath(name).suffix
    return suffix.lower() if 1 < len(suffix) <= 6 else None


def image_suffix_of(head: bytes) -> str | None:
    """The suffix that an image with these first bytes has; None for what is none."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return ".avif"
    return next((suffix for magic, suffix in _KINDS if head.startswith(magic)), None)


@dataclass(frozen=True)
class SourceLimits:
    """`times` how large a packed file may become, `members` of an archive with its folders, bytes of a `header` in it,
    of a `text` that is read whole, of one `value` or line, and of `settings` (YAML); `columns` of a table; `depth` of
    what is nested; and the memory in bytes of the process that reads a `table` of Parquet."""

    times: int = 30
    members: int = 5_000_000
    header: int = 1 << 20
    text: int = 256 << 20
    value: int = 16 << 20
    settings: int = 1 << 20
    columns: int = 4096
    depth: int = 100
    table: int = 512 << 20

    def unpacked(self, packed: int) -> int:
        """How many bytes an archive of so many may hold."""
        return _FREE_BYTES["archive"] + self.times * packed

    def in_memory(self, packed: int) -> int:
        """How many bytes a table or an array of so many may be."""
        return _FREE_BYTES["table"] + self.times * packed

    def rows(self, packed: int) -> int:
        """How many rows a table of so many bytes may have."""
        return _FREE_ROWS + packed * max(1, self.times // 30)


@functools.cache
def source_limits() -> SourceLimits:
    """The limits of this process, read from the environment once. Raises `ValueError` naming a setting."""
    given = SourceBounds.read()
    return SourceLimits(
        times=given.times,
        members=given.members,
        header=given.header_kib << 10,
        text=given.text_mib << 20,
        value=given.value_mib << 20,
        settings=given.settings_kib << 10,
        columns=given.columns,
        depth=given.depth,
        table=given.table_mib << 20,
    )


def too_much(what: object, has: str, setting: str) -> SourceError:
    """What to say of a file that asks for more: file, limit and setting in one line."""
    return SourceError(f"{what}: {has}; if it is yours and meant so, raise {setting}")
