"""`visionops init`: from images to a project and its first verdict."""

import contextlib
import dataclasses
import datetime
import functools
import re
import shlex
import sys
import textwrap
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resources import home
from resources.error_family import Invalid, Refused
from resources.escaping import without_secrets
from visionops import interruption
from visionops.cli import source_options
from visionops_assets.common import run_tags
from visionops_assets.tasks.task_registry import task

if TYPE_CHECKING:
    from visionops.cli.source_options import OpenedSource
    from visionops.first_project import FirstAnswers, FirstChoice
    from visionops_assets.config.project import Project
    from visionops_assets.dataset.batch_publishing import Published
    from visionops_assets.dataset.importing.first_look import FirstLook
    from visionops_assets.dataset.importing.image_columns import Source
    from visionops_assets.dataset.importing.statements import Stated


# Above this share of images without annotation a person says what they are.
_MANY_UNLABELLED = 0.2


class ProjectExists(Refused, ValueError):
    """A project file that is there already; it is never overwritten."""


def init_command(
    name: Annotated[str, typer.Argument(help="Name of the new project: a-z, 0-9 and _.")],
    source: Annotated[
        str, typer.Option("--from", help="Images with labels: folder, archive, or s3://bucket/folder.")
    ],
    batch: Annotated[str, typer.Option(help="Name that this first batch will have.")] = "batch-01",
    format_name: source_options.Format = None,
    encoding: source_options.Encoding = None,
    boxes: source_options.Boxes = None,
    unlabelled: source_options.Unlabelled = None,
    renamed: source_options.Renamed = None,
    dropped: source_options.Dropped = None,
    leave_out_errors: source_options.LeaveOutErrors = False,
    follow_links: source_options.FollowLinks = False,
    holdout: source_options.Holdout = None,
    preview: source_options.Preview = None,
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what came of it as JSON, whole, and all else as errors are.")
    ] = False,
) -> None:
    """Look at images and labels, write a commented project file, import the batch, and run to the first verdict.

    Asks what it cannot know, unless a flag says it. Never overwrites a project file.
    """
    from visionops.cli.importing import told_import
    from visionops.cli.source_options import opened_source
    from visionops.first_project import first_choice, holding_out
    from visionops.terminal import progress_line
    from visionops_assets.dataset.batch_publishing import BatchRefused
    from visionops_assets.dataset.importing.class_names import renames
    from visionops_assets.dataset.importing.first_look import first_look
    from visionops_assets.dataset.importing.reading import read_source
    from visionops_assets.dataset.importing.statements import Stated, known_unlabelled
    from visionops_assets.dataset.versions.layout import check_batch_name

    if as_json and not yes:
        raise Invalid("--json asks nothing: give --yes too, and flags for what is not to be the default")
    say = functools.partial(typer.echo, err=as_json)
    interruption.keep("nothing was made yet")
    check_batch_name(batch)
    path = _free_path(name)
    stated = Stated(
        format=format_name,
        encoding=encoding,
        boxes=boxes,
        unlabelled=known_unlabelled(unlabelled),
        renamed=renames(renamed or ()),
        dropped=frozenset(dropped or ()),
        leave_out_errors=leave_out_errors,
        follow_links=follow_links,
        holdout=holdout,
    )
    with contextlib.ExitStack() as stack:
        with progress_line(name) as progress:
            one = stack.enter_context(opened_source(source, progress))
        found = read_source(one.path, stated)
        stated, found = _unlabelled(one.path, found, stated, yes, say)
        look = first_look(found)
        if preview is not None:
            from visionops.cli.source_options import write_preview

            write_preview(found, preview)
            say(f"written: {preview / 'index.html'}")
        choice = first_choice(look) if holdout is None else holding_out(first_choice(look), holdout)
        say(_seen(look))
        say(_chosen(choice))
        given = {"--owner": owner, "--licence": licence, "--floor": floor, "--approval": approval}
        answers = _answers(yes, look, choice, description, given)
        project = _write(path, name, look, choice, answers)
        say(f"project file: {path}")
        if yes and (supposed := _supposed(given, answers)):
            say(supposed)
        flags = source_options.typed_options(stated)
        onwards = ("import", name, without_secrets(source), "--batch", batch, *flags)
        interruption.keep(f"the project file is kept, and {batch} is published whole or not at all", *onwards)
        made = functools.partial(told_import, name, batch, file=str(path))
        try:
            with progress_line(name) as progress:
                published = _publish(project, one, batch, stated, onwards, progress)
        except BatchRefused as refused:
            if as_json:
                typer.echo(made("refused", None, refused, verdict=None))
                raise typer.Exit(1) from refused
            raise
        _say_published(published, say)
        made = functools.partial(made, published.outcome, published.commit, published)
    interruption.keep(
        "project file and batch are kept, and a training up to its last checkpoint", "tick", name
    )
    if look.splits == {"train": look.images}:
        say(
            "every image came as train, so nothing is held out and no model can be judged. To hold out a quarter, by "
            f"group: `visionops {shlex.join(onwards)} --holdout 0.25`, then `visionops tick {name}`"
        )
        if as_json:
            typer.echo(made(verdict=None))
        return
    if not run:
        say(f"`visionops tick {name}`, or the sensor of `visionops up`, trains and evaluates")
        if as_json:
            typer.echo(made(verdict=None))
        return
    outcome = _first_verdict(name, say)
    if as_json:
        typer.echo(made(verdict=outcome))
    if outcome == "error":
        raise typer.Exit(1)
    if outcome == run_tags.AWAITING_APPROVAL:
        say(
            f"`visionops approve {name}` puts it in production; `visionops reject {name} --why TEXT` keeps it out"
        )
    explains = "why" if outcome == run_tags.PROMOTED else "status"
    say(f"`visionops {explains} {name}` explains it; `visionops up` shows it. The next batch:")
    say(
        f"  visionops import {name} SOURCE --batch NAME, or put it into {_drop(project)}/NAME, "
        "and an empty file _SUCCESS there when it is whole"
    )


def _free_path(name: str) -> Path:
    if not re.fullmatch(r"[a-z][a-z0-9_]{2,62}", name):
        raise Invalid(
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


def _unlabelled(
    path: Path, found: "Source", stated: "Stated", yes: bool, say: Callable[[str], None]
) -> tuple["Stated", "Source"]:
    """Where nothing is said of many images, ask what they are."""
    from visionops_assets.dataset.importing.reading import read_source
    from visionops_assets.dataset.importing.statements import UNLABELLED, known_unlabelled

    left_out = found.sums.images_left_out["without annotation"]
    missing = found.supposed + left_out
    if stated.unlabelled is not None or missing <= _MANY_UNLABELLED * found.sums.images:
        return stated, found
    default = "background" if found.supposed else "leave-out"
    told = f"{missing:,} of {found.sums.images:,} images have no annotation"
    if yes:
        say(f"{told}: --unlabelled {default} is the default")
        return stated, found
    if not _at_a_terminal():
        raise Invalid(f"{told}: say what they are with --unlabelled {', '.join(UNLABELLED)}")
    chosen = typer.prompt(f"{told}. They are ({', '.join(UNLABELLED)})", default=default)
    stated = dataclasses.replace(stated, unlabelled=known_unlabelled(chosen))
    return stated, read_source(path, stated)


def _seen(look: "FirstLook") -> str:
    from visionops.first_recipe import measures

    what = "boxes" if task(look.task).sized else "images"
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
    description: str,
    given: "Mapping[str, str | float | None]",
) -> "FirstAnswers":
    """What only people know: `given` by flag, asked for, or with --yes the default."""
    from visionops.first_project import FirstAnswers

    missing = [flag for flag, value in given.items() if value is None]
    asks = not yes and _at_a_terminal()
    if missing and not yes and not asks:
        raise Invalid(f"there is no terminal to ask at: give {', '.join(missing)}, or --yes for the defaults")

    def answer(flag: str, question: str, default: str) -> str:
        if (value := given[flag]) is not None:
            return str(value)
        return str(typer.prompt(question, default=default)) if asks else default

    classes = "class" if len(look.classes) == 1 else "classes"
    return FirstAnswers(
        description=description or f"{look.task.capitalize()} of {len(look.classes)} {classes}.",
        owner=answer("--owner", "Who owns it (team:<name> or e-mail)", "team:vision"),
        licence=answer("--licence", "Licence of the images", "proprietary"),
        floor=float(
            answer(
                "--floor",
                f"{task(look.task).score} below which no model is promoted",
                f"{choice.floor:g}",
            )
        ),
        approval=answer(
            "--approval",
            "What passes goes to production by itself (auto) or waits for a person (manual)",
            "auto",
        ),
    )


def _supposed(given: "Mapping[str, str | float | None]", answers: "FirstAnswers") -> str | None:
    """What --yes took by default; None where flags said everything."""
    taken = {
        "--owner": answers.owner,
        "--licence": answers.licence,
        "--floor": f"{answers.floor:g}",
        "--approval": answers.approval,
    }
    missing = [f"{flag} {value}" for flag, value in taken.items() if given[flag] is None]
    if not missing:
        return None
    by_itself = given["--approval"] is None and answers.approval == "auto"
    what = "; what passes goes to production by itself" if by_itself else ""
    return f"by default, and in that file: {', '.join(missing)}{what}"


def _at_a_terminal() -> bool:
    return sys.stdin.isatty()


def _write(
    path: Path,
    name: str,
    look: "FirstLook",
    choice: "FirstChoice",
    answers: "FirstAnswers",
) -> "Project":
    """Write the file once it is known to be a valid project; raises `ProjectError` and leaves nothing otherwise."""
    from visionops.first_project import project_file
    from visionops_assets.config.project import load_project

    text = project_file(name, look, choice, answers, datetime.datetime.now(datetime.UTC).date())
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
    one: "OpenedSource",
    batch: str,
    stated: "Stated",
    onwards: Sequence[str],
    progress: Callable[[str, int, int], None],
) -> "Published":
    from visionops import services
    from visionops_assets.dataset.batch_publishing import BatchRefused, Publisher

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
        return publisher.publish(one.path, batch, stated, one.address)
    except BatchRefused as refused:
        raise BatchRefused(
            f"{refused}\nThe project file stays. Then: `visionops {shlex.join(onwards)}`",
            refused.branch,
            refused.images,
            refused.findings,
            refused.sums,
        ) from refused


def _say_published(published: "Published", say: Callable[[str], None]) -> None:
    from visionops_assets.common.findings import findings_in_words
    from visionops_assets.dataset.batch_publishing import SHOWN_LINES

    if not published.findings.empty:
        say(findings_in_words(published.findings, lines=SHOWN_LINES))
    say(published.sums.in_words())
    say(published.splits.in_words())
    say(f"{published.batch}: {published.images:,} images {published.outcome}")


def _first_verdict(name: str, say: Callable[[str], None]) -> str | None:
    import definitions
    from visionops import services
    from visionops.terminal import shown_progress
    from visionops.tick import tick
    from visionops_assets.config.project import find_project

    project = find_project(definitions.projects, name)
    say("training and evaluating; this can take minutes")
    with services.dagster() as instance, shown_progress():
        ticks = tick(definitions.defs, instance, [project], say=say, wait=True)
    return ticks[-1].outcome


def _drop(project: "Project") -> str:
    return project.drop.address or f"{home.drop().rstrip('/')}/{project.project}"
