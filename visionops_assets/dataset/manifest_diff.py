"""What changed from one manifest to another."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from visionops_assets.dataset.manifest import Manifest, Store, read_manifest

_KEY = ["path", "sha256"]
_MANY_CLASSES = 8


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

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {
            "added": self.added,
            "removed": self.removed,
            "relabelled": self.relabelled,
            "moved": self.moved,
            "regrouped": self.regrouped,
        }


def diff_manifests(old: Manifest, new: Manifest, store: Store) -> ManifestDiff:
    """Compare two manifests, reading only the fragments that they do not share."""
    before = {fragment.source: fragment for fragment in old.fragments}
    after = {fragment.source: fragment for fragment in new.fragments}
    changed = {
        source
        for source in before.keys() | after.keys()
        if source not in before or source not in after or before[source].digest != after[source].digest
    }
    sides = [Manifest(tuple(one for one in side.fragments if one.source in changed)) for side in (old, new)]
    return diff_tables(*(read_manifest(side, store).to_pandas() for side in sides))


def diff_tables(old: pd.DataFrame, new: pd.DataFrame) -> ManifestDiff:
    """Compare two manifest tables. An image is the same one when its path and SHA-256 are."""
    # A manifest without rows cannot know whether its project has labels or boxes.
    old, new = (new.iloc[:0], new) if not len(old) else (old, new if len(new) else old.iloc[:0])
    truth = "boxes" if "boxes" in new.columns else "label"
    old_keys, new_keys = pd.MultiIndex.from_frame(old[_KEY]), pd.MultiIndex.from_frame(new[_KEY])
    place = old_keys.get_indexer(new_keys)
    kept_new = np.flatnonzero(place >= 0)
    kept_old = place[kept_new]
    removed = np.setdiff1d(np.arange(len(old)), kept_old)

    def differing(columns: Sequence[str]) -> pd.DataFrame:
        unequal = np.zeros(len(kept_new), bool)
        for column in columns:
            unequal |= _differs(old[column].to_numpy()[kept_old], new[column].to_numpy()[kept_new])
        rows = new.iloc[kept_new[unequal]].reset_index(drop=True)
        before = {f"old_{column}": old[column].to_numpy()[kept_old[unequal]] for column in columns}
        return rows.assign(**before)

    return ManifestDiff(
        added=new.iloc[np.flatnonzero(place < 0)].reset_index(drop=True),
        removed=old.iloc[removed].reset_index(drop=True),
        relabelled=differing([truth]),
        moved=differing(["split", "excluded"]),
        regrouped=differing(["group"]),
    )


def labels_of(table: pd.DataFrame) -> pd.Series:
    """The label of each row; in detection, each label an image has boxes of, once, or "no boxes".

    The index is the position of the row, so a row with several labels stands several times.
    """
    if "boxes" not in table.columns:
        return pd.Series(table["label"].to_numpy(), index=np.arange(len(table)), dtype=object)
    positions, labels = [], []
    for position, boxes in enumerate(table["boxes"]):
        for label in sorted({box["label"] for box in boxes}) or ["no boxes"]:
            positions.append(position)
            labels.append(label)
    return pd.Series(labels, index=np.array(positions, np.int64), dtype=object)


def _differs(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    if len(new) and isinstance(new[0], np.ndarray | list):
        return np.array([list(one) != list(other) for one, other in zip(old, new, strict=True)], bool)
    return old != new


def _transitions(rows: pd.DataFrame) -> str:
    return _counted((rows["old_label"] + " → " + rows["label"]).value_counts())


def _counted(counts: pd.Series) -> str:
    shown = [f"{label}: {number:,}" for label, number in counts.head(_MANY_CLASSES).items()]
    if len(counts) > _MANY_CLASSES:
        shown.append(f"{len(counts) - _MANY_CLASSES} more")
    return ", ".join(shown)
