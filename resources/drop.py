"""Where labelling teams put batches: a folder, or an S3 bucket through dagster-aws's `S3Resource`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, PrivateAttr

from resources import home
from resources.drop_places import DropChanged, DropPlace, Listing, Progress, Sighting, sighting
from resources.settings import S3

MAX_ATTEMPTS = 3


class Drop(BaseModel, frozen=True, extra="forbid"):
    """The drop of all projects: `<root>/<project>/<batch>/…`; a project may name a place of its own.

    `root` is a folder or `s3://bucket/prefix`. Every method raises `DropUnavailable`, `DropRefused` or
    `DropChanged`. Credentials and endpoint of S3 are those of the environment (AWS_…).
    """

    root: str
    staging: str

    _client: Any = PrivateAttr(default=None)

    @classmethod
    def from_environment(cls) -> "Drop":
        """VISIONOPS_DROP, or `drop` under `home()`."""
        return cls(root=home.drop(), staging=str(home.cache() / "drop"))

    def place(self, project: str, declared: str | None = None) -> DropPlace:
        """A project's drop."""
        return self.open(declared or f"{self.root.rstrip('/')}/{project}")

    def open(self, address: str) -> DropPlace:
        """The folder or bucket at an address."""
        if address.startswith("s3://"):
            from resources.drop_places import DropBucket

            return DropBucket(address, self._s3(), Path(self.staging))
        from resources.drop_places import DropFolder

        return DropFolder(address)

    def look(self, place: DropPlace) -> list[Sighting]:
        """Every batch of a drop, by name."""
        return [sighting(place, batch) for batch in place.batches()]

    @contextmanager
    def read(self, place: DropPlace, batch: str, progress: Progress) -> Iterator["Reading"]:
        """A batch as a folder; on S3 a copy, which goes when the context ends well."""
        listing = place.listing(batch)
        with place.fetched(batch, listing, progress) as folder:
            yield Reading(place, batch, listing, folder)

    def _s3(self) -> Any:
        if self._client is None:
            given = S3.read()
            # boto3 costs most of a second: only a project that reads from S3 pays it.
            from dagster_aws.s3 import S3Resource

            self._client = S3Resource(
                endpoint_url=given.endpoint,
                region_name=given.region or given.default_region,
                max_attempts=MAX_ATTEMPTS,
            ).get_client()
        return self._client


class Reading:
    """A batch while it is read."""

    def __init__(self, place: DropPlace, batch: str, listing: Listing, folder: Path) -> None:
        self.folder = folder
        self._place, self._batch, self._listing = place, batch, listing

    @property
    def address(self) -> str:
        """Where the images lie for good, as lakeFS names it: `s3://…/` or `local://…/`."""
        if self._place.address.startswith("s3://"):
            return f"{self._place.address}/{self._batch}/"
        return f"local://{self.folder.resolve()}/"

    def check_unchanged(self) -> None:
        """Raise `DropChanged` unless the drop still has what was read."""
        now = self._place.listing(self._batch)
        if now.fingerprint == self._listing.fingerprint:
            return
        before = {file.name: file for file in self._listing.files}
        after = {file.name: file for file in now.files}
        names = sorted(
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        ) or ["_SUCCESS"]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise DropChanged(
            f"batch {self._batch} changed while it was read ({', '.join(names[:3])}{more}): nothing was published; "
            "it is taken again when it is complete"
        )
