"""What a machine says no with, in words: full disks, read-only ones, files of another user, damaged databases.

No model and no batch is to blame for any of it: a run that ends so is no attempt.
"""

import errno
import os
import pwd
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from resources import home

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM}
_FAILS = {errno.EIO: "fails (input/output error)", errno.ESTALE: "was mounted anew"}
_DAMAGED = ("malformed", "not a database", "disk i/o error")


def machine_error(error: BaseException) -> str | None:
    """One line for an error that the machine made, naming the thing and what mends it; None for any other."""
    for found in _chain(error):
        if isinstance(found, OSError) and not isinstance(found, TimeoutError):
            said = _of_system(found)
        elif isinstance(found, sqlite3.Error):
            said = _of_sqlite(found)
        else:
            said = None
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
    return (None if written else machine_error(error)) or str(error) or type(error).__name__


def damaged_databases() -> list[Path]:
    """The SQLite files of this home that cannot be read."""
    return [file for file in _databases() if _is_damaged(file)]


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
    if "full" in said:
        return _of_system(OSError(errno.ENOSPC, "full"))
    if "readonly" in said or "unable to open" in said:
        unwritable = next((file for file in _databases() if not os.access(file.parent, os.W_OK)), None)
        return f"{unwritable} {_not_allowed(unwritable.parent)}" if unwritable is not None else None
    if not any(part in said for part in _DAMAGED):
        return None
    damaged = damaged_databases()
    if not damaged:
        return None
    return f"{damaged[0]} is damaged: {_mends(damaged[0])}"


def _mends(file: Path) -> str:
    """What is lost with a database, and what brings it back."""
    aside = f"mv {file} {file}.damaged"
    if file.is_relative_to(home.dagster_home()):
        return f"restore it from a backup, or `{aside}`: Dagster's history is lost, no model and no verdict"
    if file.is_relative_to(home.mlflow_folder()):
        return f"restore it from a backup, or try `sqlite3 {file} .recover`: it holds every model and verdict"
    return f"restore it from a backup, or try `sqlite3 {file} .recover`: it holds every commit"


def _not_allowed(place: Path) -> str:
    """Whose a file is that this user may not use, and how they may."""
    there = next((each for each in (place, *place.parents) if each.exists()), place)
    try:
        owner, me = _name(there.stat().st_uid), _name(os.geteuid())
    except OSError:
        return "cannot be used by this user: set VISIONOPS_HOME to a folder that can be written"
    if owner == me:
        return (
            f"cannot be written: `chmod u+rwX {there}`, or set VISIONOPS_HOME to a folder that can be written"
        )
    return f"belongs to {owner}, and this is {me}: run as {owner}, or `chown -R {me} {home.home()}`"


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        # As in a container that runs as any number.
        return f"user {user}"


def _databases() -> list[Path]:
    folders = (home.dagster_home(), home.mlflow_folder(), home.lakefs_data())
    return [file for folder in folders if folder.is_dir() for file in sorted(folder.rglob("*.db"))]


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
