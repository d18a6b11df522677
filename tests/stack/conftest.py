"""The services that a team runs, as servers of the tests' own."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests import postgres, s3


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The database `postgres` of a server of its own; a test is skipped where Postgres is not installed."""
    with postgres.running() as url:
        yield f"{url}/postgres"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto's S3 server, in this process."""
    with s3.running() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket, to which the environment leads."""
    import boto3

    for name, value in {**s3.CREDENTIALS, "AWS_ENDPOINT_URL": s3_endpoint}.items():
        monkeypatch.setenv(name, value)
    client: Any = boto3.client("s3", endpoint_url=s3_endpoint)
    name = f"stack-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    return name
