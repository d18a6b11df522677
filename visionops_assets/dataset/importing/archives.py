"""Archives (zip, tar, tar.gz, tar.bz2, tar.xz), unpacked into a folder of their own before they are read.

Only plain files inside the archive come out: a name that leads elsewhere, a link or a device refuses it.
"""

import lzma
import shutil
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from visionops_assets.dataset.importing.source import SourceError

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

# What the standard library raises on archives that are cut off, altered, encrypted or packed otherwise.
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, RuntimeError, NotImplementedError),
)


class Unpacked:
    """The unpacked files, in `folder`, for as long as this object lives."""

    def __init__(self, archive: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="visionops-unpacked-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        try:
            _unpack(archive, self.folder)
        except BaseException:
            self._remove()
            raise


def is_archive(source: Path) -> bool:
    """Whether the name is that of an archive."""
    return source.is_file() and source.name.lower().endswith(_SUFFIXES)


def _unpack(archive: Path, folder: Path) -> None:
    room = shutil.disk_usage(folder).free
    try:
        for name, size, stream in _members(archive):
            room -= size
            if room < 0:
                raise SourceError(
                    f"{archive}: needs more than the free disk space in {folder.parent}; set TMPDIR"
                )
            target = folder / _inside(archive, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with stream, target.open("wb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)
    except _BROKEN as error:
        raise SourceError(f"{archive}: cannot be unpacked: {error}; is it complete?") from error


def _members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                # The upper half of the attributes is the Unix mode; 0o120000 says symbolic link.
                if entry.external_attr >> 16 & 0o170000 == 0o120000:
                    raise SourceError(f"{archive}: {entry.filename} is a link; put the file itself there")
                if not entry.is_dir():
                    yield entry.filename, entry.file_size, opened.open(entry)
        return
    with tarfile.open(archive) as packed:
        while (member := packed.next()) is not None:
            # Else it keeps all that it has read.
            packed.members.clear()  # type: ignore[attr-defined]
            if member.isdir():
                continue
            stream = packed.extractfile(member) if member.isreg() else None
            if stream is None:
                raise SourceError(
                    f"{archive}: {member.name} is a link or a device; put the file itself there"
                )
            yield member.name, member.size, stream


def _inside(archive: Path, name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise SourceError(f"{archive}: {name!r} leads out of the archive; it is not unpacked")
    return path.as_posix()
