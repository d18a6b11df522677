"""The rows of a batch's annotations: near duplicates found, every image on its side."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from visionops_assets.dataset.annotations import COLUMNS, check_annotations
from visionops_assets.dataset.decode import Pixels, decode_whole
from visionops_assets.dataset.duplicates import phash_text, phash_values
from visionops_assets.dataset.examine import Examined
from visionops_assets.dataset.formats.source import SourceImage, unchanged
from visionops_assets.dataset.manifest_diff import labels_of
from visionops_assets.dataset.near_duplicates import find_near_duplicates
from visionops_assets.dataset.splits import Placement, Sample, assign_splits

Fetch = Callable[[list[str]], Iterable[tuple[str, bytes]]]


@dataclass(frozen=True, slots=True)
class BatchImage:
    """An image of a batch that can be read, with what it is; `examined.name` is its path in the repository."""

    image: SourceImage
    examined: Examined

    @property
    def path(self) -> str:
        return self.examined.name

    @property
    def pixels(self) -> int:
        return self.examined.width * self.examined.height

    @property
    def labels(self) -> tuple[str, ...]:
        """Its classes, each once."""
        if self.image.boxes is None:
            return (self.image.label or "",)
        return tuple(sorted({box["label"] for box in self.image.boxes})) or ("no boxes",)


def place_batch(
    images: Sequence[BatchImage],
    existing: pd.DataFrame,
    others: pd.DataFrame,
    shares: Mapping[str, float],
    salt: str,
    file: str,
    read_existing: Fetch | None,
) -> tuple[pa.Table, list[tuple[str, str, float]]]:
    """The annotations of a batch, and its near duplicates as (newer path, older path, correlation).

    `existing` is the manifest of `main`, `others` its rows of other batches. An image of this batch that `main`
    has already, unaltered, keeps its split, group and exclusion.
    """
    published = _published(existing, {one.path for one in images})
    known = [one for one in images if (one.path, one.examined.sha256) in published]
    kept = {one.path: published[one.path, one.examined.sha256] for one in known}
    new = sorted((one for one in images if one.path not in kept), key=_age)
    older = [*_samples_of(others), *(_sample(one, kept[one.path]) for one in known)]
    phashes = [*others["phash"], *(phash_text(one.examined.phash) for one in [*known, *new])]
    load = _Pixels(list(others["path"]), [*known, *new], read_existing)
    sha256s = [*(one.sha256 for one in older), *(one.examined.sha256 for one in new)]
    pairs = find_near_duplicates(
        phash_values(phashes),
        sha256s,
        [*(others["width"] * others["height"]), *(one.pixels for one in [*known, *new])],
        len(older),
        load,
    )
    keys = [*(one.key for one in older), *(one.path for one in new)]
    duplicates: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        duplicates[keys[pair.newer]].append(keys[pair.older])
    placements = assign_splits([_sample(one, None) for one in new], older, shares, salt, duplicates)
    placements |= kept
    # Copies are told by `audit.check_exact_duplicates`.
    told = [
        (keys[pair.newer], keys[pair.older], pair.correlation)
        for pair in pairs
        if sha256s[pair.newer] != sha256s[pair.older]
    ]
    return check_annotations(_table(images, placements), file), told


class _Pixels:
    """Grey images by number: those of `main` first, then those at hand."""

    def __init__(
        self, paths: Sequence[str], images: Sequence[BatchImage], read_existing: Fetch | None
    ) -> None:
        self._paths, self._images, self._read = paths, images, read_existing

    def __call__(self, numbers: Sequence[int]) -> Iterator[tuple[int, Pixels]]:
        at_hand = [number for number in numbers if number >= len(self._paths)]
        wanted = {self._paths[number]: number for number in numbers if number < len(self._paths)}
        for number in at_hand:
            image = self._images[number - len(self._paths)]
            yield number, decode_whole(unchanged(image.image, image.examined.sha256), image.path, 1)
        if self._read is not None and wanted:
            for path, data in self._read(sorted(wanted)):
                yield wanted[path], decode_whole(data, path, 1)


def _age(one: BatchImage) -> tuple[bool, float, str]:
    """Oldest first; what has no time comes after what has one."""
    captured_at = one.image.captured_at
    return captured_at is None, captured_at.timestamp() if captured_at else 0.0, one.path


def _published(existing: pd.DataFrame, paths: set[str]) -> dict[tuple[str, str], Placement]:
    """Where `main` has images, by path and SHA-256."""
    columns = ["path", "sha256", "split", "group", "excluded"]
    rows = existing.loc[existing["path"].isin(paths), columns]
    return {
        (path, sha256): Placement(split, group, bool(excluded))
        for path, sha256, split, group, excluded in rows.itertuples(index=False, name=None)
    }


def _sample(one: BatchImage, kept: Placement | None) -> Sample:
    sha256 = one.examined.sha256
    if kept is None:
        return Sample(one.path, sha256, one.labels, one.image.group, one.image.split)
    return Sample(one.path, sha256, one.labels, kept.group, kept.split, kept.excluded)


def _samples_of(table: pd.DataFrame) -> list[Sample]:
    labels = labels_of(table)
    grouped: dict[int, tuple[str, ...]] = {}
    for position, label in zip(labels.index, labels, strict=True):
        grouped[position] = (*grouped.get(position, ()), label)
    columns = ["path", "sha256", "group", "split", "excluded"]
    return [
        Sample(path, sha256, grouped[position], group, split, bool(excluded))
        for position, (path, sha256, group, split, excluded) in enumerate(
            table[columns].itertuples(index=False, name=None)
        )
    ]


def _table(images: Sequence[BatchImage], placements: Mapping[str, Placement]) -> pa.Table:
    truth = "boxes" if any(one.image.boxes is not None for one in images) else "label"
    columns: dict[str, list[object]] = {
        name: [] for name in COLUMNS if name not in ("label", "boxes") or name == truth
    }
    extras = sorted({key for one in images for key in one.image.extra})
    columns |= {key: [] for key in extras}
    for one in images:
        placement = placements[one.path]
        row: dict[str, object] = {
            "path": one.path,
            "sha256": one.examined.sha256,
            "phash": phash_text(one.examined.phash),
            "width": one.examined.width,
            "height": one.examined.height,
            "size": one.examined.size,
            "split": placement.split,
            "excluded": placement.excluded,
            "label": one.image.label,
            "boxes": one.image.boxes,
            "group": None if placement.group == one.examined.sha256 else placement.group,
            "captured_at": one.image.captured_at,
            "source": one.image.source,
        }
        for name, values in columns.items():
            values.append(row[name] if name in COLUMNS else one.image.extra.get(name))
    return pa.table({name: pa.array(values, COLUMNS.get(name)) for name, values in columns.items()})
