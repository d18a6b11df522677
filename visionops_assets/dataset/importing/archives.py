"""Archives (zip, tar, tar.gz, tar.bz2, tar.xz), unpacked into a folder of their own before they are read.

Only plain files inside the archive come out: a name that leads elsewhere, a link or a device refuses it. So does what
would take more than its size lets believe, before it is written.
"""

import bz2
import gzip
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from io import BufferedReader, RawIOBase
from pathlib import Path, PurePosixPath
from typing import IO, Any

from resources.machine_errors import machine_error
from visionops_assets.dataset.importing.image_source import SourceError, quoted
from visionops_assets.dataset.importing.source_files import (
    DEPTH,
    HEADER,
    MEMBERS,
    TIMES,
    SourceFile,
    UnpackedFolder,
    size_of,
    source_limits,
    too_much,
)

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

_AT_ONCE, _PACKED_AT_ONCE = 1 << 20, 1 << 16
# What paths in lakeFS may have; what xz needs at its highest level is a third of this.
_LONGEST_NAME, _XZ_MEMORY = 1024, 200 << 20

# What the standard library raises on archives that are cut off, altered, encrypted or packed otherwise.
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, RuntimeError, NotImplementedError),
)
_OTHERS = {
    ".7z": "7z x ARCHIVE -oFOLDER",
    ".rar": "unrar x ARCHIVE FOLDER/",
    ".tar.zst": "tar --zstd -xf ARCHIVE -C FOLDER",
    ".zst": "zstd -d ARCHIVE",
    ".tar.lz4": "lz4 -dc ARCHIVE | tar -x -C FOLDER",
}


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
    is_zip = archive.name.lower().endswith(".zip")
    file = SourceFile.named(archive)
    try:
        with file.open() as stream:
            room = _Room(archive, size_of(stream), folder)
            members = _in_zip(archive, stream, encoding, room) if is_zip else _in_tar(archive, stream, room)
            for name, size, content in members:
                inside = _inside(archive, name)
                room.take(inside, size)
                target = folder / inside
                if is_zip and target.exists():
                    raise SourceError(f"{archive}: has {quoted(name)} twice; take one of them out")
                target.parent.mkdir(parents=True, exist_ok=True)
                with content, target.open("wb") as unpacked:
                    shutil.copyfileobj(content, unpacked, _AT_ONCE)
    except _BROKEN as error:
        raise SourceError(f"{archive}: cannot be unpacked: {_in_words(error)}") from error


def _in_words(error: Exception) -> str:
    if isinstance(error, NotImplementedError):
        return "it is packed or encrypted in a way that is not known; pack it as zip does by default"
    if isinstance(error, RuntimeError):
        return "it has a password; pack it without one"
    return machine_error(error) or "it is cut off or damaged; is it complete?"


class _Room:
    """What an archive may still take, counted before it is written: bytes by its own size and by the disk, files and
    folders by their number and by the disk."""

    def __init__(self, archive: Path, packed: int, folder: Path) -> None:
        self._archive, self._folder, self._limits = archive, folder, source_limits()
        self.allowed = self._limits.unpacked(packed)
        self._bytes, self._members = 0, 0
        self._folders: set[str] = set()
        disk = os.statvfs(folder)
        self._block = max(512, disk.f_frsize)
        self._free = disk.f_bavail * disk.f_frsize
        # Some file systems count no inodes.
        self._inodes = disk.f_favail if disk.f_files else None

    def take(self, name: str, size: int) -> None:
        """One more file. Raises `SourceError` where it is one too many."""
        self.check(size)
        self._bytes += size
        parts, count = name.split("/"), 1
        if len(name.encode("utf-8", "surrogateescape")) > _LONGEST_NAME or len(parts) > self._limits.depth:
            has = f"has the name {name[:60]!r}… of more than {_LONGEST_NAME:,} bytes or {self._limits.depth} folders"
            raise too_much(self._archive, has, DEPTH)
        for place in range(len(parts) - 1, 0, -1):
            around = "/".join(parts[:place])
            if around in self._folders:
                break
            self._folders.add(around)
            count += 1
        self.check_members(self._members + count)
        self._members += count
        self._free -= (count - 1 + -(-size // self._block)) * self._block
        if self._free < 0 or (self._inodes is not None and self._members > self._inodes):
            raise SourceError(
                f"{self._archive}: needs more than the free disk space in {self._folder.parent}; set TMPDIR"
            )

    def check(self, more: int) -> None:
        """Raise `SourceError` where so many bytes more are not believed."""
        if self._bytes + more > self.allowed:
            raise self.too_large()

    def too_large(self) -> SourceError:
        """What to say of an archive that unpacks to more than is believed."""
        has = f"unpacks to more than {self.allowed:,} bytes, which is not believed of its size"
        return too_much(self._archive, has, TIMES)

    def check_members(self, count: int) -> None:
        """Raise `SourceError` for more files and folders than an archive may have."""
        if count > self._limits.members:
            has = f"has more than {self._limits.members:,} files and folders"
            raise too_much(self._archive, has, MEMBERS)


def _in_zip(
    archive: Path, stream: IO[bytes], encoding: str | None, room: _Room
) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(stream) as opened:
        entries = opened.infolist()
        room.check_members(len(entries))
        room.check(sum(entry.file_size for entry in entries))
        for entry in entries:
            # The upper half of the attributes is the Unix mode; 0o120000 says symbolic link.
            if entry.external_attr >> 16 & 0o170000 == 0o120000:
                raise SourceError(
                    f"{archive}: {quoted(entry.filename, plain=True)} is a link; put the file itself there"
                )
            # The others are unpacked by the standard library in one go, however large they become.
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise SourceError(
                    f"{archive}: {quoted(entry.filename)} is packed in another way than zip's own (method "
                    f"{entry.compress_type}); pack it as zip does by default, or as .tar.xz"
                )
            if not entry.is_dir() and not entry.filename.endswith("\\"):
                yield _zip_name(archive, entry, encoding), entry.file_size, opened.open(entry)


def _in_tar(archive: Path, stream: BufferedReader, room: _Room) -> Iterator[tuple[str, int, IO[bytes]]]:
    content = _TarStream(archive, _decompressed(stream), room)
    with tarfile.open(fileobj=content, mode="r:") as packed:  # type: ignore[call-overload]
        while True:
            content.in_header()
            member = packed.next()
            if member is None:
                # The checksum of what packed it stands behind all of it.
                content.in_data()
                while content.read(_AT_ONCE):
                    pass
                return
            # Else it keeps all that it has read.
            packed.members.clear()
            if sum(map(len, packed.pax_headers.values())) > source_limits().header:
                raise content.too_long()
            if member.isdir():
                continue
            file = packed.extractfile(member) if member.isreg() else None
            if file is None:
                raise SourceError(
                    f"{archive}: {quoted(member.name, plain=True)} is a link or a device; put the file itself there"
                )
            content.in_data()
            yield member.name, member.size, file


def _decompressed(stream: BufferedReader) -> IO[bytes]:
    head = stream.peek(6)
    if head.startswith(b"\x1f\x8b"):
        return BufferedReader(gzip.GzipFile(fileobj=stream))
    if head.startswith(b"BZh"):
        return bz2.BZ2File(stream)
    if head.startswith((b"\xfd7zXZ\0", b"]\0\0")):
        return BufferedReader(_XZStream(stream), _AT_ONCE)
    return stream


class _XZStream(RawIOBase):
    """What is packed by xz, for which the packer may not ask for any memory it likes."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed, self._unpacking = packed, self._new()

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted, data = memoryview(buffer).cast("B"), b""
        while True:
            if self._unpacking.eof:
                # Streams may follow each other, with zeros between them.
                rest = (self._unpacking.unused_data or self._packed.read(_PACKED_AT_ONCE)).lstrip(b"\0")
                if not rest:
                    return 0
                self._unpacking, data = self._new(), rest
            elif self._unpacking.needs_input:
                data = self._packed.read(_PACKED_AT_ONCE)
                if not data:
                    raise EOFError("it ends before its last block does")
            found = self._unpacking.decompress(data, len(wanted))
            data = b""
            if found:
                wanted[: len(found)] = found
                return len(found)


class _TarStream:
    """The bytes of a tar for `tarfile`, which reads on for headers of any length: they are held to a bound, and all of
    it to what is believed of the archive."""

    def __init__(self, archive: Path, stream: IO[bytes], room: _Room) -> None:
        self._archive, self._stream, self._room = archive, stream, room
        self._at, self._header_left = 0, 0
        self._in_data = False
        self.in_header()

    def in_header(self) -> None:
        """A header is read next."""
        self._in_data, self._header_left = False, source_limits().header

    def in_data(self) -> None:
        """The bytes of a file are read next."""
        self._in_data = True

    def too_long(self) -> SourceError:
        """What to say of a header beyond its bound."""
        return too_much(self._archive, f"has a header of more than {source_limits().header:,} bytes", HEADER)

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """So many bytes, or as many as there are."""
        if not self._in_data:
            if not 0 <= size <= self._header_left:
                raise self.too_long()
            self._header_left -= size
        return self._read(size)

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Go on to a place. Raises OSError for one before."""
        if whence != os.SEEK_SET or place < self._at:
            raise OSError("archives are read from their beginning to their end")
        while self._at < place and self._read(min(_AT_ONCE, place - self._at)):
            pass
        return self._at

    def _read(self, size: int) -> bytes:
        found = self._stream.read(size)
        self._at += len(found)
        # With their headers, and what is passed over.
        if self._at > 2 * self._room.allowed:
            raise self._room.too_large()
        return found


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
        raise SourceError(f"{archive}: {quoted(name)} leads out of the archive; it is not unpacked")
    return path.as_posix()


def check_known(source: Path) -> None:
    """Raise `SourceError` for archives that are not unpacked, with how it is done."""
    name = source.name.lower()
    tool = next((tool for suffix, tool in _OTHERS.items() if name.endswith(suffix)), None)
    if source.is_file() and tool is not None:
        raise SourceError(
            f"{source}: archives of this kind are not unpacked; unpack it with `{tool}`, then give the folder"
        )
