"""Drops for the tests: a folder, and a bucket on moto's S3 server."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from places import Bucket, FolderDrop, Remote

from tests import s3


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto's S3 server, in this process."""
    with s3.running() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, to which the environment's credentials lead; what fails is asked again at once."""
    import boto3
    from botocore.retries.standard import ExponentialBackoff

    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda backoff, context: 0)
    for name, value in {**s3.CREDENTIALS, "AWS_ENDPOINT_URL": s3_endpoint}.items():
        monkeypatch.setenv(name, value)
    client: Any = boto3.client("s3", endpoint_url=s3_endpoint)
    made = Bucket(f"drop-{uuid.uuid4().hex[:12]}", client)
    client.create_bucket(Bucket=made.name)
    return made


@pytest.fixture(params=["folder", "s3"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    """A drop of either kind, as whoever fills it sees it."""
    if request.param == "folder":
        return FolderDrop(tmp_path / "remote")
    found: Remote = request.getfixturevalue("bucket")
    return found


@pytest.fixture
def no_progress() -> Callable[[int, int], None]:
    return lambda done, of: None
