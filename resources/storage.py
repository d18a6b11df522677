"""Where the asset graph finds and keeps files: the artifact store (tables and records, whole or not at all), the
spool in which devices and servers leave what they saw, and scratch disk that may be deleted at any time.
"""

import json
import os
import re
import stat
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from pydantic import BaseModel

from resources import home
from resources.error_family import Altered, Invalid, NotFound
from resources.safe_files import is_left, whole_file

if TYPE_CHECKING:
    from upath import UPath

_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_THREADS = 8


class ArtifactNotFound(NotFound):
    """Nothing is stored under this key."""


class ArtifactDamaged(Altered):
    """What is stored under a key is not what was written there; the message names the file and what mends it."""


class ArtifactStore(BaseModel, frozen=True, extra="forbid"):
    """Bytes and JSON under `/`-separated keys. `root` is a folder or any address that fsspec opens (`s3://…`)."""

    root: str

    def path(self, key: str = "") -> "UPath":
        """Where `key` is stored."""
        from upath import UPath

        # What fsspec once listed in a bucket it would take, for ever, for what is there.
        root = UPath(self.root, use_listings_cache=False) if "://" in self.root else UPath(self.root)
        return root / key if key else root

    def exists(self, key: str) -> bool:
        """Whether something is stored under `key`."""
        return self.path(key).exists()

    def names(self, folder: str) -> list[str]:
        """The names of what is stored right under a folder, as it is now; none where there is no such folder."""
        try:
            return sorted(found.name for found in self.path(folder).iterdir() if not is_left(found.name))
        except FileNotFoundError:
            return []

    def stamps(self, folder: str) -> dict[str, tuple[object, ...]]:
        """The names of the files right under a folder, each with what differs once it was written anew: by one listing,
        none is opened."""
        path = self.path(folder)
        try:
            if "://" not in self.root:
                with os.scandir(str(path)) as found:
                    each = {
                        entry.name: entry.stat()
                        for entry in found
                        if entry.is_file() and not is_left(entry.name)
                    }
                return {name: (of.st_mtime_ns, of.st_ino, of.st_size) for name, of in each.items()}
            listed = path.fs.ls(path.path, detail=True)
        except FileNotFoundError:
            return {}
        return {
            str(of["name"]).rsplit("/", 1)[-1]: tuple(
                str(of.get(name)) for name in ("ETag", "etag", "LastModified", "mtime", "updated", "size")
            )
            for of in listed
            if of["type"] == "file"
        }

    def read(self, key: str) -> bytes:
        """The bytes under `key`; raises `ArtifactNotFound`."""
        try:
            return self.path(key).read_bytes()
        except FileNotFoundError as error:
            raise ArtifactNotFound(f"nothing is stored under {key} in {self.root}") from error

    def write(self, key: str, content: bytes) -> None:
        """Store or replace; a reader sees the old bytes or the new ones, never a part, even after a crash."""
        target = self.path(key)
        if target.protocol not in ("", "file", "local"):
            target.write_bytes(content)
            return
        try:
            with whole_file(Path(target.path), ours=True) as unfinished:
                unfinished.write_bytes(content)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{key} could not be stored in {self.root}: {error.strerror}; nothing was changed",
            ) from error

    def write_once(self, key: str, content: bytes) -> None:
        """Store under a key that names the content; what is there already stays."""
        if not self.exists(key):
            self.write(key, content)

    def read_json(self, key: str) -> Any:
        """The JSON object under `key`; raises `ArtifactNotFound` and `ArtifactDamaged`."""
        try:
            found = json.loads(self.read(key))
        except ValueError as error:
            raise self.damaged(key, str(error)) from error
        if not isinstance(found, dict):
            raise self.damaged(key, "it holds no JSON object")
        return found

    def damaged(self, key: str, why: str) -> ArtifactDamaged:
        """What to raise where something else is stored than what belongs under `key`."""
        return ArtifactDamaged(
            f"{self.path(key)} is damaged ({why}): restore it from a backup, or delete it and materialise again what "
            "it is of"
        )

    def write_json(self, key: str, content: Any) -> None:
        """Store or replace JSON."""
        self.write(key, json.dumps(content, indent=1, sort_keys=True).encode())


SUFFIX, NOTE = ".parquet", ".note"
# What a device signed: JSON lines, gzipped.
_COLLECTED = (SUFFIX, ".jsonl.gz")
# Nobody reads more of a file than that, whoever wrote it.
LARGEST_SPOOLED = 256 << 20


def check_device(name: str) -> str:
    """The name of a device, which is a folder's too. Raises ValueError saying what it may have."""
    if not _DEVICE.fullmatch(name):
        raise Invalid(
            f"device {name!r}: a device's name has letters, digits, `_` and `-`, and at most 63 of them"
        )
    return name


def _is(kind: Callable[[int], bool], entry: Any) -> bool:
    """Whether an entry is itself of a kind: a link leads to what is no device's, and a pipe never ends. A bucket has
    files and folders only."""
    if not isinstance(entry, Path):
        return bool(kind is stat.S_ISREG or entry.is_dir())
    try:
        return kind(entry.lstat().st_mode)
    except OSError:
        # It was taken away meanwhile.
        return False


def _in_bucket(folder: "UPath", maxdepth: int | None = None) -> Iterator[str]:
    """The names of what lies below a prefix, relative to it."""
    root = str(folder.path).strip("/")
    for path in folder.fs.find(folder.path, maxdepth=maxdepth):
        yield str(path).strip("/").removeprefix(f"{root}/")


class Spool(BaseModel, frozen=True, extra="forbid"):
    """The spool of all projects. `root` is a folder or any address that fsspec opens (`s3://…`)."""

    root: str

    @classmethod
    def from_environment(cls) -> "Spool":
        """VISIONOPS_SPOOL, or `spool` under `home()`."""
        return cls(root=home.spool())

    def put(self, project: str, device: str, content: bytes, name: str | None = None) -> str:
        """Add one file, whole or not at all; returns `<device>/<name>.parquet`.

        Raises ValueError for a device whose name cannot be a folder's, OSError where nothing can be written.
        """
        file = f"{check_device(device)}/{name or uuid.uuid4().hex}{SUFFIX}"
        self._store.write(f"{project}/{file}", content)
        return file

    def files(self, project: str) -> list[str]:
        """The files of a project, by name: one listing by prefix where it is a bucket."""
        folder = self._store.path(project)
        if not folder.exists():
            return []
        if not isinstance(folder, Path):
            found = _in_bucket(folder, maxdepth=2)
            return sorted(name for name in found if name.count("/") == 1 and name.endswith(_COLLECTED))
        return sorted(
            f"{device.name}/{file.name}"
            for device in folder.iterdir()
            if _is(stat.S_ISDIR, device)
            for file in device.iterdir()
            if file.name.endswith(_COLLECTED) and _is(stat.S_ISREG, file)
        )

    def strangers(self, project: str) -> list[str]:
        """What lies among the files of a project and nobody collects, by name; hidden files may be on their way."""
        folder = self._store.path(project)
        if not folder.exists():
            return []
        known = (*_COLLECTED, NOTE)
        if not isinstance(folder, Path):
            found = _in_bucket(folder)
            return sorted(name for name in found if name.count("/") != 1 or not name.endswith(known))
        devices, files = [], []
        for each in folder.iterdir():
            (devices if _is(stat.S_ISDIR, each) else files).append(each)
        files += [
            file
            for device in devices
            for file in device.iterdir()
            if not (file.name.endswith(known) and _is(stat.S_ISREG, file))
        ]
        return sorted(file.relative_to(folder).as_posix() for file in files if not file.name.startswith("."))

    def read_each(
        self, project: str, files: Sequence[str], largest: int = LARGEST_SPOOLED
    ) -> Iterator[tuple[str, bytes]]:
        """The content of files, in their order, read by several threads; of one that has more than `largest` bytes, one
        byte more than that. Raises `ArtifactNotFound`."""

        def read(file: str) -> bytes:
            try:
                with self._store.path(f"{project}/{file}").open("rb") as stream:
                    return bytes(stream.read(largest + 1))
            except FileNotFoundError as error:
                raise ArtifactNotFound(f"{file} of {project} is gone from {self.root}") from error

        with ThreadPoolExecutor(_THREADS) as threads:
            # No more of them at once: memory holds what was read ahead.
            ahead = deque((file, threads.submit(read, file)) for file in files[:_THREADS])
            for following in [*files[_THREADS:], *[None] * len(ahead)]:
                file, content = ahead.popleft()
                if following is not None:
                    ahead.append((following, threads.submit(read, following)))
                yield file, content.result()

    def remove(self, project: str, files: Sequence[str]) -> None:
        """Take files away; those that are gone are fine."""
        folder = self._store.path(project)
        for file in files:
            (folder / file).unlink(missing_ok=True)

    def notes(self, project: str, device: str) -> dict[str, bytes]:
        """The notes of a device's writers, by name."""
        folder = f"{project}/{check_device(device)}"
        found = {}
        for name in self._store.names(folder):
            # Another writer may take its own away meanwhile.
            with suppress(ArtifactNotFound):
                if name.endswith(NOTE):
                    found[name.removesuffix(NOTE)] = self._store.read(f"{folder}/{name}")
        return found

    def note(self, project: str, device: str, name: str, content: bytes | None) -> None:
        """Write a note, whole or not at all, or take it away."""
        key = f"{project}/{check_device(device)}/{name}{NOTE}"
        if content is None:
            self._store.path(key).unlink(missing_ok=True)
        else:
            self._store.write(key, content)

    @cached_property
    def _store(self) -> ArtifactStore:
        return ArtifactStore(root=self.root)


class Scratch(BaseModel, frozen=True, extra="forbid"):
    """Folders under `root`, on a disk of the machine that trains."""

    root: str

    @property
    def samples(self) -> Path:
        """Root of the sample cache, shared by all projects and versions."""
        return Path(self.root) / "samples"

    def training(self, identity: str) -> Path:
        """Where a training leaves its checkpoint, so that an interrupted one resumes."""
        return Path(self.root) / "training" / identity[:32]

    @contextmanager
    def exclusive_training(self, identity: str) -> Iterator[Path]:
        """The same folder, while no other process of this machine trains the same; waits for one that does."""
        folder = self.training(identity)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside the folder, which whoever trained removes while others wait for the lock.
        with FileLock(f"{folder}.lock"):
            folder.mkdir(parents=True, exist_ok=True)
            yield folder
