import hashlib
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset.store import MemoryStore
from visionops_assets.common.arrow_columns import table_content_digest
from visionops_assets.dataset.versions.annotations import AnnotationsError, write_annotations
from visionops_assets.dataset.versions.layout import annotations_path
from visionops_assets.dataset.versions.manifest import (
    AlteredFragment,
    AnnotationsFile,
    Manifest,
    build_manifest,
    read_manifest,
)
from visionops_assets.dataset.versions.manifest_diff import diff_manifests


class Commit:
    """Annotations files as a commit has them, and which were read."""

    def __init__(self, **batches: pd.DataFrame) -> None:
        self.contents = {
            annotations_path(batch, "defects"): write_annotations(frame, annotations_path(batch, "defects"))
            for batch, frame in batches.items()
        }
        self.read: list[str] = []

    @property
    def files(self) -> list[AnnotationsFile]:
        return [AnnotationsFile(path, hashlib.md5(data).hexdigest()) for path, data in self.contents.items()]

    def fetch(self, paths: list[str]):
        for path in paths:
            self.read.append(path)
            yield path, self.contents[path]


def batch(name: str, n: int, **columns: Any) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "path": [f"batches/{name}/images/{i:04}.png" for i in range(n)],
            "sha256": [hashlib.sha256(f"{name}{i}".encode()).hexdigest() for i in range(n)],
            "phash": "0123456789abcdef",
            "width": 8,
            "height": 8,
            "size": 100,
            "split": [("train", "val", "holdout")[i % 3] for i in range(n)],
            "label": [f"c{i % 2}" for i in range(n)],
        }
    )
    return frame.assign(**columns)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_the_manifest_has_a_row_for_each_sample_sorted_by_path(store):
    commit = Commit(b=batch("b", 5), a=batch("a", 4, group=["g", None, "g", None]))
    manifest = build_manifest(commit.files, commit.fetch, store)
    table = read_manifest(manifest, store)
    frame = table.to_pandas()
    assert manifest.rows == len(frame) == 9
    assert frame["path"].is_monotonic_increasing
    assert frame["batch"].tolist() == ["a"] * 4 + ["b"] * 5
    assert frame["group"].tolist()[:2] == ["g", frame["sha256"][1]]
    assert frame.dtypes[["width", "size", "excluded"]].tolist() == [np.int32, np.int64, bool]


def test_batches_whose_names_extend_each_other_stay_sorted(store):
    commit = Commit(
        **{"a": batch("a", 2), "a-b": batch("a-b", 2), "ab": batch("ab", 2), "a_": batch("a_", 2)}
    )
    paths = read_manifest(build_manifest(commit.files, commit.fetch, store), store)["path"].to_pylist()
    assert paths == sorted(paths)


def test_a_new_version_reads_only_the_annotations_that_changed(store):
    first = Commit(a=batch("a", 5), b=batch("b", 5))
    old = build_manifest(first.files, first.fetch, store)
    second = Commit(a=batch("a", 5), b=batch("b", 5, label="c0"), c=batch("c", 5))
    new = build_manifest(second.files, second.fetch, store)
    assert second.read == [annotations_path("b", "defects"), annotations_path("c", "defects")]
    assert old.fragments[0] == new.fragments[0]
    assert old.digest != new.digest
    again = build_manifest(second.files, second.fetch, store)
    assert again == new and len(second.read) == 2


def test_the_digest_is_that_of_the_content_and_not_of_the_parquet_bytes(store):
    commit = Commit(a=batch("a", 50))
    rewritten = Commit(a=batch("a", 50))
    path = annotations_path("a", "defects")
    table = pq.read_table(pa.BufferReader(rewritten.contents[path]))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none", row_group_size=7)
    rewritten.contents[path] = sink.getvalue().to_pybytes()
    assert rewritten.files != commit.files
    one = build_manifest(commit.files, commit.fetch, store)
    other = build_manifest(rewritten.files, rewritten.fetch, MemoryStore())
    assert one.digest == other.digest


def test_the_digest_of_a_known_manifest_never_changes(store):
    boxes = [[{"x": 1, "y": 2, "w": 3, "h": 4, "label": "é"}], []]
    commit = Commit(
        a=batch("a", 2, group=["g", None], line=["x", None], score=[0.5, None], boxes=boxes).drop(
            columns="label"
        )
    )
    manifest = build_manifest(commit.files, commit.fetch, store)
    assert manifest.digest == "6bc41581ab3a7a6c5ce342d5a7020b32854ac82e7df7e6cb975471f0ab61efe3"
    assert read_manifest(manifest, store)["boxes"].to_pylist() == boxes


@pytest.mark.parametrize("column", ["path", "label", "split", "sha256", "width", "excluded"])
def test_any_change_of_a_row_changes_the_digest(column):
    frame = pa.Table.from_pandas(batch("a", 3, excluded=False), preserve_index=False)
    values = frame[column].to_pylist()
    values[1] = {"width": 9, "excluded": True}.get(column, "other")
    changed = frame.set_column(frame.column_names.index(column), column, pa.array(values, frame[column].type))
    assert table_content_digest(frame) != table_content_digest(changed)


def test_text_cannot_move_between_rows_unnoticed():
    one, other = pa.table({"a": ["ab", "c"]}), pa.table({"a": ["a", "bc"]})
    assert table_content_digest(one) != table_content_digest(other)
    assert table_content_digest(pa.table({"a": ["", None]})) != table_content_digest(
        pa.table({"a": [None, ""]})
    )


def test_a_manifest_survives_json(store):
    commit = Commit(a=batch("a", 2))
    manifest = build_manifest(commit.files, commit.fetch, store)
    assert Manifest.from_json(manifest.to_json()) == manifest
    with pytest.raises(ValueError, match="a manifest of format 9"):
        Manifest.from_json({"format": 9, "fragments": []})


def test_an_altered_or_lost_fragment_is_noticed(store):
    commit = Commit(a=batch("a", 2), b=batch("b", 2))
    manifest = build_manifest(commit.files, commit.fetch, store)
    one, other = (key for key in sorted(store.contents) if key.startswith("fragments/"))
    kept = store.contents[one]
    store.contents[one] = store.contents[other]
    with pytest.raises(AlteredFragment, match="does not hold the rows it is named for"):
        read_manifest(manifest, store)
    del store.contents[one]
    assert build_manifest(commit.files, commit.fetch, store) == manifest
    assert store.contents[one] == kept


def test_an_empty_commit_gives_an_empty_manifest(store):
    table = read_manifest(build_manifest([], Commit().fetch, store), store)
    assert len(table) == 0
    assert {"path", "sha256", "split", "label", "group", "batch"} <= set(table.column_names)


def test_a_wrong_annotations_file_is_named(store):
    commit = Commit(a=batch("a", 2))
    commit.contents[annotations_path("a", "defects")] = b"label"
    with pytest.raises(
        AnnotationsError, match=r"^batches/a/annotations/defects\.parquet: is not a Parquet file"
    ):
        build_manifest(commit.files, commit.fetch, store)
    with pytest.raises(LookupError, match="is listed in the commit but was not read"):
        build_manifest(commit.files, lambda paths: iter(()), store)


def test_slice_columns_of_some_batches_are_null_in_the_others(store):
    commit = Commit(a=batch("a", 2, line=["x", "y"]), b=batch("b", 1))
    table = read_manifest(build_manifest(commit.files, commit.fetch, store), store)
    assert table["line"].to_pylist() == ["x", "y", None]


def test_a_slice_column_of_two_types_is_named_with_both_files(store):
    commit = Commit(a=batch("a", 2, line=["x", "y"]), b=batch("b", 2, line=[1, 2]))
    manifest = build_manifest(commit.files, commit.fetch, store)
    with pytest.raises(
        AnnotationsError, match=r"column 'line' has the type string in batches/a.* but int64 in batches/b"
    ):
        read_manifest(manifest, store)


def test_a_diff_tells_added_removed_relabelled_moved_and_regrouped(store):
    old = batch("a", 6)
    new = old.assign(
        label=["c0", "c1", "c1", "c1", "c0", "c1"],
        split=["holdout", "val", "holdout", "train", "val", "holdout"],
        group=pd.Series([None, None, None, None, "g", None]),
    ).iloc[:5]
    first, second = Commit(a=old, c=batch("c", 3)), Commit(a=new, b=batch("b", 2), c=batch("c", 3))
    before, after = (build_manifest(commit.files, commit.fetch, store) for commit in (first, second))
    diff = diff_manifests(before, after, store)
    assert diff.added["batch"].tolist() == ["b", "b"]
    assert diff.removed["path"].tolist() == ["batches/a/images/0005.png"]
    assert diff.relabelled[["path", "old_label", "label"]].to_numpy().tolist() == [
        ["batches/a/images/0002.png", "c0", "c1"]
    ]
    assert diff.moved[["old_split", "split"]].to_numpy().tolist() == [["train", "holdout"]]
    assert diff.regrouped["group"].tolist() == ["g"]
    assert diff.summary().splitlines() == [
        "b: 2 images added (c0: 1, c1: 1).",
        "a: 1 image removed (c1: 1).",
        "a: 1 image relabelled (c0 → c1: 1).",
        "a: 1 image moved to another split (train → holdout: 1).",
        "a: 1 image put into another group (c0: 1).",
    ]
    assert diff.counts()["images"].sum() == 6


def test_equal_manifests_do_not_differ_and_no_fragment_is_read(store):
    commit = Commit(a=batch("a", 3))
    manifest = build_manifest(commit.files, commit.fetch, store)
    store.contents.clear()
    diff = diff_manifests(manifest, manifest, store)
    assert diff.empty
    assert diff.summary() == "No image, label or split changed."


def test_the_first_version_is_all_added(store):
    commit = Commit(a=batch("a", 3))
    diff = diff_manifests(Manifest(()), build_manifest(commit.files, commit.fetch, store), store)
    assert len(diff.added) == 3 and diff.summary() == "a: 3 images added (c0: 2, c1: 1)."


def test_a_replaced_image_is_removed_and_added(store):
    old = batch("a", 2)
    new = old.assign(sha256=["f" * 64, old["sha256"][1]])
    commits = Commit(a=old), Commit(a=new)
    before, after = (build_manifest(commit.files, commit.fetch, store) for commit in commits)
    diff = diff_manifests(before, after, store)
    assert diff.added["sha256"].tolist() == ["f" * 64]
    assert diff.removed["sha256"].tolist() == [old["sha256"][0]]


def test_changed_boxes_count_as_relabelled(store):
    box = {"x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0, "label": "a"}
    old = batch("a", 3, boxes=[[box], [box, box | {"label": "b"}], []]).drop(columns="label")
    new = old.assign(boxes=pd.Series([[box], [box], []]))
    commits = Commit(a=old), Commit(a=new)
    before, after = (build_manifest(commit.files, commit.fetch, store) for commit in commits)
    diff = diff_manifests(before, after, store)
    assert diff.relabelled["path"].tolist() == ["batches/a/images/0001.png"]
    first = diff_manifests(Manifest(()), before, store)
    assert first.summary() == "a: 3 images added (a: 2, b: 1, no boxes: 1)."
