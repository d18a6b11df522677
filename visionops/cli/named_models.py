"""`visionops models`: what a recipe may name."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from visionops_assets.config.model_catalogue import CataloguedModel, catalogue
from visionops_assets.tasks import task_registry as tasks

_COLUMNS = ("name", "task", "parameters", "side", "code", "weights", "needs", "tested")
_NOT_THERE = (
    "No segmentation, key points or rotated boxes, and no tiling of large images. A model of one's own goes by "
    "model.class_path (docs/training.md)."
)


def models_command(
    task: Annotated[str | None, typer.Option("--task", help="Only those for this task.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the models that a recipe may name, as `model: {name: timm/resnet18}`.

    Each with its parameters, the side in pixels of the images that its published weights were made for, the licences of
    its code and of these weights, the extra that it needs, and whether a test trains it and exports it.
    """
    if task is not None:
        tasks.task(task)
    listed = [model for model in catalogue().values() if task in (None, model.task)]
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(model) for model in listed], indent=1))
        return
    for line in _aligned([_COLUMNS, *map(_cells, listed)]):
        typer.echo(line)
    typer.echo(f"{len(listed)} models. {_NOT_THERE}")


def _cells(model: CataloguedModel) -> tuple[str, ...]:
    published = (model.weights_licence or "not stated") if model.weights else "none"
    needs = f"visionops[{model.needs}]" if model.needs else ""
    tested = "tested" if model.tested else ""
    parameters = "" if model.parameters is None else f"{model.parameters / 1e6:.1f} M"
    return (model.name, model.task, parameters, str(model.side), model.licence, published, needs, tested)


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(_padded(row, widths)).rstrip()


def _padded(row: Iterable[str], widths: Iterable[int]) -> Iterator[str]:
    for cell, width in zip(row, widths, strict=True):
        yield cell.ljust(width)
