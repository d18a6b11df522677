"""`visionops models`: what a recipe may name; `visionops weights`: what is published for it, pinned."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer
import yaml

from visionops_assets.config.model_catalogue import CataloguedModel, catalogue, catalogued
from visionops_assets.tasks import task_registry as tasks

_COLUMNS = ("name", "task", "parameters", "side", "code", "weights", "needs", "tested")
_NOT_THERE = (
    "No segmentation, key points or rotated boxes, and no tiling of large images. A model of one's own goes by "
    "model.class_path (docs/training.md)."
)


weights_app = typer.Typer(help="Weights to start from.", no_args_is_help=True)


def models_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Only those with this in their name.", show_default=False),
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="Only those for this task.")] = None,
    tested: Annotated[
        bool, typer.Option("--tested", help="Only those that a test trains and exports.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the models that a recipe may name, as `model: {name: timm/resnet18}`.

    Each with its parameters, the side in pixels of the images that its published weights were made for, the licences of
    its code and of these weights, the extra that it needs, and whether a test trains it and exports it.
    """
    if task is not None:
        tasks.task(task)
    wanted = (name or "").lower()
    listed = [
        model
        for model in catalogue().values()
        if task in (None, model.task) and wanted in model.name.lower() and (model.tested or not tested)
    ]
    if name is not None and not listed and not tested:
        # Raises, with the nearest.
        listed = [catalogued(name)]
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(model) for model in listed], indent=1))
        return
    for line in _aligned([_COLUMNS, *map(_cells, listed)]):
        typer.echo(line)
    typer.echo(f"{len(listed)} models. {_NOT_THERE}")


@weights_app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(help="A model that `visionops models` lists.")],
    licence: Annotated[
        str | None, typer.Option("--licence", help="Of the weights, where the catalogue does not know it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Fetch a model's published weights into the artifact store, and print the part of a recipe that pins them.

    A PyTorch file (.pth) is converted once, in a process of its own that runs none of its code; both digests are kept.
    """
    from resources import home
    from resources.storage import ArtifactStore
    from visionops_assets.training.pretrained.published_weights import fetch_published

    pinned = fetch_published(name, licence, ArtifactStore(root=home.artifacts()))
    entry = {"model": {"name": name, "init_weights": pinned.model_dump(mode="json")}}
    typer.echo(json.dumps(entry, indent=1) if as_json else yaml.safe_dump(entry, sort_keys=False).rstrip())


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
