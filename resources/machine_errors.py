"""What a machine says no with, in words: full disks, read-only ones, files of another user, damaged databases, and a
bucket that does not answer.

No model and no batch is to blame for any of it: a run that ends so is no attempt.
"""

import errno
import os
import pwd
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from resources import home
from resources.databases import sqlite_path

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM}
_FAILS = {errno.EIO: "fails (input/output error)", errno.ESTALE: "was mounted anew"}
_HARDLY_ANY_ROOM = 16 << 20
_DAMAGED = ("malformed", "not a database", "disk i/o error")


def machine_error(error: BaseException) -> str | None:
    """One line for an error that the machine made, naming the thing and what mends it; None for any other."""
    for found in _chain(error):
        if isinstance(found, OSError) and not isinstance(found, TimeoutError):
            said = _of_system(found)
        elif isinstance(found, sqlite3.Error):
            said = _of_sqlite(found)
        else:
            said = _of_bucket(found)
        if said is not None:
            return said
    return None


def in_words(error: BaseException) -> str:
    """What to tell of an error: what it says, where somebody wrote that, else what a machine error means."""
    written = not isinstance(error, OSError | sqlite3.Error) and not hasattr(error, "orig")
    # An OSError of one's own has a sentence where the system has a few words.
    written |= (
        isinstance(error, OSError) and bool(error.errno) and error.strerror != os.strerror(error.errno or 0)
    )
    if not written:
        return machine_error(error) or str(error) or type(error).__name__
    said = str(error.strerror) if isinstance(error, OSError) and error.errno else str(error)
    mends = (
        machine_error(error.__cause__) if isinstance(error, OSError) and error.__cause__ is not None else None
    )
    return f"{said}: {mends}" if mends is not None else said or type(error).__name__


def hardly_any_room(folder: Path) -> bool:
    """Whether the disk of a folder may have been full just now: what a program took back that could not go on, and what
    was kept in reserve, is free again by the time that its error is told."""
    return shutil.disk_usage(folder).free < _HARDLY_ANY_ROOM


def damaged_databases(folder: Path | None = None) -> list[Path]:
    """The SQLite files of this home, or of one folder of it, that cannot be read."""
    files = _databases() if folder is None else sorted(folder.rglob("*.db"))
    return [file for file in files if _is_damaged(file)]


def way_back(file: Path) -> str:
    """What brings a damaged database back, and what it holds."""
    aside = f"mv {file} {file}.damaged"
    if file.is_relative_to(home.dagster_home()):
        return f"restore it from a backup, or `{aside}`: Dagster's history is lost, no model and no verdict"
    holds = "every commit" if file.is_relative_to(home.lakefs_data()) else "every model and verdict"
    return f"restore it from a backup, or try `sqlite3 {file} .recover`: it holds {holds}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came of, SQLAlchemy's own included."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        original = getattr(error, "orig", None)
        error = original if isinstance(original, BaseException) else error.__cause__ or error.__context__


def _of_system(error: OSError) -> str | None:
    place = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else home.home()
    if error.errno in _NO_ROOM:
        return (
            f"no room is left on the disk of {place}: free some space, or set VISIONOPS_HOME to a larger disk"
        )
    if error.errno == errno.EFBIG:
        return f"{place} may not become larger: raise `ulimit -f`"
    if error.errno == errno.EROFS:
        return f"{place} lies on a disk that can only be read: set VISIONOPS_HOME to a folder that can be written"
    if error.errno in _NOT_ALLOWED and error.filename is not None:
        return f"{place} {_not_allowed(place)}"
    if error.errno in _FAILS:
        return f"the disk of {place} {_FAILS[error.errno]}: `visionops doctor` tries it"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many files are open: raise `ulimit -n`"
    return None


def _of_sqlite(error: sqlite3.Error) -> str | None:
    said = str(error).lower()
    if "full" in said or ("disk i/o error" in said and _without_room()):
        return _of_system(OSError(errno.ENOSPC, "full"))
    if "readonly" in said or "unable to open" in said:
        files = sorted(_databases(), key=lambda file: os.access(file, os.R_OK))
        unwritable = next((file for file in files if not _may_be_written(file)), None)
        return f"{unwritable} {_not_allowed(unwritable)}" if unwritable is not None else None
    if not any(part in said for part in _DAMAGED):
        return None
    damaged = damaged_databases()
    if not damaged:
        return _of_system(OSError(errno.EIO, "fails")) if "disk i/o error" in said else None
    return f"{damaged[0]} is damaged: {way_back(damaged[0])}"


def _of_bucket(error: BaseException) -> str | None:
    """What keeps files in a bucket raises nothing of the system's where its connection is lost."""
    client = sys.modules.get("botocore.exceptions")
    if client is None or not isinstance(error, client.HTTPClientError | client.ConnectionError):
        return None
    return f"the connection to a bucket was lost ({error}): `visionops doctor` tries it"


def _without_room() -> bool:
    """Whether SQLite could not have its shared memory or journal, which it calls an I/O error."""
    return any(hardly_any_room(folder) for folder in {file.parent for file in _databases()})


def _not_allowed(place: Path) -> str:
    """Whose a file is that this user may not use, and how they may."""
    elsewhere = "set VISIONOPS_HOME to a folder that can be written"
    # What lies in a folder that may not be entered is there for all that can be known.
    there = next((each for each in (place, *place.parents) if _is_there(each)), place)
    try:
        owner, me = _name(there.stat().st_uid), _name(os.geteuid())
    except OSError:
        return f"cannot be used by this user: {elsewhere}"
    if _lies_on_readonly_disk(there):
        return f"lies on a disk that can only be read: {elsewhere}"
    whole = home.home() if there.is_relative_to(home.home()) else there
    if owner == me:
        return f"cannot be used: `chmod -R u+rwX {whole}`, or {elsewhere}"
    return f"belongs to {owner}, and this is {me}: run as {owner}, or `chown -R {me} {whole}`"


def _is_there(place: Path) -> bool:
    try:
        return place.exists()
    except PermissionError:
        return False


def _may_be_written(file: Path) -> bool:
    return os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)


def _lies_on_readonly_disk(place: Path) -> bool:
    with suppress(OSError):
        return bool(os.statvfs(place).f_flag & os.ST_RDONLY)
    return False


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        # As in a container that runs as any number.
        return f"user {user}"


def _databases() -> list[Path]:
    folders = (home.mlflow_folder(), home.lakefs_data(), home.dagster_home())
    found = [file for folder in folders if _is_there(folder) for file in sorted(folder.rglob("*.db"))]
    elsewhere = sqlite_path(home.mlflow_uri())
    return (
        found if elsewhere is None or elsewhere in found or not _is_there(elsewhere) else [*found, elsewhere]
    )


def _is_damaged(file: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            # One finding is enough.
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.OperationalError:
        # Locked, or not to be opened by this user: nothing is known of what it holds.
        return False
    except sqlite3.DatabaseError:
        return True
