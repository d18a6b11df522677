"""One opened MLflow: client, local sqlite store, and its errors in our words."""

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from filelock import FileLock

from resources.databases import (
    DatabaseMisnamed,
    DatabaseUnreachable,
    check_database,
    first_line,
    sqlite_path,
    with_driver,
)
from resources.escaping import masked
from resources.machine_errors import machine_error
from resources.models.local_store import follow_folder, may_only_be_read, snapshot
from resources.models.records import RegistryError, RegistryRefused, RegistryUnavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRACKING_URI = "MLFLOW_TRACKING_URI"
_DATABASES = ("postgres", "mysql", "mssql")
# Names of a service of Databricks, which are no addresses.
_KEEPERS = ("databricks", "uc")
OPENING_SECONDS = 60.0

# MLflow's own defaults retry a dead server for minutes, truncate long values without an error, and print to
# standard output, where a program may read JSON.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_TRUNCATE_LONG_VALUES": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
# An answer, other than MLflow's, of what lies behind an address; with its status where it was not 200.
_ANSWERED = re.compile(
    r"API request to endpoint .*?(?:failed with error code (\d+)|not in a valid JSON)", re.DOTALL
)


@lru_cache(maxsize=8)
def open_client(uri: str) -> "MlflowClient":
    """The client of one address, opened once per process. Raises what MLflow raises."""
    from mlflow import MlflowClient

    # They print a stack trace and migration chatter for what we raise, or do, ourselves.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    database = sqlite_path(uri)
    if database is None:
        if uri.startswith(_DATABASES):
            # MLflow would try for minutes.
            check_database(uri, TRACKING_URI)
        elif uri.startswith("file:") or not ("://" in uri or uri.startswith(_KEEPERS)):
            raise RegistryRefused(_no_address(uri))
        address = with_driver(uri)
        return MlflowClient(tracking_uri=address, registry_uri=address)
    database.parent.mkdir(parents=True, exist_ok=True)
    # Two processes that open a new database at once would both migrate it.
    with FileLock(f"{database}.lock", timeout=OPENING_SECONDS):
        if not database.exists():
            # WAL: a run that writes does not stop the user interface from reading.
            with sqlite3.connect(database) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
            connection.close()
        follow_folder(database)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
        return client


@dataclass(frozen=True)
class ModelConnection:
    """Where MLflow is; every call to it goes through `client`."""

    uri: str

    def __post_init__(self) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)

    @contextmanager
    def client(self, what: str, missing: type[RegistryError] = RegistryRefused) -> "Iterator[MlflowClient]":
        """MLflow's client, with its errors about `what` turned into ours.

        Raises `RegistryUnavailable` when nothing usable answers, `missing` when MLflow says that `what` does
        not exist, `RegistryRefused` when it says no for any other reason.
        """
        from mlflow.exceptions import MlflowException
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield self._opened()
        except DatabaseMisnamed as error:
            raise RegistryRefused(str(error)) from error
        except DatabaseUnreachable as error:
            raise RegistryUnavailable(f"MLflow's database: {error}") from error
        except MlflowException as error:
            reason = str(error)
            cause = error.__cause__ or error.__context__
            if (said := machine_error(error)) is not None:
                raise RegistryUnavailable(f"MLflow did not answer for {what}: {said}") from error
            if is_missing(error):
                raise missing(f"{what} does not exist in MLflow at {masked(self.uri)}") from error
            if "database schema" in reason:
                raise RegistryUnavailable(
                    f"MLflow's database at {masked(self.uri)} is of another MLflow release: "
                    f"run `mlflow db upgrade {masked(self.uri)}`"
                ) from error
            if "Supported URI schemes" in reason:
                raise RegistryRefused(_no_address(self.uri)) from error
            if answered := _ANSWERED.search(reason):
                raise RegistryRefused(_not_mlflow(self.uri, what, answered[1])) from error
            if isinstance(cause, RequestException):
                silent = "timed out" if "Timeout" in str(cause) else "no connection"
                raise unavailable(self.uri, what, silent) from error
            if error.error_code == "TEMPORARILY_UNAVAILABLE":
                raise unavailable(self.uri, what, str(cause or reason)) from error
            raise RegistryRefused(
                f"MLflow at {masked(self.uri)} refused {what}: {first_line(reason)}"
            ) from error
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            if (said := machine_error(error)) is not None:
                raise RegistryUnavailable(f"MLflow did not answer for {what}: {said}") from error
            raise unavailable(self.uri, what, str(error)) from error

    def _opened(self) -> "MlflowClient":
        """The client of the address; of a store that may only be read, one of its copy."""
        database = sqlite_path(self.uri)
        if database is not None and may_only_be_read(database):
            return snapshot(database).client()
        return open_client(self.uri)


def _no_address(uri: str) -> str:
    return (
        f"{TRACKING_URI} {masked(uri)} is no address of an MLflow: write http://HOST:PORT, "
        "postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:////FOLDER/mlflow.db"
    )


def _not_mlflow(uri: str, what: str, status: str | None) -> str:
    """What an answer means that no MLflow gives."""
    if status in ("401", "403"):
        return (
            f"MLflow at {masked(uri)} does not let this user in for {what} (status {status}): set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    return (
        f"what answers at {masked(uri)} is no MLflow ({f'status {status}' if status else 'no JSON'} for {what}): "
        f"correct {TRACKING_URI}"
    )


def is_missing(error: Exception) -> bool:
    """Whether MLflow says that the run, model, version or alias does not exist."""
    code = getattr(error, "error_code", None)
    return code in {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"} or (
        code == "INVALID_PARAMETER_VALUE" and "alias" in str(error) and "not found" in str(error)
    )


def unavailable(uri: str, what: str, reason: str) -> RegistryUnavailable:
    """The error for a registry that cannot be reached, with the fix for its kind of address."""
    database = sqlite_path(uri)
    if database is None:
        fix = "start the server (`visionops up`) or correct MLFLOW_TRACKING_URI"
    elif "locked" in reason:
        fix = f"another process holds {database.name}: end it, or wait and run again"
    else:
        fix = f"check that {database} is a readable MLflow database in a writable folder"
    return RegistryUnavailable(
        f"MLflow at {masked(uri)} did not answer for {what} ({first_line(reason)}); {fix}"
    )
