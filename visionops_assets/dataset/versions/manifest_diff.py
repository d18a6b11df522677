"""What changed from one manifest to another."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from visionops_assets.dataset.dataset_task import truth_of
from visionops_assets.dataset.versions.manifest import Manifest, Store, read_manifest
from visionops_assets.tasks.task_registry import names, task

_MANY_CLASSES = 8
# By the columns that differ; labels differ by what their task learns from.
_CHANGES: dict[str, tuple[str, ...]] = {
    "relabelled": (),
    "moved": ("split", "excluded"),
    "regrouped": ("group",),
}


@dataclass(frozen=True)
class ManifestDiff:
    """Rows by what happened to them, each table sorted by path.

    `added` and `removed` are rows of the new and the old manifest; an image replaced under its path is in both.
    `relabelled` has the columns of the new manifest and `old_label` or `old_boxes`; `moved` has `old_split` and
    `old_excluded`; `regrouped` has `old_group`. A row may be in several of these three.
    """

    added: pd.DataFrame
    removed: pd.DataFrame
    relabelled: pd.DataFrame
    moved: pd.DataFrame
    regrouped: pd.DataFrame

    @cached_property
    def empty(self) -> bool:
        """Whether the two manifests say the same of the same images."""
        return not any(len(table) for table in self._tables().values())

    def counts(self) -> pd.DataFrame:
        """How many rows, by `change`, `batch` and `label` (in detection, of each label's boxes' images)."""
        parts = []
        for change, table in self._tables().items():
            labels = labels_of(table)
            counted = pd.DataFrame(
                {
                    "change": change,
                    "batch": table["batch"].to_numpy()[labels.index],
                    "label": labels.to_numpy(),
                }
            )
            parts.append(
                counted.groupby(["change", "batch", "label"], sort=True).size().rename("images").reset_index()
            )
        return pd.concat(parts, ignore_index=True)

    def summary(self) -> str:
        """The change in words, one line for each batch and kind of change."""
        if self.empty:
            return "No image, label or split changed."
        counts, lines = self.counts(), []
        verbs = {
            "added": "added",
            "removed": "removed",
            "relabelled": "relabelled",
            "moved": "moved to another split",
        }
        verbs["regrouped"] = "put into another group"
        for change, table in self._tables().items():
            for batch, rows in table.groupby("batch", sort=True):
                number = f"{len(rows):,} image{'s' if len(rows) != 1 else ''}"
                if change == "relabelled" and "old_label" in rows:
                    detail = _transitions(rows)
                elif change == "moved":
                    detail = _counted((rows["old_split"] + " → " + rows["split"]).value_counts())
                else:
                    own = counts[(counts["change"] == change) & (counts["batch"] == batch)]
                    detail = _counted(
                        own.set_index("label")["images"].sort_values(ascending=False, kind="stable")
                    )
                lines.append(f"{batch}: {number} {verbs[change]} ({detail}).")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The counts, and the paths of the images by what happened to them."""
        return {
            "counts": self.counts().to_dict("records"),
            "images": {change: table["path"].tolist() for change, table in self._tables().items()},
        }

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {
            "added": self.added,
            "removed": self.removed,
            "relabelled": self.relabelled,
            "moved": self.moved,
            "regrouped": self.regrouped,
        }


def diff_manifests(old: Manifest, new: Manifest, store: Store) -> ManifestDiff:
    """Compare two manifests, reading only the fragments that they do not share, one annotations file at a time."""
    before = {fragment.source: fragment for fragment in old.fragments}
    after = {fragment.source: fragment for fragment in new.fragments}
    parts = []
    for source in sorted(before.keys() | after.keys()):
        one, other = before.get(source), after.get(source)
        if one is None or other is None or one.digest != other.digest:
            tables = [read_manifest(Manifest((side,) if side else ()), store) for side in (one, other)]
            parts.append(_differences(*tables))
    return _joined(parts or [_differences(*2 * (read_manifest(Manifest(()), store),))])


def _differences(old: pa.Table, new: pa.Table) -> dict[str, pa.Table]:
    """The rows of each kind of change. Paths are distinct on each side."""
    # A manifest without rows cannot know whether its project has labels or boxes.
    old, new = (new.slice(0, 0), new) if not len(old) else (old, new if len(new) else old.slice(0, 0))
    place = pc.index_in(new["path"], value_set=old["path"].combine_chunks())
    same = pc.fill_null(pc.equal(old["sha256"].take(place), new["sha256"]), False)
    kept_new = new.filter(same)
    kept_old = old.take(place.filter(same))
    still_there = pc.is_in(old["path"], value_set=kept_new["path"].combine_chunks())
    rows = {"added": new.filter(pc.invert(same)), "removed": old.filter(pc.invert(still_there))}
    for change, columns in _CHANGES.items():
        present = [column for column in columns or _truths() if column in kept_new.column_names]
        unequal = np.zeros(len(kept_new), bool)
        for column in present:
            unequal |= _differs(kept_old[column], kept_new[column])
        changed = kept_new.filter(pa.array(unequal))
        for column in present:
            changed = changed.append_column(f"old_{column}", kept_old[column].filter(pa.array(unequal)))
        rows[change] = changed
    return rows


def _differs(old: pa.ChunkedArray, new: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_list(new.type):
        pairs = zip(old.to_pylist(), new.to_pylist(), strict=True)
        return np.fromiter((one != other for one, other in pairs), bool, len(new))
    found: np.ndarray = pc.fill_null(pc.not_equal(old, new), True).to_numpy(zero_copy_only=False)
    return found


def _joined(parts: Sequence[dict[str, pa.Table]]) -> ManifestDiff:
    """The rows of all parts, as tables sorted by path."""
    joined = {
        change: pa.concat_tables([part[change] for part in parts], promote_options="permissive")
        .sort_by("path")
        .to_pandas()
        for change in parts[0]
    }
    return ManifestDiff(**joined)


def labels_of(table: pd.DataFrame) -> pd.Series:
    """The label of each row; in detection, each label an image has boxes of, once, or "no boxes".

    The index is the position of the row, so a row with several labels stands several times.
    """
    column, task = truth_of(table.columns)
    positions, labels = [], []
    for position, truth in enumerate(table[column]):
        for label in task.classes(truth):
            positions.append(position)
            labels.append(label)
    return pd.Series(labels, index=np.array(positions, np.int64), dtype=object)


def _truths() -> tuple[str, ...]:
    return tuple(task(name).truth for name in names())


def _transitions(rows: pd.DataFrame) -> str:
    return _counted((rows["old_label"] + " → " + rows["label"]).value_counts())


def _counted(counts: pd.Series) -> str:
    shown = [f"{label}: {number:,}" for label, number in counts.head(_MANY_CLASSES).items()]
    if len(counts) > _MANY_CLASSES:
        others = counts.iloc[_MANY_CLASSES:]
        shown.append(f"{len(others)} {'others' if len(others) > 1 else 'other'}: {others.sum():,}")
    return ", ".join(shown)
