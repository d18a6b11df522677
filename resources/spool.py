"""Where devices and servers leave what they saw: `<root>/<project>/<device>/<name>.parquet`, a folder or a bucket.

Writers only ever add files here; the collector commits them and takes them away. A name is used once, so a file that
is put twice is one file. Notes, `<name>.note` beside them, are a writer's own.
"""

import re
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from resources import home
from resources.artifact_store import ArtifactNotFound, ArtifactStore

SUFFIX, NOTE = ".parquet", ".note"
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_THREADS = 8


def check_device(name: str) -> str:
    """The name of a device, which is a folder's too. Raises ValueError saying what it may have."""
    if not _DEVICE.fullmatch(name):
        raise ValueError(
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


class Spool(dg.ConfigurableResource):
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
        """The files of a project, by name."""
        folder = self._store.path(project)
        if not folder.exists():
            return []
        return sorted(
            f"{device.name}/{file.name}"
            for device in folder.iterdir()
            if _is(stat.S_ISDIR, device)
            for file in device.iterdir()
            if file.name.endswith(SUFFIX) and _is(stat.S_ISREG, file)
        )

    def read_each(self, project: str, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """The content of files, in their order, read by several threads."""
        with ThreadPoolExecutor(_THREADS) as threads:
            keys = [f"{project}/{file}" for file in files]
            yield from zip(files, threads.map(self._store.read, keys), strict=True)

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
