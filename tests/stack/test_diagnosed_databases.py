"""What `visionops doctor` says of a Postgres: it connects, is nobody else's, and keeps locks."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from visionops import bootstrap, services
from visionops.diagnosis import databases
from visionops.diagnosis.checking import Row, rows


@pytest.fixture
def database(postgres_url: str) -> str:
    """The address of an empty database."""
    name = f"d{uuid.uuid4().hex[:12]}"
    execute(postgres_url, f"CREATE DATABASE {name}")
    return f"{postgres_url.rpartition('/')[0]}/{name}"


def execute(url: str, *statements: str) -> None:
    import psycopg2

    connection = psycopg2.connect(url)
    connection.autocommit = True
    for statement in statements:
        connection.cursor().execute(statement)
    connection.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path))
    for name in ("DAGSTER_HOME", "DAGSTER_POSTGRES_URL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def looked_at() -> dict[str, Row]:
    return {row.subject: row for row in rows(databases.checks())}


def as_user(url: str, user: str) -> str:
    parts = urlsplit(url)
    return f"postgresql://{user}:s3cret-word@{parts.hostname}:{parts.port}{parts.path}"


def test_a_database_of_its_own_is_fine_before_and_after_its_tables_are_made(
    database: str, home: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", database)
    monkeypatch.setenv("VISIONOPS_LOCK_URL", database)
    bootstrap.prepare()
    for _ in range(2):
        found = looked_at()
        assert found["Dagster"].state == "ok", found
        assert found["Dagster"].what.startswith("0 runs in postgresql://")
        assert found["promotion lock"].what == "taken, refused to a second session, and freed"
    execute(database, "CREATE TABLE registered_models (name text)")
    found = looked_at()
    assert (found["Dagster"].state, "holds the tables of MLflow" in found["Dagster"].what) == ("broken", True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    taken = databases.mlflow_database()
    assert taken is not None and "holds the tables of Dagster" in taken.what


def test_whoever_is_not_let_in_or_may_make_no_tables_is_told_so(
    database: str, home: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", as_user(database, "nobody_of_this_name"))
    bootstrap.prepare()
    row = looked_at()["Dagster"]
    assert "does not let this user in" in row.what and row.fix == "correct DAGSTER_POSTGRES_URL"
    assert "s3cret-word" not in str(row)

    user = f"u{uuid.uuid4().hex[:12]}"
    execute(database, f"CREATE USER {user}", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", as_user(database, user))
    row = looked_at()["Dagster"]
    assert "may make no tables" in row.what and row.fix.startswith("GRANT CREATE")


def test_a_database_that_is_not_there_is_named(database: str, home: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VISIONOPS_LOCK_URL", f"{database}_not_there")
    row = looked_at()["promotion lock"]
    assert "has no such database" in row.what and row.fix == "create it, or correct VISIONOPS_LOCK_URL"
    assert row.setting.endswith("_not_there")


def test_how_far_the_clock_of_a_database_is_ahead(database: str, monkeypatch: pytest.MonkeyPatch):
    (here,) = services.skews({"dagster": database})
    assert abs(here.ahead) < timedelta(minutes=1)
    behind = datetime.now(UTC) - timedelta(hours=1)
    monkeypatch.setattr("resources.clocks.now", lambda: behind)
    (skew,) = services.skews({"dagster": database})
    assert skew.matters and "60 min ahead of this machine's" in skew.sentence()
