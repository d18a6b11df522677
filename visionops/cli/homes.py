"""`visionops home`: where local state lies, and how it goes to another place. One `visionops up` on a home: two
daemons would both start every run.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import psutil
import typer

from edge.files import named_path
from resources import home
from resources.error_family import Refused

# In the copy of a home, until the home that it was copied from is gone.
_RECORD = "moved-from.json"
# What every command puts into the home that it is told of.
_EVERYWHERE = ("dagster.yaml", home.RESERVE_NAME)

home_app = typer.Typer(help="Where local state lives, and moving it.", no_args_is_help=True)
# As long as the guard of an `up` that was killed may need, and more.
WAIT_SECONDS = 40.0
_TELL_WITHIN_SECONDS = 1.0
_LOOK_EVERY_SECONDS = 0.1
# What two readings of one process's start may differ by.
_CLOCK_TOLERANCE_SECONDS = 2.0


class HomeNotMoved(Refused, RuntimeError):
    """A home that cannot be moved as it was asked; nothing has changed."""


@home_app.command("show")
def show_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Print the folder of all local state."""
    where = str(home.home())
    typer.echo(json.dumps({"home": where}, indent=1) if as_json else where)


@home_app.command("move")
def move_command(
    to: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that is not there yet.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Move all local state to another folder, on this disk or another one.

    A home can be moved or copied with any tool too: the first command there rewrites the addresses inside.
    """
    before = home.home()
    moved = move_home(before, named_path(to).absolute())
    if as_json:
        typer.echo(json.dumps({"home": str(moved), "before": str(before)}, indent=1))
        return
    typer.echo(f"moved to {moved}. Tell every shell and service where it is: `export VISIONOPS_HOME={moved}`")


def move_home(source: Path, target: Path) -> Path:
    """Move a home; returns where it is now. A kill leaves the source whole, or the target whole, and the same move goes
    on from there.

    Raises `HomeNotMoved` where the target is taken, or has no room, or somebody works in the source.
    """
    from resources.lakefs.connection import stop_embedded
    from resources.safe_files import remove_left

    if target.is_relative_to(source):
        raise HomeNotMoved(f"{target} lies inside of {source}; name a folder outside of it")
    if not _holds_state(source) and _holds_state(target):
        # A move was killed when it was all but done.
        if source.is_dir():
            _require_bare(source, target)
            shutil.rmtree(source)
        remove_left(source)
        return _arrived(target)
    again = (target / _RECORD).is_file()
    if target.exists() and not again:
        raise HomeNotMoved(f"{target} is there already; name a folder that is not")
    if not _holds_state(source):
        raise HomeNotMoved(
            f"{source} holds no local state; VISIONOPS_HOME names the home that is to be moved"
        )
    if not stop_embedded(source / "lakefs"):
        raise HomeNotMoved(
            f"somebody works in {source}: end `visionops up` and what else runs there, then move it"
        )
    if again:
        _give_up_copy(target, source)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_to_another_disk(source, target)
    return _arrived(target)


def _holds_state(folder: Path) -> bool:
    return (folder / "mlflow").is_dir() or (folder / "lakefs").is_dir()


def _require_bare(source: Path, target: Path) -> None:
    """Raise `HomeNotMoved` where there is more in a home than every command puts there."""
    for file in source.rglob("*"):
        if file.is_file() and not file.is_relative_to(source / "cache") and file.name not in _EVERYWHERE:
            raise HomeNotMoved(
                f"{target} is there already, and {source} holds {file.relative_to(source)} but no local state: "
                f"`export VISIONOPS_HOME={target}` where that is your home, or name a folder that is not there"
            )


def _arrived(target: Path) -> Path:
    """The home at its new place, whose addresses name it."""
    from resources.models.mlflow_client import open_client

    (target / _RECORD).unlink(missing_ok=True)
    if (target / "mlflow" / "mlflow.db").is_file():
        open_client(f"sqlite:///{target / 'mlflow' / 'mlflow.db'}")
    return target


def _move_to_another_disk(source: Path, target: Path) -> None:
    """The copy appears under its name when it is whole, and only then the source goes, at once."""
    from resources.safe_files import discard, whole_folder

    needed = sum(file.lstat().st_size for file in source.rglob("*") if not file.is_dir())
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise HomeNotMoved(
            f"no room is left on the disk of {target}: {source} takes {needed:,} bytes, {free:,} are free; free some "
            "space, or name a folder on a larger disk"
        )
    with whole_folder(target) as made:
        try:
            shutil.copytree(source, made, symlinks=True, dirs_exist_ok=True, copy_function=_copied)
        except _NotCopied as error:
            raise error.cause from None
        (made / _RECORD).write_text(json.dumps({"from": str(source), "files": _listing(made)}))
    discard(source)


class _NotCopied(Exception):
    """What `copytree`, which goes on after an OSError, stops at."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _copied(source: str, target: str) -> str:
    try:
        return shutil.copy2(source, target, follow_symlinks=False)
    except OSError as error:
        raise _NotCopied(error) from error


def _give_up_copy(target: Path, source: Path) -> None:
    """Remove what a killed move copied. Raises `HomeNotMoved` where somebody worked in it since."""
    from resources.safe_files import discard

    record = json.loads((target / _RECORD).read_text())
    if record != {"from": str(source), "files": _listing(target)}:
        raise HomeNotMoved(
            f"{target} was copied from {record['from']} by a move that was killed, and used since: keep it by `export "
            f"VISIONOPS_HOME={target}`, or `rm -r {target}` and move {source} again"
        )
    discard(target)


def _listing(folder: Path) -> str:
    """The digest of what there is, by names, sizes and times."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if not file.is_dir() and file.name != _RECORD:
            found = file.lstat()
            digest.update(f"{file.relative_to(folder)}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return digest.hexdigest()


class HomeInUse(Refused, RuntimeError):
    """Another `visionops up` runs on the home; the message says which."""


@contextlib.contextmanager
def only_one(page: str) -> Iterator[list[int]]:
    """Hold the home while the block lasts; give the open files that hold it, for a process that may outlive this one.

    `page` is where this `up` will answer. Waits for what an `up` that was killed has left. Raises `HomeInUse`.
    """
    started = psutil.Process().create_time()
    holder = {
        "pid": os.getpid(),
        "started": started,
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "page": page,
    }
    with ExitStack() as held:
        yield [held.enter_context(_locked(file, holder)) for file in _places()]


@contextlib.contextmanager
def _locked(file: Path, holder: dict[str, object]) -> Iterator[int]:
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        began = time.monotonic()
        while not _taken(handle):
            _require_gone(handle, time.monotonic() - began)
            time.sleep(_LOOK_EVERY_SECONDS)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(holder).encode(), 0)
        yield handle
        os.ftruncate(handle, 0)
    finally:
        # Closed, not unlocked: the guard keeps it until nothing is left.
        os.close(handle)


def _taken(handle: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _require_gone(handle: int, waited: float) -> None:
    """Raise `HomeInUse` unless what holds the lock is on its way out, or may be, or has not said yet what it is."""
    said = _holder(handle)
    if waited < (WAIT_SECONDS if said and not _is_alive(said) else _TELL_WITHIN_SECONDS):
        return
    pid = said.get("pid")
    who = f"process {pid} since {said.get('since')}, at {said.get('page')}" if said else "another process"
    stop = f"stop it (`kill {pid}`)" if said else "stop it"
    raise HomeInUse(
        f"`visionops up` runs already on {home.home()} ({who}): use it, {stop}, or set VISIONOPS_HOME to another folder"
    )


def _holder(handle: int) -> dict[str, object]:
    with contextlib.suppress(OSError, ValueError):
        said = json.loads(os.pread(handle, 4096, 0))
        return said if isinstance(said, dict) else {}
    return {}


def _is_alive(said: dict[str, object]) -> bool:
    """Whether the process that wrote this runs: not another one of its number, nor one that was killed."""
    try:
        process = psutil.Process(int(str(said.get("pid"))))
        same = abs(process.create_time() - float(str(said.get("started")))) < _CLOCK_TOLERANCE_SECONDS
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, ValueError):
        return False


def _places() -> Iterator[Path]:
    """The files of the lock; the first only where something can be written beside the home."""
    folder = home.home().resolve()
    if os.access(folder.parent, os.W_OK):
        yield folder.with_name(f".{folder.name.removeprefix('.')}.up.lock")
    yield folder / "up.lock"
