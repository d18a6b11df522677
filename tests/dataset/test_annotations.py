import datetime
import hashlib
import io
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from visionops_assets.dataset.versions.annotations import (
    AnnotationsError,
    read_annotations,
    write_annotations,
)
from visionops_assets.dataset.versions.layout import (
    batch_of,
    check_batch_name,
    image_path,
    is_annotations,
    is_image,
)

FILE = "batches/week-1/annotations/defects.parquet"


def rows(n: int = 3, **columns: Any) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "path": [f"batches/week-1/images/{i}.png" for i in range(n)],
            "sha256": [hashlib.sha256(bytes([i])).hexdigest() for i in range(n)],
            "phash": ["00ff00ff00ff00ff"] * n,
            "width": 8,
            "height": 9,
            "split": "train",
            "label": [f"c{i % 2}" for i in range(n)],
        }
    )
    return frame.assign(**columns)


def test_annotations_come_back_as_they_were_written_sorted_by_path():
    when = pd.to_datetime(["2026-01-02T03:04:05Z"] * 3)
    written = rows(
        group=["g", None, "h"], captured_at=when, source="cam", size=[1, 2, 3], line=["x", "y", "x"]
    )
    table = read_annotations(write_annotations(written.iloc[::-1], FILE), FILE)
    read = table.to_pandas()
    for column in written.columns:
        if column != "group":
            assert read[column].tolist() == written[column].tolist()
    assert table["group"].to_pylist() == ["g", None, "h"]
    assert table["captured_at"][0].as_py() == datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    assert table["excluded"].to_pylist() == [False] * 3


def test_boxes_come_back_as_they_were_written():
    boxes = [
        [{"x": 1.5, "y": 2, "w": 3, "h": 4, "label": "scratch"}],
        [],
        [{"x": 0, "y": 0, "w": 1, "h": 1, "label": "dent"}],
    ]
    table = read_annotations(write_annotations(rows(boxes=boxes).drop(columns="label"), FILE), FILE)
    assert table["boxes"].to_pylist() == boxes


def test_the_same_annotations_give_the_same_bytes():
    assert write_annotations(rows(), FILE) == write_annotations(rows().iloc[[2, 0, 1]], FILE)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"split": ["train", "tranin", "val"]},
            r"column 'split', row 1 .*1\.png.*'tranin' is none of train, val, holdout",
        ),
        ({"sha256": ["a" * 64, "A" * 64, "b" * 64]}, r"column 'sha256', row 1"),
        ({"phash": ["0" * 16, "0" * 16, "0" * 15]}, r"column 'phash', row 2 .*is not 16 hex digits"),
        ({"width": [1, 0, 1]}, r"column 'width', row 1 .*0 is not at least 1"),
        ({"label": ["a", None, "b"]}, r"column 'label', row 1 .*is empty"),
        ({"label": ["a", "b", ""]}, r"column 'label', row 2 .*is empty"),
        ({"path": ["batches/week-1/images/a.png"] * 3}, r"column 'path', row 1 .*stands twice"),
        (
            {"path": [f"batches/other/images/{i}" for i in range(3)]},
            r"row 0 .*does not lie in batches/week-1/images/",
        ),
        ({"path": [f"batches/week-1/images/../{i}" for i in range(3)]}, r"does not lie in"),
        ({"width": ["wide"] * 3}, r"column 'width' has the type .*string, expected int32"),
        ({"width": [2**40] * 3}, r"column 'width' has the type int64, expected int32"),
        ({"boxes": [[]] * 3}, r"expected a column `label` or a column `boxes`"),
        ({"captured_at": pd.to_datetime(["2026-01-02"] * 3)}, r"column 'captured_at' has no time zone"),
        ({"embedding": [[1.0]] * 3}, r"column 'embedding' has the type list"),
    ],
)
def test_wrong_annotations_are_refused_naming_file_column_and_row(columns, message):
    with pytest.raises(AnnotationsError, match=r"^batches/week-1/annotations/defects\.parquet: .*") as caught:
        write_annotations(rows(**columns), FILE)
    with pytest.raises(AnnotationsError, match=message):
        raise caught.value


def test_a_box_that_is_not_finite_is_refused():
    boxes = [
        [],
        [
            {"x": 1, "y": 1, "w": 1, "h": 1, "label": "a"},
            {"x": float("nan"), "y": 1, "w": 1, "h": 1, "label": "a"},
        ],
        [],
    ]
    with pytest.raises(
        AnnotationsError, match=r"column 'boxes', row 1 .*has a box whose x is not given or not finite"
    ):
        write_annotations(rows(boxes=boxes).drop(columns="label"), FILE)


def test_a_missing_column_is_named():
    with pytest.raises(AnnotationsError, match="column 'phash' is missing"):
        write_annotations(rows().drop(columns="phash"), FILE)


def test_what_is_no_parquet_or_of_a_newer_format_is_refused():
    with pytest.raises(AnnotationsError, match="is not a Parquet file that can be read"):
        read_annotations(b"path,label\n", FILE)
    buffer = io.BytesIO()
    table = pa.Table.from_pandas(rows()).replace_schema_metadata({"visionops.annotations.version": "2"})
    pq.write_table(table, buffer)
    with pytest.raises(AnnotationsError, match="has the annotations format 2; this VisionOps reads 1"):
        read_annotations(buffer.getvalue(), FILE)


def test_a_file_written_with_pandas_counts_as_format_one():
    buffer = io.BytesIO()
    rows(line=pd.Categorical(["a", "b", "a"])).to_parquet(buffer)
    assert read_annotations(buffer.getvalue(), FILE)["line"].to_pylist() == ["a", "b", "a"]


def test_a_file_without_rows_is_read():
    assert len(read_annotations(write_annotations(rows().iloc[:0], FILE), FILE)) == 0


def test_paths_tell_what_they_are():
    assert batch_of("batches/a-b/images/x/y.png") == "a-b"
    assert is_image("batches/a/images/x.png") and not is_image("batches/a/annotations/images/x")
    assert is_annotations(FILE, "defects") and not is_annotations(FILE, "other")
    assert image_path("a", "x/./y.png") == "batches/a/images/x/y.png"
    for name in ("../x", "/x", "", "a/../../x", "a\\b", "x" * 1100):
        with pytest.raises(ValueError, match="cannot name an image"):
            image_path("a", name)
    for batch in ("week 1", "a/b", "", "-a", "a.b"):
        with pytest.raises(ValueError, match="cannot name a batch"):
            check_batch_name(batch)
    with pytest.raises(ValueError, match="lies in no batch"):
        batch_of("models/x")
