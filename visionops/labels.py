"""`visionops labels`: the images of production that are most worth a label."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Images of production that are most worth a label.", no_args_is_help=True)

DAYS = 7


@app.callback()
def labels() -> None:
    """Keeps `export` a verb of its own while it is the only one."""


@app.command("export")
def export(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    to: Annotated[
        Path, typer.Option("--to", help="A new folder for the images and what is to be filled in.")
    ],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="What the labelling tool opens. Classification: csv (default), label-studio, cvat. Detection: coco "
            "(default), yolo, voc, csv, label-studio, cvat.",
        ),
    ] = "",
    blind: Annotated[
        bool,
        typer.Option("--blind", help="Without the model's answers, which go along as a start otherwise."),
    ] = False,
    day: Annotated[
        list[str] | None,
        typer.Option(
            "--day", help=f"Production day, YYYY-MM-DD; several times for several. Default: the last {DAYS}."
        ),
    ] = None,
) -> None:
    """Write the wanted images to a folder, to be labelled and imported as a batch.

    Classification: fill in `label` in labels.csv. Detection: correct the boxes of annotations.json in a labelling tool.
    Images drawn by lot, which say how well the model does, are always without its answers.
    """
    from visionops import services
    from visionops_assets.monitoring.frames import kept_frames
    from visionops_assets.monitoring.labels_export import export_images, wanted_days

    found, lakefs = services.project(project), services.lakefs()
    today = datetime.now(UTC).date()
    days = [_day(each) for each in day] if day else [today - timedelta(back) for back in range(DAYS)]
    wanted, boxes = wanted_days(services.artifacts(), found.project, sorted(days), found.task)
    if wanted.empty:
        raise LookupError(
            f"no image of {project} waits for a label {_shown(days)}. Production keeps images where "
            f"`production.captures` of the project file says so; `visionops tick {project}` chooses among those of "
            "each day. Other days: --day"
        )
    frames = kept_frames(lakefs, found, wanted["capture"])
    count = export_images(
        to, wanted, frames, task=found.task, classes=found.classes, boxes=boxes, format_=format_, blind=blind
    )
    gone = len(wanted) - count
    typer.echo(
        f"{count} images in {to}" + (f"; {gone} more are wanted, but their frames are gone" if gone else "")
    )
    typer.echo(f"when labelled: `visionops import {project} {to} --batch NAME`")


def _shown(days: list[date]) -> str:
    first, last = min(days), max(days)
    return f"of {first}" if first == last else f"from {first} to {last}"


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        said = f"{text} is no day: expected YYYY-MM-DD, such as {datetime.now(UTC).date()}"
        raise typer.BadParameter(said, param_hint="--day") from error
