"""Both kinds of drop as whoever fills them sees them."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Remote(Protocol):
    """Where a labelling team puts files, by `<batch>/<name>`."""

    @property
    def address(self) -> str: ...

    def put(self, name: str, content: bytes) -> None: ...

    def remove(self, name: str) -> None: ...


@dataclass(frozen=True)
class FolderDrop:
    """A folder."""

    folder: Path

    @property
    def address(self) -> str:
        return str(self.folder)

    def put(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def remove(self, name: str) -> None:
        path = self.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@dataclass(frozen=True)
class Bucket:
    """A prefix of a bucket; `client` is boto3's."""

    name: str
    client: Any
    prefix: str = "line-3"

    @property
    def address(self) -> str:
        return f"s3://{self.name}/{self.prefix}"

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=f"{self.prefix}/{name}", Body=content)

    def remove(self, name: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=f"{self.prefix}/{name}")


def fill(remote: Remote, batch: str, folder: Path, marked: bool = True) -> None:
    """Put a local folder into the drop as a batch, its marker last."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            remote.put(f"{batch}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    if marked:
        remote.put(f"{batch}/_SUCCESS", b"")
