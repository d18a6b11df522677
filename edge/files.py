"""The only module that touches a device's disk: each change is durable when its method returns.

Every change is made of the few steps of `System`, so that tests can stop a device before, within and after each one,
and cut its power.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

from edge import EdgeError

# What a system says of a disk, or of this user's part of it, that is full.
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)


class NoSuchUser(EdgeError, ValueError):
    """A path begins with `~` and a name that no user has."""


def named_path(path: str | Path) -> Path:
    """A path that a person wrote, with `~` and `~USER` as a shell reads them. Raises `NoSuchUser`."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise NoSuchUser(f"{path}: no user has the name after ~; write the whole path") from None


class System:
    """The steps that change a disk. Contents are durable after `sync`, names after `sync_folder`."""

    def write(self, path: Path, content: bytes) -> None:
        """Make or empty a file and fill it."""
        with path.open("wb") as stream:
            stream.write(content)

    def append(self, path: Path, content: bytes) -> None:
        """Add to the end of a file, made if it is not there."""
        with path.open("ab") as stream:
            stream.write(content)

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file."""
        os.truncate(path, size)

    def sync(self, path: Path) -> None:
        """Wait until a file's content is on the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name, in place of what had it."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink(missing_ok=True)

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()

    def make_folder(self, path: Path) -> None:
        """Make a folder and those above it."""
        path.mkdir(parents=True, exist_ok=True)

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in a folder are on the disk."""
        self.sync(path)

    def boot_id(self) -> str:
        """What differs after the machine started anew; empty where it cannot be told."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""


class Files:
    """The folder of one device. Names are relative, with `/`."""

    def __init__(self, root: Path, system: System | None = None) -> None:
        self.root = root
        self._system = system or System()

    @property
    def boot_id(self) -> str:
        """Of the machine, as `System` says."""
        return self._system.boot_id()

    def path(self, name: str) -> Path:
        """Where a file lies, for those that only read it."""
        return self.root / name

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None."""
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError:
            return None

    def size(self, name: str) -> int | None:
        """The length of a file, or None."""
        try:
            return self.path(name).stat().st_size
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """The files right in a folder."""
        try:
            return sorted(each.name for each in self.path(folder).iterdir() if each.is_file())
        except FileNotFoundError:
            return []

    def folders(self, folder: str) -> list[str]:
        """The folders right in a folder."""
        try:
            return sorted(each.name for each in self.path(folder).iterdir() if each.is_dir())
        except FileNotFoundError:
            return []

    def sha256(self, name: str) -> str | None:
        """The digest of a file, or None; also None where the disk cannot read it."""
        digest = hashlib.sha256()
        try:
            with self.path(name).open("rb") as stream:
                while part := stream.read(1 << 20):
                    digest.update(part)
        except OSError:
            return None
        return digest.hexdigest()

    def room(self) -> int:
        """Free bytes for this user."""
        return shutil.disk_usage(self.root).free

    def folder(self, name: str) -> Path:
        """A folder, made."""
        path = self.path(name)
        if not path.is_dir():
            self._system.make_folder(path)
            self._system.sync_folder(path.parent)
        return path

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole: who reads it finds the old content or the new one, whatever happens."""
        target = self.path(name)
        self.folder(str(Path(name).parent))
        temporary = target.with_name(f"{target.name}.new")
        try:
            self._system.write(temporary, content)
            self._system.sync(temporary)
        except OSError:
            # On a full disk what is left of it would take the room that the next attempt needs.
            self._system.remove(temporary)
            raise
        self._system.rename(temporary, target)
        self._system.sync_folder(target.parent)

    def append(self, name: str, content: bytes) -> None:
        """Add to the end of a file."""
        path = self.path(name)
        new = not path.exists()
        if new:
            self.folder(str(Path(name).parent))
        self._system.append(path, content)
        self._system.sync(path)
        if new:
            self._system.sync_folder(path.parent)

    def truncate(self, name: str, size: int) -> None:
        """Cut a file."""
        self._system.truncate(self.path(name), size)
        self._system.sync(self.path(name))

    def move(self, name: str, to: str) -> None:
        """Give a file another name, perhaps in another folder."""
        source, target = self.path(name), self.path(to)
        self.folder(str(Path(to).parent))
        self._system.rename(source, target)
        self._system.sync_folder(target.parent)
        if source.parent != target.parent:
            self._system.sync_folder(source.parent)

    def remove(self, name: str) -> None:
        """Remove a file that may be there."""
        path = self.path(name)
        if path.exists():
            self._system.remove(path)
            self._system.sync_folder(path.parent)

    def sync_tree(self, name: str) -> list[str]:
        """Wait until what another process wrote below a folder is on the disk. The files, relative to it."""
        root = self.path(name)
        found = sorted(path for path in root.rglob("*") if path.is_file())
        for path in found:
            self._system.sync(path)
        for path in sorted(each for each in root.rglob("*") if each.is_dir()):
            self._system.sync_folder(path)
        self._system.sync_folder(root)
        return [path.relative_to(root).as_posix() for path in found]

    def remove_tree(self, name: str) -> None:
        """Remove a folder and all below it."""
        root = self.path(name)
        for path in sorted(root.rglob("*"), reverse=True):
            (self._system.remove_folder if path.is_dir() else self._system.remove)(path)
        self._system.remove_folder(root)
        self._system.sync_folder(root.parent)
