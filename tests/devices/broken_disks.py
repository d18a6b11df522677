"""Disks for `edge.files`: one on which the device dies at a step, and a model of one whose power is cut; and a store on
which a publisher dies."""

from pathlib import Path

from edge.files import System
from resources.storage import ArtifactStore


class Killed(BaseException):
    """The process is gone."""


class DyingStore(ArtifactStore):
    """Dies before its n-th write."""

    left: int

    def write(self, key: str, content: bytes) -> None:
        if self.left == 0:
            raise Killed
        # A resource of Dagster's is frozen.
        object.__setattr__(self, "left", self.left - 1)
        super().write(key, content)


class KilledAt(System):
    """Dies at a step: before it, in the middle of what it writes, or after it."""

    def __init__(self, step: int, moment: str) -> None:
        self._step, self._moment = step, moment
        self.steps = 0

    def write(self, path: Path, content: bytes) -> None:
        self._do(lambda: super(KilledAt, self).write(path, content), lambda: self._half(path, content, "wb"))

    def append(self, path: Path, content: bytes) -> None:
        self._do(lambda: super(KilledAt, self).append(path, content), lambda: self._half(path, content, "ab"))

    def truncate(self, path: Path, size: int) -> None:
        self._do(lambda: super(KilledAt, self).truncate(path, size))

    def sync(self, path: Path) -> None:
        self._do(lambda: super(KilledAt, self).sync(path))

    def sync_folder(self, path: Path) -> None:
        self._do(lambda: None)

    def rename(self, source: Path, target: Path) -> None:
        self._do(lambda: super(KilledAt, self).rename(source, target))

    def remove(self, path: Path) -> None:
        self._do(lambda: super(KilledAt, self).remove(path))

    def remove_folder(self, path: Path) -> None:
        self._do(lambda: super(KilledAt, self).remove_folder(path))

    def make_folder(self, path: Path) -> None:
        self._do(lambda: super(KilledAt, self).make_folder(path))

    def _do(self, step, half=lambda: None) -> None:  # type: ignore[no-untyped-def]
        self.steps += 1
        here = self.steps == self._step
        if here and self._moment == "before":
            raise Killed
        if here and self._moment == "half":
            half()
            raise Killed
        step()
        if here and self._moment == "after":
            raise Killed

    def _half(self, path: Path, content: bytes, mode: str) -> None:
        with path.open(mode) as stream:
            stream.write(content[: len(content) // 2])


class PowerCut(KilledAt):
    """A disk that keeps, when its power is cut before a step, only what was waited for.

    `survives`: of what was not waited for, `nothing`; all names but of the contents nulls (`names`); or all names and
    half of each content (`half`).
    """

    def __init__(self, step: int, survives: str) -> None:
        super().__init__(step, "before")
        self._survives = survives
        self._contents: dict[int, bytes] = {}
        self._inodes: dict[Path, int] = {}
        self._names: dict[Path, int] = {}

    def after_the_cut(self, root: Path, folder: Path) -> None:
        """Leave in a folder what the disk holds now of `root`."""
        kept = self._names if self._survives == "nothing" else self._inodes
        for path, inode in kept.items():
            now = next((other for other, each in self._inodes.items() if each == inode), None)
            written = now.read_bytes() if now is not None and now.exists() else b""
            durable = self._contents.get(inode, b"")
            torn = written[len(durable) :] if written.startswith(durable) else written
            content = {
                "nothing": durable,
                "names": durable + b"\0" * len(torn),
                "half": durable + torn[: len(torn) // 2],
            }[self._survives]
            target = folder / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

    def boot_id(self) -> str:
        return "before the cut"

    def write(self, path: Path, content: bytes) -> None:
        super().write(path, content)
        self._inodes[path] = self.steps

    def append(self, path: Path, content: bytes) -> None:
        super().append(path, content)
        self._inodes.setdefault(path, self.steps)

    def sync(self, path: Path) -> None:
        super().sync(path)
        if path in self._inodes:
            self._contents[self._inodes[path]] = path.read_bytes()

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._inodes[target] = self._inodes.pop(source)

    def remove(self, path: Path) -> None:
        super().remove(path)
        self._inodes.pop(path, None)

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        for name in [name for name in self._names if name.parent == path]:
            del self._names[name]
        self._names |= {name: inode for name, inode in self._inodes.items() if name.parent == path}
