"""`visionops init`: from images to a project and its first verdict."""

import contextlib
import datetime
import re
import sys
import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resources import home
from resources.masking import without_secrets
from visionops import interruption

if TYPE_CHECKING:
    from visionops.first_choice import FirstChoice
    from visionops.sources import Opened
    from visionops_assets.dataset.first_look import FirstLook
    from visionops_assets.project import Project


class ProjectExists(ValueError):
    """A project file that is there already; it is never overwritten."""


def command(
    name: Annotated[str, typer.Argument(help="Name of the new project: a-z, 0-9 and _.")],
    source: Annotated[
        str, typer.Option("--from", help="Images with labels: folder, archive, or s3://bucket/folder.")
    ],
    batch: Annotated[str, typer.Option(help="Name that this first batch will have.")] = "batch-01",
    format_name: Annotated[
        str | None, typer.Option("--format", help="How the source keeps its labels; detected if not given.")
    ] = None,
    description: Annotated[str, typer.Option(help="What the model is for, in one sentence.")] = "",
    owner: Annotated[str | None, typer.Option(help="team:<name> or an e-mail address.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the images.")] = None,
    floor: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Accuracy (of boxes mAP@0.5) below which no model goes to production."
        ),
    ] = None,
    approval: Annotated[
        str | None, typer.Option(help="auto: what passes goes to production; manual: it waits for a person.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing; what no flag says is the default.")
    ] = False,
    run: Annotated[bool, typer.Option(help="Train and judge at once.")] = True,
) -> None:
    """Look at images and labels, write a commented project file, import the batch, and run to the first verdict.

    Asks what it cannot know, unless a flag says it. Never overwrites a project file.
    """
    from visionops.first_choice import first_choice
    from visionops.progress import progress_line
    from visionops.sources import opened
    from visionops_assets.dataset.first_look import first_look
    from visionops_assets.dataset.importing.options import Stated
    from visionops_assets.dataset.importing.reading import read_source
    from visionops_assets.dataset.layout import check_batch_name

    interruption.keep("nothing was made yet")
    check_batch_name(batch)
    path = _free_path(name)
    with contextlib.ExitStack() as stack:
        with progress_line(name) as progress:
            one = stack.enter_context(opened(source, progress))
        look = first_look(read_source(one.path, Stated(format_name)))
        choice = first_choice(look)
        typer.echo(_seen(look))
        typer.echo(_chosen(choice))
        answers = _answers(yes, look, choice, owner=owner, licence=licence, floor=floor, approval=approval)
        project = _write(path, name, look, choice, description, *answers)
        typer.echo(f"project file: {path}")
        form = ("--format", format_name) if format_name else ()
        onwards = ("import", name, without_secrets(source), "--batch", batch, *form)
        interruption.keep(f"the project file is kept, and {batch} is published whole or not at all", *onwards)
        with progress_line(name) as progress:
            _publish(project, one, batch, format_name, source, progress)
    interruption.keep(
        "project file and batch are kept, and a training up to its last checkpoint", "tick", name
    )
    if not run:
        typer.echo(f"`visionops tick {name}`, or the sensor of `visionops up`, trains and judges")
        return
    outcome = _first_verdict(name)
    if outcome == "error":
        raise typer.Exit(1)
    typer.echo(f"`visionops why {name}` explains it; `visionops up` shows it. The next batch: ")
    typer.echo(f"  visionops import {name} SOURCE --batch NAME, or put it into {_drop(project)}/NAME")


def _free_path(name: str) -> Path:
    if not re.fullmatch(r"[a-z][a-z0-9_]{2,62}", name):
        raise ValueError(
            f"{name!r} cannot name a project: a letter a-z, then at least two of a-z, 0-9 and _ (for example defects)"
        )
    folder = home.projects_folder()
    for path in (folder / f"{name}.yaml", folder / f"{name}.yml"):
        if path.exists():
            raise ProjectExists(
                f"{path} is there already and is never overwritten: take another name, or import into it with "
                f"`visionops import {name} SOURCE --batch NAME`"
            )
    return folder / f"{name}.yaml"


def _seen(look: "FirstLook") -> str:
    from visionops.first_recipe import measures

    what = "boxes" if look.task == "detection" else "images"
    classes = ", ".join(f"{label} ({count:,})" for label, count in list(look.classes.items())[:10])
    more = f" and {len(look.classes) - 10} more" if len(look.classes) > 10 else ""
    colours = "grey" if look.channels == 1 else "colour"
    return (
        f"{look.images:,} labelled images ({look.format}), {look.task}, {measures(look)}, {colours}\n"
        f"{len(look.classes)} {'class' if len(look.classes) == 1 else 'classes'}, {what} of each: {classes}{more}"
    )


def _chosen(choice: "FirstChoice") -> str:
    """What a person should know of the choice before it costs time; the project file says the rest."""
    said = (choice.why[field] for field in ("input", "epochs", "splits") if field in choice.why)
    return "\n".join(textwrap.fill(text, 110, break_long_words=False) for text in said)


def _answers(
    yes: bool,
    look: "FirstLook",
    choice: "FirstChoice",
    *,
    owner: str | None,
    licence: str | None,
    floor: float | None,
    approval: str | None,
) -> tuple[str, str, float, str]:
    """What only people know: given, asked for, or with --yes the default."""
    missing = [
        flag
        for flag, value in (
            ("--owner", owner),
            ("--licence", licence),
            ("--floor", floor),
            ("--approval", approval),
        )
        if value is None
    ]
    asks = not yes and _at_a_terminal()
    if missing and not yes and not asks:
        raise ValueError(
            f"there is no terminal to ask at: give {', '.join(missing)}, or --yes for the defaults"
        )

    def answer(value: str | None, question: str, default: str) -> str:
        if value is not None:
            return value
        return str(typer.prompt(question, default=default)) if asks else default

    return (
        answer(owner, "Who owns it (team:<name> or e-mail)", "team:vision"),
        answer(licence, "Licence of the images", "proprietary"),
        float(
            answer(
                None if floor is None else str(floor),
                f"{'mAP@0.5' if look.task == 'detection' else 'Accuracy'} below which no model is promoted",
                f"{choice.floor:g}",
            )
        ),
        answer(
            approval, "What passes goes to production by itself (auto) or waits for a person (manual)", "auto"
        ),
    )


def _at_a_terminal() -> bool:
    return sys.stdin.isatty()


def _write(
    path: Path,
    name: str,
    look: "FirstLook",
    choice: "FirstChoice",
    description: str,
    owner: str,
    licence: str,
    floor: float,
    approval: str,
) -> "Project":
    """Write the file once it is known to be a valid project; raises `ProjectError` and leaves nothing otherwise."""
    from visionops.project_template import project_file
    from visionops_assets.project import load_project

    classes = "class" if len(look.classes) == 1 else "classes"
    text = project_file(
        name,
        look,
        choice,
        description=description or f"{look.task.capitalize()} of {len(look.classes)} {classes}.",
        owner=owner,
        licence=licence,
        floor=floor,
        approval=approval,
        since=datetime.datetime.now(datetime.UTC).date(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: half of one would be in the way of the next command.
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        unfinished.write_text(text)
        project = load_project(unfinished)
        path.hardlink_to(unfinished)
    except FileExistsError:
        raise ProjectExists(f"{path} was made meanwhile by somebody else; take another name") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return project


def _publish(
    project: "Project",
    one: "Opened",
    batch: str,
    format_name: str | None,
    source: str,
    progress: Callable[[str, int, int], None],
) -> None:
    from visionops import services
    from visionops_assets.dataset.findings import findings_in_words
    from visionops_assets.dataset.importing.options import Stated
    from visionops_assets.dataset.publishing import BatchRefused, Publisher

    publisher = Publisher(
        project,
        services.lakefs(),
        services.artifacts(),
        progress,
        metadata=dict(one.provenance),
        check_source=one.check_unchanged,
        neighbours=services.neighbours(project),
    )
    try:
        published = publisher.publish(one.path, batch, Stated(format_name), one.address)
    except BatchRefused as refused:
        raise BatchRefused(
            f"{refused}\nThe project file stays. Then: `visionops import {project.project} {source} --batch {batch}`",
            refused.branch,
            refused.images,
            refused.findings,
        ) from refused
    if not published.findings.empty:
        typer.echo(findings_in_words(published.findings))
    typer.echo(f"{batch}: {published.images:,} images {published.outcome}")


def _first_verdict(name: str) -> str | None:

    import definitions
    from visionops import services
    from visionops.run_progress import shown_progress
    from visionops.tick import tick
    from visionops_assets.project import find_project

    project = find_project(definitions.projects, name)
    typer.echo("training and judging; this can take minutes")
    with services.dagster() as instance, shown_progress():
        ticks = tick(definitions.defs, instance, [project], say=typer.echo, wait=True)
    return ticks[-1].outcome


def _drop(project: "Project") -> str:
    return project.drop.address or f"{home.drop().rstrip('/')}/{project.project}"
