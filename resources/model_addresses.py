"""MLflow's local store keeps whole addresses of artifacts; in a folder that was moved or copied they are rewritten.

Else a copy would read and write the artifacts of the home that it was copied from, and a moved home would miss its own.
"""

import contextlib
import logging
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlparse

# Every column that holds an address of artifacts.
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
ARTIFACTS = "artifacts"
_log = logging.getLogger("visionops.home")


def follow_folder(database: Path, folder: Path | None = None, *, say: bool = True) -> list[Path]:
    """Rewrite what names the artifacts beside a former place of `database`; returns those places, and says so once.

    `folder` is where the artifacts lie, by default beside the database.

    Nothing is rewritten while the former place is a name of this folder, as a link to it is. One transaction, so a
    kill leaves all or none.

    Raises `sqlite3.Error`.
    """
    here = folder or database.absolute().parent
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        former = [place for place in _places(connection, here) if not _is_here(place, here)]
        for place in former:
            rewritten = sum(_rewrite(connection, table, column, place, here) for table, column in ADDRESSES)
            if say:
                _log.warning(
                    "%s was moved or copied from %s: %d addresses of artifacts in %s name this folder now",
                    *(here, place, rewritten, database.name),
                )
    return former


def _places(connection: sqlite3.Connection, here: Path) -> list[Path]:
    """The folders beside which experiments keep their artifacts in the way that this store does.

    An experiment that a person sent elsewhere stays there: its files do not lie here, and its folder is not called as
    this one.
    """
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
        return []
    places = set()
    for (location,) in connection.execute("SELECT artifact_location FROM experiments"):
        folder = _folder(location)
        if folder is None or folder.parent.name != ARTIFACTS:
            continue
        place = folder.parent.parent
        if place.name == here.name or (here / ARTIFACTS / folder.name).is_dir():
            places.add(place)
    return sorted(places)


def _folder(location: str | None) -> Path | None:
    parts = urlparse(location or "")
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.path else None


def _is_here(place: Path, here: Path) -> bool:
    try:
        return place.samefile(here)
    except OSError:
        return False


def _rewrite(connection: sqlite3.Connection, table: str, column: str, place: Path, here: Path) -> int:
    old, new = (f"{(folder / ARTIFACTS).as_uri()}/" for folder in (place, here))
    changed = connection.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
        (new, len(old) + 1, len(old), old),
    )
    return changed.rowcount
