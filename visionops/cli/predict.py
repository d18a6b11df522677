"""`visionops predict` and `labels`: what is in production answers images, in batches, and the images of production
that are most worth a label.
"""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resources.error_family import Invalid, NotFound
from visionops import interruption
from visionops_assets.tasks.task_registry import task

if TYPE_CHECKING:
    from visionops.drawing import Drawings
    from visionops.serving.prediction_log import PredictionLog
    from visionops_assets.dataset.importing.source_files import SourceFile
    from visionops_assets.monitoring.prediction import RunningModel


BATCH = 64
labels_app = typer.Typer(help="Images of production that are most worth a label.", no_args_is_help=True)
DAYS = 7


def predict_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    log: Annotated[bool, typer.Option("--log", help="Write the inference log.")] = False,
    device: Annotated[str, typer.Option(help="How the log names this machine; by default the host.")] = "",
    threads: Annotated[int, typer.Option(min=0, help="Threads of the model; 0: as many as it likes.")] = 0,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Boxes from this score on; by default where the model's validation had the best F1.",
        ),
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Draw the answers on the images, in this new folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show what the model in production says of images. With --log it counts as production: it is monitored.

    The log keeps all boxes of a detector, whatever --min-score shows.

    What lies in a folder beside images, by the names of the files, is skipped. Exit code 1 if an image could not be
    read; the others are answered.
    """
    interruption.keep("what was logged is kept, and the same command does not log it twice")
    from resources.safe_files import whole_folder
    from visionops import services
    from visionops.drawing import Drawings
    from visionops.serving.prediction_log import PredictionLog, this_machine
    from visionops_assets.monitoring.prediction import open_version, running_version

    found, registry = services.project(project), services.registry()
    files, skipped = _files(images)
    note = services.check_group(registry, project, group)
    model = open_version(registry, running_version(registry, project, group), threads)
    if note is not None:
        typer.echo(note, err=True)
    least, source = _least_score(model, min_score)
    written = None
    if log:
        written = PredictionLog(services.spool(), found, device or this_machine(), group, once=True)
    with whole_folder(draw) if draw is not None else nullcontext() as made:
        drawings = Drawings(draw, made, model.shipped.classes) if draw is not None and made else None
        answers = [
            told
            for start in range(0, len(files), BATCH)
            for told in _batch(model, files[start : start + BATCH], written, least, drawings)
        ]
        # Before the drawings have their name: where the log cannot be written, nothing is in the way of the next try.
        if written is not None:
            written.flush()
    if as_json:
        told = {
            "project": project,
            "model": model.to_json(),
            **({} if least is None else {"min_score": least, "min_score_from": source}),
            "predictions": answers,
            "skipped": [str(file) for file in skipped],
        }
        typer.echo(json.dumps(told, indent=1))
    else:
        shown = "" if least is None else f", boxes of a score of {least:g} and more ({source})"
        typer.echo(f"version {model.version} of {project}{shown}")
        _say(answers, skipped, draw)
    if written is not None:
        written.done()
    if any("error" in told for told in answers):
        raise typer.Exit(1)


def _say(answers: Sequence[dict[str, Any]], skipped: Sequence[object], draw: Path | None) -> None:
    from visionops.drawing import in_words

    for told in answers:
        typer.echo(f"error: {told['error']}" if "error" in told else f"{told['image']}: {in_words(told)}")
    if skipped:
        typer.echo(f"skipped, no image by its name: {', '.join(map(str, skipped))}", err=True)
    if draw is not None:
        typer.echo(f"drawn: {sum('drawn' in told for told in answers)} images in {draw}")


def _least_score(model: "RunningModel", asked: float | None) -> tuple[float | None, str]:
    """From which score on boxes are shown, and who says so; None for a classifier. Raises ValueError where one is
    asked of a classifier."""
    from edge.onnx_model import DEFAULT_MIN_SCORE

    if not task(model.shipped.task).sized:
        if asked is not None:
            raise Invalid(
                f"version {model.version} is a classifier, which draws no boxes: leave --min-score out"
            )
        return None, ""
    if asked is not None:
        return asked, "--min-score"
    if model.shipped.min_score is not None:
        return model.shipped.min_score, "the best F1 on validation"
    return DEFAULT_MIN_SCORE, "the default, this version has none of its own"


def _batch(
    model: "RunningModel",
    files: Sequence["SourceFile"],
    log: "PredictionLog | None",
    least: float | None,
    drawings: "Drawings | None",
) -> list[dict[str, Any]]:
    from datetime import UTC, datetime

    from visionops.serving.prediction_log import FLUSH_ROWS
    from visionops_assets.dataset.importing.image_source import SourceError
    from visionops_assets.monitoring.prediction import Picture, answer, meant, pictures

    contents: list[tuple[str, bytes]] = []
    unread: dict[int, str] = {}
    for place, file in enumerate(files):
        try:
            contents.append((str(file), file.read_bytes()))
        except SourceError as error:
            unread[place] = str(error)
    decoded = iter(pictures(contents, model.shipped))
    seen = [unread[place] if place in unread else next(decoded) for place in range(len(files))]
    readable = [each for each in seen if isinstance(each, Picture)]
    answers = answer(model, readable)
    if log is not None:
        log.add(readable, answers, datetime.now(UTC))
        if len(log) >= FLUSH_ROWS:
            log.flush()
    shown = iter(answers if least is None else [meant(said, least) for said in answers])
    found: list[dict[str, Any]] = []
    for file, each in zip(files, seen, strict=True):
        if not isinstance(each, Picture):
            found.append({"image": str(file), "error": str(each)})
            continue
        told = {"image": str(file), **_said(next(shown).to_json())}
        if drawings is not None:
            told["drawn"] = str(drawings.draw(Path(str(file)), each.data, told))
        found.append(told)
    return found


def _said(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without its model, which is said once."""
    return {name: value for name, value in answer.items() if name != "model"}


def _files(images: Sequence[Path]) -> "tuple[list[SourceFile], list[Path]]":
    """The files that are meant, a folder's by name, and what lies beside them there. Links of a folder lead nowhere
    else: one that leads out is a file that cannot be read.

    Raises FileNotFoundError for one that is not there, or a folder without images.
    """
    from visionops_assets.dataset.importing.file_listing import is_image_name, list_files
    from visionops_assets.dataset.importing.source_files import SourceFile

    meant: list[SourceFile] = []
    skipped: list[Path] = []
    for path in images:
        if path.is_dir():
            found = list_files(path)
            names = sorted([*found.images, *found.others, *found.links, *found.broken])
            wanted = [name for name in names if is_image_name(name) or not PurePosixPath(name).suffix]
            if not wanted:
                raise FileNotFoundError(f"{path}: the folder has no images")
            meant += map(found.file, wanted)
            skipped += [path / name for name in sorted({*names} - {*wanted} | {*found.special})]
        elif path.is_file():
            meant.append(SourceFile.named(path))
        else:
            raise FileNotFoundError(f"{path}: there is no such image")
    return meant, skipped


@labels_app.callback()
def labels_command() -> None:
    """Keeps `export` a verb of its own while it is the only one."""


@labels_app.command("export")
def export_command(
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
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Write the wanted images to a folder, to be labelled and imported as a batch.

    Classification: fill in `label` in labels.csv. Detection: correct the boxes of annotations.json in a labelling tool.
    Images drawn by lot, which say how well the model does, are always without its answers.
    """
    from visionops import services
    from visionops_assets.monitoring.captures import kept_frames
    from visionops_assets.monitoring.labels_wanted import export_images, wanted_days

    found, lakefs = services.project(project), services.lakefs()
    today = datetime.now(UTC).date()
    days = [_day(each) for each in day] if day else [today - timedelta(back) for back in range(DAYS)]
    wanted, boxes = wanted_days(services.artifacts(), found.project, sorted(days), found.task)
    if wanted.empty:
        raise NotFound(
            f"no image of {project} waits for a label {_shown_days(days)}. Production keeps images where "
            f"`production.captures` of the project file says so; `visionops tick {project}` chooses among those of "
            "each day. Other days: --day"
        )
    frames = kept_frames(lakefs, found, wanted["capture"])
    count = export_images(
        to, wanted, frames, task=found.task, classes=found.classes, boxes=boxes, format_=format_, blind=blind
    )
    gone = len(wanted) - count
    if as_json:
        told = {"project": project, "folder": str(to.absolute()), "images": count, "gone": gone}
        typer.echo(json.dumps(told, indent=1))
        return
    typer.echo(
        f"{count} images in {to}" + (f"; {gone} more are wanted, but their frames are gone" if gone else "")
    )
    typer.echo(f"when labelled: `visionops import {project} {to} --batch NAME`")


def _shown_days(days: list[date]) -> str:
    first, last = min(days), max(days)
    return f"of {first}" if first == last else f"from {first} to {last}"


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        said = f"{text} is no day: expected YYYY-MM-DD, such as {datetime.now(UTC).date()}"
        raise typer.BadParameter(said, param_hint="--day") from error
