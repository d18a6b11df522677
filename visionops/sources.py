"""Where a batch comes from when a person names it: a folder, a file, a folder in an S3 bucket, or DVC."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Opened:
    """A source as a local path (from S3 and DVC a copy), the address where its images could stay, and what raises
    `DropChanged` where it is no longer what was copied.

    `provenance` is for the batch's commit. Of what must be copied, images can stay nowhere."""

    path: Path
    address: str | None = None
    check_unchanged: Callable[[], None] = lambda: None
    provenance: Mapping[str, str] = field(default_factory=dict)
    must_be_copied: bool = False


@contextmanager
def opened(source: str, progress: Callable[[str, int, int], None]) -> Iterator[Opened]:
    """Open a source; a copy that broke off goes on where it stopped.

    Raises `DropError`, `DVCError`, and ValueError for an address without a folder.
    """
    if source.startswith("dvc://"):
        from resources import home
        from visionops.dvc.source import copied
        from visionops.dvc_address import parse

        staging = home.cache() / "dvc"
        with copied(parse(source), staging, lambda done, of: progress("copied", done, of)) as copy:
            yield Opened(copy.path, provenance=copy.provenance, must_be_copied=True)
        return
    if not source.startswith("s3://"):
        yield Opened(Path(source).expanduser())
        return
    from resources.drop import Drop

    place, _, batch = source.rstrip("/").rpartition("/")
    if place in ("s3:/", "s3:"):
        raise ValueError(f"{source}: name a folder in the bucket, for example {source.rstrip('/')}/week-01")
    drop = Drop.from_environment()
    with drop.read(drop.open(place), batch, lambda done, of: progress("copied", done, of)) as reading:
        yield Opened(reading.folder, reading.address, reading.check_unchanged)
