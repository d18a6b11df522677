"""Archives (zip, tar, tar.gz, tar.bz2, tar.xz), unpacked into a folder of their own before they are read.

Only plain files inside the archive come out: a name that leads elsewhere, a link or a device refuses it.
"""

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from visionops_assets.dataset.importing.source import SourceError
from visionops_assets.dataset.importing.unpacked import UnpackedFolder

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

# What the standard library raises on archives that are cut off, altered, encrypted or packed otherwise.
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, RuntimeError, NotImplementedError),
)


class Unpacked(UnpackedFolder):
    """The unpacked files, in `folder`, for as long as this object lives. Names without a mark that are no UTF-8 are in
    `encoding`."""

    def __init__(self, archive: Path, encoding: str | None = None) -> None:
        super().__init__()
        try:
            _unpack(archive, self.folder, encoding)
        except BaseException:
            self.remove()
            raise


def is_archive(source: Path) -> bool:
    """Whether the name is that of an archive."""
    return source.is_file() and source.name.lower().endswith(_SUFFIXES)


def _unpack(archive: Path, folder: Path, encoding: str | None) -> None:
    room = shutil.disk_usage(folder).free
    try:
        for name, size, stream in _members(archive, encoding):
            room -= size
            if room < 0:
                raise SourceError(
                    f"{archive}: needs more than the free disk space in {folder.parent}; set TMPDIR"
                )
            target = folder / _inside(archive, name)
            if target.exists() and archive.name.lower().endswith(".zip"):
                raise SourceError(f"{archive}: has {name!r} twice; take one of them out")
            target.parent.mkdir(parents=True, exist_ok=True)
            with stream, target.open("wb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)
    except _BROKEN as error:
        raise SourceError(f"{archive}: cannot be unpacked: {error}; is it complete?") from error


def _members(archive: Path, encoding: str | None) -> Iterator[tuple[str, int, IO[bytes]]]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                # The upper half of the attributes is the Unix mode; 0o120000 says symbolic link.
                if entry.external_attr >> 16 & 0o170000 == 0o120000:
                    raise SourceError(f"{archive}: {entry.filename} is a link; put the file itself there")
                if not entry.is_dir() and not entry.filename.endswith("\\"):
                    yield _zip_name(archive, entry, encoding), entry.file_size, opened.open(entry)
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


def _zip_name(archive: Path, entry: zipfile.ZipInfo, encoding: str | None) -> str:
    """The name of a file in a zip: UTF-8 where its mark says so or it is; else in the encoding that is stated."""
    if entry.flag_bits & 0x800 or entry.filename.isascii():
        return entry.filename
    raw = entry.orig_filename.encode("cp437")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode(encoding or "ascii")
    except UnicodeDecodeError:
        shown = raw.decode("ascii", "backslashreplace")
        raise SourceError(
            f"{archive}: the name '{shown}' in it is not UTF-8; say in which encoding its names are, for example "
            "--encoding cp1252 (cp437 or cp850 of older Windows)"
        ) from None


def _inside(archive: Path, name: str) -> str:
    # Some programs of Windows write backslashes, which no name of theirs can have.
    path = PurePosixPath(name.replace("\\", "/"))
    drive = path.parts[:1] and path.parts[0].endswith(":")
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts or drive:
        raise SourceError(f"{archive}: {name!r} leads out of the archive; it is not unpacked")
    return path.as_posix()


def check_known(source: Path) -> None:
    """Raise `SourceError` for archives that are not unpacked, with how it is done."""
    name = source.name.lower()
    tool = next((tool for suffix, tool in _OTHERS.items() if name.endswith(suffix)), None)
    if source.is_file() and tool is not None:
        raise SourceError(
            f"{source}: archives of this kind are not unpacked; unpack it with `{tool}`, then give the folder"
        )


_OTHERS = {
    ".7z": "7z x ARCHIVE -oFOLDER",
    ".rar": "unrar x ARCHIVE FOLDER/",
    ".tar.zst": "tar --zstd -xf ARCHIVE -C FOLDER",
    ".zst": "zstd -d ARCHIVE",
    ".tar.lz4": "lz4 -dc ARCHIVE | tar -x -C FOLDER",
}
