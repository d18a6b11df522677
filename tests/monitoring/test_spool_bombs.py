"""A small file of the spool that is large when it is read harms nobody: it is set aside, and the others are taken."""

import io
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from logged import NOW, file_of, project, row

from lakefs_local import discovery
from resources.lakefs.client import LakeFSResource
from resources.storage import Spool
from visionops_assets.monitoring.collection import collect
from visionops_assets.monitoring.inference_log import FORMAT, FORMAT_KEY, TASK_KEY, spool_schema
from visionops_assets.monitoring.spool_files import SpoolReader

SMALL = 1 << 20


def written(columns: dict[str, Any], rows: int, **options: Any) -> bytes:
    """A file with these columns, and ordinary values in the others."""
    schema = spool_schema("classification")
    ordinary = {**dict.fromkeys(schema.names), **row(1)}
    arrays = [
        columns.get(field.name, pa.repeat(pa.scalar(ordinary[field.name], field.type), rows))
        for field in schema
    ]
    table = pa.table(arrays, names=schema.names)
    described = {FORMAT_KEY: FORMAT.encode(), TASK_KEY: b"classification"}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(described), buffer, compression="zstd", **options)
    return buffer.getvalue()


def repeated(text: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))


def one_list(values: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array([0, values], pa.int32()), pa.array(np.zeros(values, np.float32)))


BOMBS = {
    "a long text in many rows": lambda: written({"prediction": repeated("x" * (1 << 20), 3000)}, 3000),
    "a long name of a device": lambda: written({"device": repeated("x" * 257, 10)}, 10),
    "texts in plain": lambda: written(
        {"prediction": pa.array(["x" * (1 << 20)] * 100)}, 100, use_dictionary=False
    ),
    "a list of many numbers": lambda: written({"probabilities": one_list(20_000_000)}, 1),
    "an embedding of many numbers": lambda: written({"embedding": one_list(20_000_000)}, 1),
    "more rows than anybody writes": lambda: written({}, 1_100_000),
    "rows that are alike": lambda: written({}, 500_000),
    "a frame of nothing": lambda: written({"frame": pa.array([bytes(100 << 20)])}, 1, use_dictionary=False),
    "no Parquet": lambda: b"PAR1" + bytes(100) + b"PAR1",
}


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    made = {name: make() for name, make in BOMBS.items()}
    assert all(len(content) < SMALL for content in made.values()), {k: len(v) for k, v in made.items()}
    return made


@pytest.fixture
def lakefs(tmp_path: Path) -> Iterator[LakeFSResource]:
    with discovery.serving(tmp_path / "lakefs") as server:
        yield LakeFSResource(
            endpoint=server.endpoint,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
        )


@pytest.mark.slow
def test_bombs_are_set_aside_with_a_finding_and_the_other_files_are_taken(
    tmp_path: Path, lakefs: LakeFSResource, bombs: dict[str, bytes]
) -> None:
    spool = Spool(root=str(tmp_path / "spool"))
    for number, content in enumerate(bombs.values()):
        spool.put("shapes", "camera-1", file_of(row(2 * number)), f"{2 * number:02}")
        spool.put("shapes", "camera-1", content, f"{2 * number + 1:02}")
    before = pa.total_allocated_bytes()
    found = collect(project(), lakefs=lakefs, spool=spool, lock=nullcontext(), now=NOW)
    assert found.rows == len(bombs)
    assert len(found.findings) == len(bombs)
    assert all(len(what) < 300 and "\n" not in what for what in found.findings["what"])
    assert spool.files("shapes") == []
    assert pa.total_allocated_bytes() - before < 64 << 20


def test_a_reader_that_is_ended_by_a_file_is_replaced_and_sees_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAKEFS_SECRET_ACCESS_KEY", "hunter2")
    reader, content = SpoolReader(), file_of(row(1))
    assert len(reader.read(content, "classification").rows) == 1
    children = [each for each in psutil.Process().children() if "spool_files" in " ".join(each.cmdline())]
    child = max(children, key=lambda each: each.create_time())
    assert "LAKEFS_SECRET_ACCESS_KEY" not in child.environ()
    child.kill()
    child.wait()
    assert len(reader.read(content, "classification").rows) == 1
    reader.end()


def test_links_and_pipes_in_a_spool_are_no_files(tmp_path: Path) -> None:
    spool = Spool(root=str(tmp_path / "spool"))
    kept = spool.put("shapes", "camera-1", file_of(row(1)))
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "a.parquet").write_bytes(b"secret")
    device = tmp_path / "spool" / "shapes" / "camera-1"
    (device / "link.parquet").symlink_to(secret / "a.parquet")
    os.mkfifo(device / "pipe.parquet")
    (device / "folder.parquet").mkdir()
    (device.parent / "elsewhere").symlink_to(secret)
    assert spool.files("shapes") == [kept]
