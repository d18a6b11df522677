"""Folders and buckets: there, listed, read and written, or the one thing that mends it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import s3
from tests.world import shapes_project
from visionops.diagnosis import places
from visionops.diagnosis.checking import Row, rows

BUCKET = "team"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """moto's S3 server with one bucket."""
    import boto3

    with s3.running() as address:
        with pytest.MonkeyPatch.context() as patched:
            for name, value in s3.CREDENTIALS.items():
                patched.setenv(name, value)
            boto3.client("s3", endpoint_url=address).create_bucket(Bucket=BUCKET)
        yield address


@pytest.fixture
def client(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The environment leads to the server; boto3's client of it."""
    import boto3

    for name, value in {**s3.CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    return boto3.client("s3", endpoint_url=endpoint)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home with the usual places."""
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "home"))
    for name in ("ARTIFACTS", "SPOOL", "DROP", "COMPUTE_LOGS"):
        monkeypatch.delenv(f"VISIONOPS_{name}", raising=False)
    return tmp_path / "home"


def looked_at(**drop: str) -> dict[str, Row]:
    return {row.subject: row for row in rows(places.checks([shapes_project(drop=drop)]))}


def objects(client: Any) -> list[str]:
    return [one["Key"] for one in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def test_usual_places_that_are_not_there_yet_are_fine(home: Path):
    found = looked_at()
    assert {row.state for row in found.values()} == {"ok"}
    assert not home.exists(), "nothing was made"


def test_buckets_are_listed_written_and_left_as_they_were(client: Any, monkeypatch: pytest.MonkeyPatch):
    client.put_object(Bucket=BUCKET, Key="drop/shapes/week-01/0.png", Body=b"image")
    for name, prefix in {
        "ARTIFACTS": "tables",
        "SPOOL": "spool",
        "DROP": "drop",
        "COMPUTE_LOGS": "logs",
    }.items():
        monkeypatch.setenv(f"VISIONOPS_{name}", f"s3://{BUCKET}/{prefix}")
    before = objects(client)
    found = looked_at()
    assert {subject: row.state for subject, row in found.items()} == dict.fromkeys(
        ("artifacts", "spool", "drop", "drop of shapes", "compute logs"), "ok"
    )
    assert objects(client) == before


@pytest.mark.parametrize("name", ["ARTIFACTS", "SPOOL", "DROP", "COMPUTE_LOGS"])
def test_a_bucket_that_does_not_exist_is_broken(client: Any, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(f"VISIONOPS_{name}", "s3://no-such-bucket/prefix")
    row = looked_at()[name.lower().replace("_", " ")]
    assert (row.state, "has no bucket no-such-bucket" in row.what) == ("broken", True)
    assert row.fix == f"create it, or correct VISIONOPS_{name}"
    assert row.setting == f"VISIONOPS_{name}=s3://no-such-bucket/prefix"


def test_a_drop_that_a_project_declares_is_tried_too(client: Any, tmp_path: Path):
    assert "has no bucket no-such-drop" in looked_at(address="s3://no-such-drop/line")["drop of shapes"].what
    assert looked_at(address=f"s3://{BUCKET}/line")["drop of shapes"].state == "ok"
    missing = looked_at(address=str(tmp_path / "unmounted"))["drop of shapes"]
    assert (missing.state, "does not exist" in missing.what) == ("broken", True)
    assert "drop.address of shapes" in missing.fix


def test_a_server_that_is_gone_or_no_s3_and_keys_that_are_missing(
    client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("VISIONOPS_DROP", f"s3://{BUCKET}/drop")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    row = looked_at()["drop"]
    assert "did not answer" in row.what and row.fix == "start it, or correct AWS_ENDPOINT_URL"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    row = looked_at()["drop"]
    assert row.what == "no key for S3" and "AWS_ACCESS_KEY_ID" in row.fix


def test_an_answer_of_another_server_is_told_from_s3_s(client: Any, monkeypatch: pytest.MonkeyPatch):
    from starlette.applications import Starlette

    from visionops.serving.prediction_server import in_thread

    monkeypatch.setenv("VISIONOPS_SPOOL", f"s3://{BUCKET}/spool")
    with in_thread(Starlette()) as other:
        monkeypatch.setenv("AWS_ENDPOINT_URL", other.address)
        row = looked_at()["spool"]
    assert "is no S3" in row.what and row.fix == "correct AWS_ENDPOINT_URL"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("data", "another folder wherever a command is run"),
        ("~/data", "another folder wherever a command is run"),
        ("s3://", "names no bucket"),
        ("s3:/bucket/prefix", "another folder"),
        ("/proc/nowhere", "does not exist"),
        ("ftp://host/data", "neither a folder nor s3"),
    ],
)
def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch, address: str, said: str):
    monkeypatch.setenv("VISIONOPS_DROP", address)
    row = looked_at()["drop"]
    assert (row.state, said in row.what) == ("broken", True), row
    assert row.fix


def test_a_folder_that_cannot_be_written_is_broken(monkeypatch: pytest.MonkeyPatch):
    # Not even root makes a file there.
    monkeypatch.setenv("VISIONOPS_ARTIFACTS", "/proc/self/task")
    row = looked_at()["artifacts"]
    assert (row.state, "cannot be written" in row.what) == ("broken", True)


def test_a_folder_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "tables").mkdir()
    monkeypatch.setenv("VISIONOPS_ARTIFACTS", str(tmp_path))
    assert looked_at()["artifacts"].state == "ok"
    assert [path.name for path in tmp_path.iterdir()] == ["tables"]
