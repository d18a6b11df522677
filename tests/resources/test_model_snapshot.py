"""A store that may only be read is asked through a copy that follows it, and takes no change."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from resources.models import local_store, mlflow_client
from resources.models.records import RegistryError
from resources.models.registry import ModelRegistry
from tests.world import copy_registry


@pytest.fixture
def store(tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database that this process takes for one it may not write."""
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path))
    file = tmp_path / "mlflow" / "mlflow.db"
    copy_registry(mlflow_template, file.parent)
    writer = ModelRegistry(tracking_uri=f"sqlite:///{file}")
    writer.models.set_tag("shapes", "one", "1")
    monkeypatch.setattr(mlflow_client, "may_only_be_read", lambda database: True)
    return file


def test_what_others_write_is_seen_and_nothing_can_be_written(store: Path, monkeypatch: pytest.MonkeyPatch):
    reader = ModelRegistry(tracking_uri=f"sqlite:///{store}")
    assert reader.models.get("shapes").tags == {"one": "1"}
    with pytest.raises(RegistryError):
        reader.models.set_tag("shapes", "lost", "1")
    with monkeypatch.context() as other:
        other.setattr(mlflow_client, "may_only_be_read", lambda database: False)
        ModelRegistry(tracking_uri=f"sqlite:///{store}").models.set_tag("shapes", "two", "2")
    assert reader.models.get("shapes").tags == {"one": "1", "two": "2"}


def test_what_lies_in_the_log_of_a_writer_that_is_gone_is_seen(store: Path, tmp_path: Path):
    """As on a disk that was copied while somebody wrote, and is mounted to be read: SQLite opens no such database."""
    away = tmp_path / "away" / "mlflow" / "mlflow.db"
    away.parent.mkdir(parents=True)
    with closing(sqlite3.connect(store)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("UPDATE registered_model_tags SET value = '9'")
        writer.commit()
        for name in ("mlflow.db", "mlflow.db-wal"):
            shutil.copyfile(store.with_name(name), away.with_name(name))
    assert away.with_name("mlflow.db-wal").stat().st_size > 0
    snapshot = local_store.Snapshot(away)
    assert snapshot.client().get_registered_model("shapes").tags == {"one": "9"}


def test_only_what_exists_and_cannot_be_written_may_only_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "mlflow.db"
    assert not local_store.may_only_be_read(file)
    file.touch()
    assert not local_store.may_only_be_read(file)
    for unwritable in (file, tmp_path):
        with monkeypatch.context() as patched:
            patched.setattr(os, "access", lambda path, mode, no=unwritable: path != no)
            assert local_store.may_only_be_read(file)
