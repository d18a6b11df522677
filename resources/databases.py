"""Databases by their addresses: connected to in a limited time, or one line that says why not and what mends it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from resources.error_family import Invalid, Unavailable, VisionOpsError
from resources.escaping import masked

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

SQLITE = "sqlite:///"
CONNECT_SECONDS = 5
_WITHOUT_DRIVER = ("postgres", "postgresql")
# What libpq and the server say, by what is wrong.
_NOT_LET_IN = ("authentication failed", "no password supplied", "pg_hba.conf", "permission denied", "role ")
_NO_SUCH_DATABASE = ("database ", "does not exist")


class DatabaseError(VisionOpsError, RuntimeError):
    """A database that cannot be used; the message names the variable, the address without its secrets, and the fix."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}: {fix}")
        self.what, self.fix = what, fix


class DatabaseMisnamed(Invalid, DatabaseError):
    """The address cannot be used: it is none, it is of another kind of database, or its driver is missing."""


class DatabaseUnreachable(Unavailable, DatabaseError):
    """Nothing answers there, it lets nobody in, or there is no database of this name."""


def with_driver(url: str) -> str:
    """The address for SQLAlchemy with the driver of `visionops[postgres]`; one that names a driver keeps it.

    Left to itself, SQLAlchemy 2.1 takes `postgresql://` to mean psycopg 3 and does not know `postgres://`.
    """
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg2://{rest}" if separator and scheme in _WITHOUT_DRIVER else url


def sqlite_path(uri: str) -> Path | None:
    """The database file of a `sqlite:///` address, or None for any other address."""
    return Path(unquote(uri.removeprefix(SQLITE).split("?")[0])) if uri.startswith(SQLITE) else None


def first_line(text: str) -> str:
    """The first line of a long message, at most 160 characters."""
    line = text.strip().splitlines()[0] if text.strip() else "no reason given"
    return line if len(line) <= 160 else f"{line[:157]}..."


def check_database(url: str, variable: str, *, postgres: bool = False) -> None:
    """Connect once, as `connected` does. Raises `DatabaseError`."""
    with connected(url, variable, postgres=postgres):
        pass


@contextmanager
def connected(
    url: str, variable: str, *, postgres: bool = False, seconds: int = CONNECT_SECONDS
) -> "Iterator[Connection]":
    """A connection of its own that commits each statement; `variable` is where the address was read.

    With `postgres`, any other kind of database is refused. Raises `DatabaseMisnamed`, and `DatabaseUnreachable` where
    no connection comes about within `seconds`.
    """
    from sqlalchemy.exc import DBAPIError

    engine = _engine(url, variable, seconds)
    if postgres and engine.dialect.name != "postgresql":
        raise DatabaseMisnamed(
            f"{variable} {masked(url)} is a {engine.dialect.name} database",
            "name a Postgres, postgresql://…",
        )
    try:
        session = engine.connect()
    except DBAPIError as error:
        raise _unreachable(url, variable, engine.dialect.name, str(error.orig)) from error
    with session:
        yield session


def _engine(url: str, variable: str, seconds: int) -> "Engine":
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    from sqlalchemy.pool import NullPool

    try:
        address = make_url(with_driver(url))
        # Left to themselves, drivers wait for minutes.
        limit = {"connect_timeout": seconds} if address.get_backend_name() in ("postgresql", "mysql") else {}
        return create_engine(address, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=limit)
    except ImportError as error:
        raise DatabaseMisnamed(
            f"{variable} {masked(url)} needs a driver ({error})",
            "run `pip install 'visionops[postgres]'` and write postgresql://…",
        ) from error
    # A port that is no number is a ValueError of its own.
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise DatabaseMisnamed(
            f"{variable} {masked(url)} is no address of a database",
            "write postgresql://USER:PASSWORD@HOST/DATABASE",
        ) from error


def _unreachable(url: str, variable: str, dialect: str, said: str) -> DatabaseUnreachable:
    reason = first_line(said)
    server = f"{'Postgres' if dialect == 'postgresql' else f'the {dialect} database'} at {masked(url)}"
    if all(part in reason for part in _NO_SUCH_DATABASE):
        return DatabaseUnreachable(
            f"{server} has no such database ({reason})", f"create it, or correct {variable}"
        )
    if any(part in reason for part in _NOT_LET_IN):
        return DatabaseUnreachable(f"{server} does not let this user in ({reason})", f"correct {variable}")
    return DatabaseUnreachable(f"{server} did not answer ({reason})", f"start it, or correct {variable}")
