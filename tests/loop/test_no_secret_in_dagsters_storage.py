"""Dagster stores what resources are configured with: secrets stand there as the names of their variables alone."""

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from resources.dagster_resources import BoundLakeFS, BoundWebhooks, bound_resources
from resources.service_clients import Services
from resources.settings import VARIABLES
from resources.variables import type_of
from tests.world import World

MARKER = "marker-that-nobody-may-store"


def stored(folder: Path) -> Iterator[bytes]:
    """All that lies in a folder: files as they are, and the cells of databases, unpacked."""
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        yield file.read_bytes()
        if file.suffix != ".db":
            continue
        with closing(sqlite3.connect(file)) as database:
            tables = [
                name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            for table in tables:
                for row in database.execute(f'SELECT * FROM "{table}"'):
                    for cell in row:
                        content = cell if isinstance(cell, bytes) else str(cell).encode()
                        yield content
                        # Snapshots of jobs and plans are packed.
                        with suppress(zlib.error):
                            yield zlib.decompress(content)


def found_in(folder: Path, *texts: str) -> set[str]:
    """Which of the texts are stored."""
    return {text for content in stored(folder) for text in texts if text.encode() in content}


class Bound(World):
    """A world whose resources are bound as `definitions.py` binds them."""

    @property
    def resources(self) -> dict[str, Any]:
        return {**super().resources, **bound_resources(Services.from_environment())}


@pytest.mark.slow
def test_a_run_leaves_no_secret_in_dagsters_storage(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key, secret = world.lakefs.access()[1:]
    markers = {
        name: f"{MARKER}-{name.lower()}" for name, field in VARIABLES.items() if type_of(field) is SecretStr
    }
    # What has to lead somewhere does.
    markers |= {"LAKEFS_ACCESS_KEY_ID": key, "LAKEFS_SECRET_ACCESS_KEY": secret}
    markers |= {name: f"http://127.0.0.1:9/{MARKER}" for name in markers if name.endswith("_WEBHOOK")}
    for name in ("DAGSTER_POSTGRES_URL", "VISIONOPS_LOCK_URL"):
        del markers[name]
    for name, value in markers.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAKEFS_ENDPOINT", world.lakefs.endpoint or "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", world.registry.uri)
    monkeypatch.setenv("VISIONOPS_HOME", str(world.root))
    world.publish("week-01", 60, seed=1)

    told = Bound(**vars(world)).tick()
    assert told.run_id is not None and told.outcome == "promoted", told
    assert world.instance.get_run_by_id(told.run_id) is not None
    folder = Path(world.instance.root_directory)
    assert found_in(folder, secret, MARKER) == set()
    # Its variable is named there instead.
    assert found_in(folder, "LAKEFS_SECRET_ACCESS_KEY")


def test_one_that_were_read_before_dagster_stores_it_would_be_found(world: World) -> None:
    """What the other test looks by finds what it looks for."""

    @dg.job(resource_defs={"lakefs": BoundLakeFS(secret_access_key=MARKER), "webhooks": BoundWebhooks()})
    def told() -> None:
        @dg.op(required_resource_keys={"lakefs", "webhooks"})
        def nothing() -> None:
            return None

        nothing()

    assert told.execute_in_process(instance=world.instance).success
    assert found_in(Path(world.instance.root_directory), MARKER) == {MARKER}
