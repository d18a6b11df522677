"""`visionops home`: where local state lives, and how it goes to another place."""

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from resources import home

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
    """Move a home. A kill leaves the source whole, or the target whole; returns where it is now.

    Raises `HomeNotMoved` where the target is taken or somebody works in the source.
    """
    from resources.lakefs_connection import stop_embedded
    from resources.model_connection import open_client

    if target.exists():
        raise HomeNotMoved(f"{target} is there already; name a folder that is not")
    if target.is_relative_to(source):
        raise HomeNotMoved(f"{target} lies inside of {source}; name a folder outside of it")
    if not (source / "mlflow").is_dir() and not (source / "lakefs").is_dir():
        raise HomeNotMoved(
            f"{source} holds no local state; VISIONOPS_HOME names the home that is to be moved"
        )
    if not stop_embedded(source / "lakefs"):
        raise HomeNotMoved(
            f"somebody works in {source}: end `visionops up` and what else runs there, then move it"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError:
        # Another disk: the copy appears under its name when it is whole, and only then the source goes.
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            shutil.copytree(source, partial, symlinks=True)
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(source)
    if (target / "mlflow" / "mlflow.db").is_file():
        open_client(f"sqlite:///{target / 'mlflow' / 'mlflow.db'}")
    return target
