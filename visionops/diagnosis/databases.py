"""Databases: Dagster's, the one that serialises promotion, and MLflow's where it is no server."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from resources import home
from resources.databases import check_database, connected, sqlite_path
from resources.escaping import HIDDEN, masked
from resources.machine_errors import damaged_databases, way_back
from resources.models.lock import LOCK_URL, PromotionLocked, advisory_lock
from resources.models.mlflow_client import TRACKING_URI
from resources.settings import given
from visionops.bootstrap import POSTGRES
from visionops.diagnosis.checking import Check, Finding, broken, ok, setting, warning

# Tables by which a database is known; Dagster and MLflow both have one called `runs` and one of Alembic's.
_MLFLOW, _DAGSTER = ("MLflow", "registered_models"), ("Dagster", "event_logs")


def checks() -> Iterator[Check]:
    """The files of every database, Dagster's storage and the promotion lock."""
    for whose, folder in (
        ("Dagster's", home.dagster_home()),
        ("MLflow's", (sqlite_path(home.mlflow_uri()) or home.mlflow_folder() / "mlflow.db").parent),
        ("lakeFS's", home.lakefs_data()),
    ):
        yield Check(
            f"{whose} database files",
            f"{folder}",
            "read each",
            f"allow this user to read {folder}",
            partial(_files, folder),
        )
    yield Check(
        "Dagster",
        setting(POSTGRES, otherwise=f"SQLite in {home.dagster_home()}"),
        "connect, rights, tables, count runs",
        f"start it, or correct {POSTGRES if given(POSTGRES) else 'DAGSTER_HOME'}",
        dagster,
    )
    yield Check(
        "promotion lock",
        setting(LOCK_URL, otherwise="a lock file beside MLflow's database"),
        "take it, be refused as a second, let go",
        f"start the Postgres, or correct {LOCK_URL}",
        promotion_lock,
    )


def _files(folder: Path) -> Finding:
    """Whether every SQLite file under a folder can be read."""
    damaged = damaged_databases(folder)
    if damaged:
        return broken(
            f"{', '.join(map(str, damaged))} cannot be read",
            "; ".join(way_back(file) for file in damaged),
        )
    return ok("none is damaged")


def dagster() -> Finding:
    """Dagster's storage: it connects, is nobody else's, and answers."""
    from visionops import services

    url = given(POSTGRES)
    if url:
        wrong = _unfit(url, POSTGRES, _DAGSTER, _MLFLOW)
        if wrong is not None:
            return wrong
    with services.dagster() as instance:
        runs = instance.get_runs_count()
        where = masked(url, HIDDEN) if url else str(Path(instance.root_directory))
        behind = [
            name
            for name, storage in (
                ("runs", instance.run_storage),
                ("events", instance.event_log_storage),
                ("schedules", instance.schedule_storage),
            )
            if storage is not None and not _is_current(storage)
        ]
    if behind:
        return broken(
            f"the tables of {', '.join(behind)} in {where} are of another Dagster release",
            "python -m visionops.bootstrap dagster instance migrate",
        )
    return ok(f"{runs} runs in {where}")


def promotion_lock() -> Finding:
    """Whether two machines would see each other's lock."""
    url = given(LOCK_URL)
    if not url:
        if given(POSTGRES) or "://" in home.artifacts():
            return ok(f"of this machine; where several promote, set {LOCK_URL}=postgresql://…")
        return ok("of this machine")
    project = f"doctor-{os.getpid()}"
    check_database(url, LOCK_URL, postgres=True)
    with advisory_lock(url, project, 0):
        try:
            with advisory_lock(url, project, 0):
                return broken(
                    f"{masked(url, HIDDEN)} gives one lock to two sessions",
                    f"name the Postgres itself in {LOCK_URL}: a pooler that shares sessions keeps no locks",
                )
        except PromotionLocked:
            pass
    with advisory_lock(url, project, 0):
        return ok("taken, refused to a second session, and freed")


def mlflow_database() -> Finding | None:
    """What is wrong with an MLflow that is a database itself; None where nothing is, or it is a server."""
    uri = home.mlflow_uri()
    if uri.startswith(("postgres", "mysql", "mssql")):
        return _unfit(uri, TRACKING_URI, _MLFLOW, _DAGSTER)
    file = sqlite_path(uri)
    if file is None or not file.exists():
        return None
    if not os.access(file, os.W_OK) or not os.access(file.parent, os.W_OK):
        return warning(
            f"{file} can be read but not written: models answer, and nothing is trained",
            f"allow this user to write {file.parent}",
        )
    return None


def _unfit(url: str, variable: str, ours: tuple[str, str], other: tuple[str, str]) -> Finding | None:
    """Why a database cannot be used: another program has its tables there, or this user may make none."""
    from sqlalchemy import inspect, text

    place = masked(url, HIDDEN)
    with connected(url, variable) as session:
        tables = inspect(session).get_table_names()
        if other[1] in tables:
            return broken(
                f"{place} holds the tables of {other[0]}",
                f"name a database of its own in {variable}: CREATE DATABASE {ours[0].lower()}",
            )
        if session.dialect.name != "postgresql":
            return None
        if session.scalar(text("SELECT pg_is_in_recovery()")):
            return broken(f"{place} is a copy that can only be read", f"name the primary in {variable}")
        if ours[1] not in tables and not session.scalar(
            text("SELECT has_schema_privilege(current_schema(), 'CREATE')")
        ):
            return broken(
                f"this user may make no tables in {place}", "GRANT CREATE ON SCHEMA public TO the user"
            )
    return None


def _is_current(storage: object) -> bool:
    """Whether a storage has the tables of the Dagster that is installed; those of its own kind know no version."""
    version = getattr(storage, "alembic_version", None)
    found = version() if callable(version) else None
    return found is None or found[0] is None or found[0] == found[1]
