"""The images of a batch beside those that `main` has, each at its place."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from visionops_assets.dataset.batch_images import BatchImages, label_sets_of, numbers_of
from visionops_assets.dataset.groups import group_keys
from visionops_assets.dataset.importing.compact_columns import bytes_of_hex, number_keys
from visionops_assets.dataset.importing.file_listing import ascending
from visionops_assets.dataset.splits import Samples
from visionops_assets.dataset.versions.annotations import SPLITS


@dataclass(frozen=True)
class Together:
    """M places: the rows of other batches first, then the images of the batch in `order`, those that `main` has
    before the new ones, which stand from `first_new` on from oldest to newest.

    `kept` are the rows of `main` of those that it has. `digests` are the SHA-256, uint8 (M, 32).
    """

    batch: BatchImages
    others: pa.Table
    kept: pa.Table
    order: NDArray[np.int64]
    digests: NDArray[np.uint8]

    @classmethod
    def of(cls, batch: BatchImages, existing: pa.Table, others: pa.Table) -> "Together":
        """Put them together; `existing` is the manifest of `main`, `others` its rows of other batches."""
        published = _published(batch, existing)
        known, aged = np.flatnonzero(published >= 0), batch.ages()
        order = np.concatenate([known, aged[published[aged] < 0]])
        mine = batch.looks.sha256 if ascending(order) else batch.looks.sha256[order]
        digests = np.concatenate([bytes_of_hex(others["sha256"], 32), mine]) if len(others) else mine
        return cls(batch, others, existing.take(pa.array(published[known])), order, digests)

    @property
    def first_new(self) -> int:
        return len(self.others) + len(self.kept)

    def phashes(self) -> NDArray[np.uint64]:
        """The pHash of each, (M,)."""
        old = bytes_of_hex(self.others["phash"], 8).view(">u8").ravel()
        return np.concatenate([old.astype(np.uint64), self.batch.looks.phash[self.order]])

    def sureties(self) -> NDArray[np.int8]:
        """How sure the pHashes of the new ones are, (M - first_new, 64)."""
        new = self.order[len(self.kept) :]
        return (
            self.batch.looks.sureties
            if ascending(self.order) and not len(self.kept)
            else self.batch.looks.sureties[new]
        )

    def pixels(self) -> NDArray[np.int64]:
        """The number of pixels of each, (M,)."""
        height, width = (self.others[side].to_numpy().astype(np.int64) for side in ("height", "width"))
        looks = self.batch.looks
        mine = looks.height.astype(np.int64) * looks.width
        return np.concatenate([height * width, mine[self.order]])

    def path(self, place: int) -> str:
        """The path of the image at a place."""
        if place < len(self.others):
            return str(self.others["path"][place].as_py())
        return str(self.batch.paths[int(self.order[place - len(self.others)])].as_py())

    def group(self, place: int) -> str:
        """The name of the group that the image at a place comes with."""
        if place < len(self.others):
            return str(self.others["group"][place].as_py())
        if place < self.first_new:
            return str(self.kept["group"][place - len(self.others)].as_py())
        image = int(self.order[place - len(self.others)])
        groups = self.batch.images.group
        group = None if groups is None else groups[image].as_py()
        return self.batch.sha256(image) if group is None else group.decode()

    def samples(self) -> Samples:
        """What splitting needs to know of them."""
        batch, others, kept = self.batch, self.others, self.kept
        new = self.order[len(kept) :]
        own = batch.images.group
        keys = self.digests if own is None and not self.first_new else self.digests.copy()
        for start, table in ((0, others), (len(others), kept)):
            part = slice(start, start + len(table))
            keys[part] = group_keys(keys[part], table["group"])
        if own is not None:
            keys[self.first_new :] = group_keys(
                keys[self.first_new :], own.take(pa.array(new)).cast(pa.string())
            )
        sets: dict[tuple[str, ...], int] = {}
        old_labels = numbers_of(label_sets_of(others), len(others), sets)
        labels = numbers_of(batch.label_sets(), len(batch), sets)
        fixed = [table["excluded"].to_numpy(zero_copy_only=False).astype(bool) for table in (others, kept)]
        return Samples(
            self.first_new,
            number_keys(keys),
            np.concatenate([_splits(others), _splits(kept), batch.images.split[new]]),
            np.concatenate([old_labels, labels[self.order]]),
            np.concatenate([*fixed, np.zeros(len(new), bool)]),
            list(sets),
            self.path,
            self.group,
        )


def _splits(table: pa.Table) -> NDArray[np.int8]:
    found: NDArray[np.int8] = (
        pc.index_in(table["split"], value_set=pa.array(SPLITS)).to_numpy().astype(np.int8)
    )
    return found


def _published(batch: BatchImages, existing: pa.Table) -> NDArray[np.int64]:
    """The row of `main` that has each image, unaltered, or -1, (N,)."""
    rows = np.full(len(batch), -1, np.int64)
    if not len(existing):
        return rows
    found = pc.index_in(batch.paths, value_set=existing["path"].combine_chunks()).fill_null(-1)
    places = found.to_numpy().astype(np.int64)
    there = np.flatnonzero(places >= 0)
    was = bytes_of_hex(existing["sha256"].take(pa.array(places[there])), 32)
    same = there[(was == batch.looks.sha256[there]).all(axis=1)]
    rows[same] = places[same]
    return rows
