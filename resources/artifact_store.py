"""Tables and records of the asset graph: a folder or a bucket, written whole or not at all."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from resources.whole_outputs import is_left, whole_file

if TYPE_CHECKING:
    from upath import UPath


class ArtifactNotFound(LookupError):
    """Nothing is stored under this key."""


class ArtifactDamaged(ValueError):
    """What is stored under a key is not what was written there; the message names the file and what mends it."""


class ArtifactStore(dg.ConfigurableResource):
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
