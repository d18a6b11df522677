"""`visionops predict`: what is in production answers images, in batches."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from visionops.prediction_log import PredictionLog
    from visionops_assets.monitoring.prediction import RunningModel

BATCH = 64


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    log: Annotated[bool, typer.Option("--log", help="Write the inference log.")] = False,
    device: Annotated[str, typer.Option(help="How the log names this machine; by default the host.")] = "",
    threads: Annotated[int, typer.Option(min=0, help="Threads of the model; 0: as many as it likes.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show what the model in production says of images. With --log it counts as production: it is monitored.

    What lies in a folder beside images, by the names of the files, is skipped. Exit code 1 if an image could not be
    read; the others are answered.
    """
    from visionops import services
    from visionops.prediction_log import PredictionLog, this_machine
    from visionops_assets.monitoring.prediction import open_version, running_version

    found, registry = services.project(project), services.registry()
    files, skipped = _files(images)
    model = open_version(registry, running_version(registry, project, group), threads)
    written = None
    if log:
        written = PredictionLog(services.spool(), found, device or this_machine(), group)
    answers = [
        told
        for start in range(0, len(files), BATCH)
        for told in _batch(model, files[start : start + BATCH], written)
    ]
    if written is not None:
        written.flush()
    if as_json:
        told = {
            "project": project,
            "model": model.to_json(),
            "predictions": answers,
            "skipped": [str(file) for file in skipped],
        }
        typer.echo(json.dumps(told, indent=1))
    else:
        typer.echo(f"version {model.version} of {project}")
        for told in answers:
            typer.echo(_line(told))
        if skipped:
            typer.echo(f"skipped, no image by its name: {', '.join(map(str, skipped))}", err=True)
    if any("error" in told for told in answers):
        raise typer.Exit(1)


def _batch(model: "RunningModel", files: Sequence[Path], log: "PredictionLog | None") -> list[dict[str, Any]]:
    from datetime import UTC, datetime

    from visionops_assets.monitoring.prediction import Picture, answer, pictures

    seen = pictures([(str(file), file.read_bytes()) for file in files], model.shipped)
    readable = [each for each in seen if isinstance(each, Picture)]
    answers = answer(model, readable)
    if log is not None:
        log.add(readable, answers, datetime.now(UTC))
    told = iter(answers)
    return [
        {"image": str(file), **_said(next(told).to_json())}
        if isinstance(each, Picture)
        else {"image": str(file), "error": str(each)}
        for file, each in zip(files, seen, strict=True)
    ]


def _said(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without its model, which is said once."""
    return {name: value for name, value in answer.items() if name != "model"}


def _files(images: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The files that are meant, a folder's by name, and what lies beside them there.

    Raises FileNotFoundError for one that is not there, or a folder without images.
    """
    from visionops_assets.dataset.formats.source import IMAGE_SUFFIXES

    meant: list[Path] = []
    skipped: list[Path] = []
    for path in images:
        if path.is_dir():
            files = sorted(
                file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")
            )
            found = [file for file in files if file.suffix.lower() in ("", *IMAGE_SUFFIXES)]
            if not found:
                raise FileNotFoundError(f"{path}: the folder has no images")
            meant += found
            skipped += sorted({*files} - {*found})
        elif path.is_file():
            meant.append(path)
        else:
            raise FileNotFoundError(f"{path}: there is no such image")
    return meant, skipped


def _line(told: dict[str, Any]) -> str:
    if "error" in told:
        return f"error: {told['error']}"
    if "boxes" in told:
        shown = ", ".join(f"{box['label']} {box['score']:.2f}" for box in told["boxes"]) or "nothing"
        return f"{told['image']}: {shown}"
    return f"{told['image']}: {told['prediction']} {told['confidence']:.2f}"
