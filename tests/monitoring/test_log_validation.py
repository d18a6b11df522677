"""What production writes is believed row by row: what cannot be is named, and the rest of the day stays."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from logged import FILE, MODEL, MODELS, NOW, detected, file_of, label, project, row

from tests.world import CLASSES
from visionops_assets.common.tables import arrow_parquet
from visionops_assets.monitoring.inference_log import IDENTITY, empty_log, log_schema, spool_schema
from visionops_assets.monitoring.spool_files import UnusableFile, read_spooled, spooled_labels, spooled_log
from visionops_assets.monitoring.validation import join_labels, misplaced, validate, without_answer


def log(*rows: dict[str, Any], task: str = "classification") -> pd.DataFrame:
    """Rows as they come out of the repository, whatever they lack."""
    fields = [field.with_nullable(True) for field in log_schema(task)]
    return pa.Table.from_pylist(list(rows), schema=pa.schema(fields)).to_pandas()


def altered(content: bytes, **columns: Any) -> bytes:
    """A file with columns replaced, added, or (None) dropped."""
    table = pq.read_table(pa.BufferReader(content))
    for name, values in columns.items():
        if name in table.column_names:
            table = table.drop_columns([name])
        if values is not None:
            table = table.append_column(name, pa.array(values))
    return arrow_parquet(table)


def stated(content: bytes, format_: str) -> bytes:
    """The same file, saying that it is of another format."""
    table = pq.read_table(pa.BufferReader(content))
    return arrow_parquet(
        table.replace_schema_metadata({**table.schema.metadata, b"visionops.format": format_.encode()})
    )


def test_a_file_comes_back_as_it_was_written():
    rows = [row(1), row(2, embedding=[0.5, 0.25], brightness=0.5, frame=b"png")]
    found = read_spooled(file_of(*rows), "classification")
    assert found.kind == "log"
    assert found.rows.column_names == spool_schema("classification").names
    assert [one["image_sha256"] for one in found.rows.to_pylist()] == [one["image_sha256"] for one in rows]
    assert found.rows["frame"].to_pylist() == [None, b"png"]


def test_a_detectors_file_comes_back_as_it_was_written():
    found = read_spooled(file_of(detected(1), task="detection"), "detection").rows.to_pylist()
    assert [box["class"] for box in found[0]["boxes"]] == [CLASSES[0]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not parquet", "is no Parquet file"),
        (altered(file_of(row(1)), confidence=None), "lacks confidence"),
        (altered(file_of(row(1)), temperature=[21.5]), "has beside its columns temperature"),
        (altered(file_of(row(1)), timestamp=["yesterday"]), "timestamp"),
        (stated(file_of(row(1)), "inference_log/9"), "inference_log/9"),
        (file_of(detected(1), task="detection"), "is of the task 'detection'"),
        (b"", "is no Parquet file"),
    ],
)
def test_a_file_that_is_something_else_is_refused_in_words(content: bytes, said: str):
    with pytest.raises(UnusableFile, match=said):
        read_spooled(content, "classification")


def test_a_writer_cannot_leave_out_what_must_be_there():
    with pytest.raises(ValueError, match="lacks model_sha256"):
        spooled_log("classification", [row(1, model_sha256=None)])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_sha256": "c" * 64}, "names a model that was never registered"),
        ({"image_sha256": "abc"}, "no SHA-256"),
        ({"confidence": float("inf")}, "confidence outside"),
        ({"confidence": float("nan")}, "lacks one of"),
        ({"probabilities": [0.8, float("inf"), 0.1]}, "probabilities that are none"),
        ({"probabilities": [0.8, 0.8, 0.8]}, "probabilities that are none"),
        ({"probabilities": []}, "probabilities that are none"),
        ({"prediction": None}, "lacks one of"),
        ({"brightness": float("inf")}, "infinite image statistic"),
        ({"embedding": [1.0, float("nan")]}, "embedding that is not finite"),
    ],
)
def test_a_row_that_cannot_be_believed_is_left_out_and_the_others_stay(changes: dict[str, Any], said: str):
    found = validate(log(row(1), row(2, **changes), row(3)), task="classification", models=MODELS)
    assert len(found.rows) == 2
    assert len(found.quarantined) == 1
    (finding,) = found.findings.itertuples()
    assert said in str(finding.what)
    assert finding.image == "camera-1"
    assert finding.severity == "WARN"


def test_a_box_without_a_finite_side_is_left_out():
    box = {"x": 1.0, "y": float("nan"), "w": 3.0, "h": 4.0, "class": CLASSES[0], "score": 0.7}
    rows = log(
        detected(1),
        detected(2, boxes=[box]),
        detected(3, boxes=[], prediction=None, confidence=None),
        task="detection",
    )
    found = validate(rows, task="detection", models=MODELS)
    assert len(found.rows) == 2
    assert "box that is none" in found.findings["what"][0]


def test_each_row_counts_once_and_the_first_copy_stays():
    found = validate(log(row(1), row(2), row(1, confidence=0.1)), task="classification", models=MODELS)
    assert len(found.rows) == 2
    assert not found.rows.duplicated(list(IDENTITY)).any()
    assert np.isclose(found.rows["confidence"], 0.8).all()
    assert "came more than once" in found.findings["what"][0]


def test_a_row_that_names_the_file_it_ran_is_of_the_same_model():
    found = validate(log(row(1), row(2, model_sha256=FILE)), task="classification", models=MODELS)
    assert set(found.rows["model_sha256"]) == {MODEL}
    assert found.findings.empty


def test_an_all_null_column_that_must_be_there_leaves_no_row_and_one_finding():
    found = validate(log(*(row(n, prediction=None) for n in range(50))), task="classification", models=MODELS)
    assert found.rows.empty
    assert len(found.findings) == 1
    assert "50 rows" in found.findings["what"][0]


@pytest.mark.parametrize("rows", [[], [row(1)], [row(n, confidence=0.8) for n in range(5)]])
def test_no_row_one_row_and_a_constant_column_are_no_fault(rows: list[dict[str, Any]]):
    found = validate(log(*rows), task="classification", models=MODELS)
    assert len(found.rows) == len(rows)
    assert found.findings.empty
    assert list(found.rows.columns) == list(empty_log("classification").columns)


def test_a_clock_that_is_wrong_is_told_from_one_that_is_right():
    rules = project().production
    times = pd.Series(
        [NOW, NOW + timedelta(minutes=9), NOW + timedelta(hours=1), NOW - timedelta(days=365), pd.NaT],
        dtype="datetime64[us, UTC]",
    )
    faults = list(misplaced(times, NOW, rules))
    assert faults[:2] == ["", ""]
    assert "ahead" in faults[2] and "before" in faults[3] and "no timestamp" in faults[4]


def test_the_oldest_day_that_is_taken_is_taken_whole():
    morning = datetime(2026, 7, 10, 0, 5, tzinfo=UTC)
    faults = misplaced(
        pd.Series([morning, morning - timedelta(minutes=6)]),
        morning + timedelta(days=30),
        project().production,
    )
    assert list(faults) == ["", "has a clock before 2026-07-10"]


def test_the_latest_label_of_an_image_counts_and_a_strange_one_does_not():
    rows = log(row(1), row(2), row(3))
    given = [
        label(1, CLASSES[0], hour=2),
        label(1, CLASSES[1], hour=1),
        label(2, "no such class"),
        label(99, CLASSES[0]),
    ]
    table = read_spooled(spooled_labels("classification", given), "classification").rows.to_pandas()
    joined, findings = join_labels(rows, [table], "classification", CLASSES)
    assert joined["label"].tolist() == [CLASSES[0], None, None]
    assert len(findings) == 2
    assert len(joined) == 3


def test_boxes_are_joined_as_labels_of_a_detectors_day():
    box = {"x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0, "class": CLASSES[1]}
    given = {**label(1, ""), "label": [box]}
    table = read_spooled(spooled_labels("detection", [given]), "detection").rows.to_pandas()
    joined, findings = join_labels(
        log(detected(1), detected(2), task="detection"), [table], "detection", CLASSES
    )
    assert joined["label"][0][0]["class"] == CLASSES[1]
    assert joined["label"][1] is None
    assert findings.empty


def test_a_device_that_falls_silent_is_missed_once_the_day_is_over():
    rows = log(row(1, device="camera-1"))
    today = NOW.date()
    over = without_answer(["camera-1", "camera-2"], rows, today - timedelta(days=1), today)
    assert list(over["image"]) == ["camera-2"]
    assert without_answer(["camera-1", "camera-2"], rows, today, today).empty
