"""`visionops home`: where local state lives, and how it goes to another place."""

import errno
import hashlib
import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from resources import home, reserve

# In the copy of a home, until the home that it was copied from is gone.
_RECORD = "moved-from.json"
# What every command puts into the home that it is told of.
_EVERYWHERE = ("dagster.yaml", reserve.NAME)

app = typer.Typer(help="Where local state lives, and moving it.", no_args_is_help=True)


class HomeNotMoved(RuntimeError):
    """A home that cannot be moved as it was asked; nothing has changed."""


@app.command("show")
def show() -> None:
    """Print the folder of all local state."""
    typer.echo(home.home())


@app.command("move")
def move(
    to: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that is not there yet.")],
) -> None:
    """Move all local state to another folder, on this disk or another one.

    A home can be moved or copied with any tool too: the first command there rewrites the addresses inside.
    """
    moved = move_home(home.home(), to.expanduser().absolute())
    typer.echo(f"moved to {moved}. Tell every shell and service where it is: `export VISIONOPS_HOME={moved}`")


def move_home(source: Path, target: Path) -> Path:
    """Move a home; returns where it is now. A kill leaves the source whole, or the target whole, and the same move goes
    on from there.

    Raises `HomeNotMoved` where the target is taken, or has no room, or somebody works in the source.
    """
    from resources.lakefs_connection import stop_embedded
    from resources.whole_outputs import remove_left

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
    from resources.whole_outputs import discard, whole_folder

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
    from resources.whole_outputs import discard

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
