"""The options of `visionops submit --onnx`: what is said of a finished file, from what was typed to its run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from visionops_assets.config.section import NotYAML, parse_yaml

if TYPE_CHECKING:
    from resources.lakefs.client import LakeFSResource
    from resources.models.registry import ModelRegistry
    from visionops_assets.config.project import Project

PANEL = "A finished ONNX file"


def option(help: str, *names: str) -> Any:
    """An option that goes with --onnx."""
    return typer.Option(*names, help=help, rich_help_panel=PANEL, show_default=False)


def require_either(run: str | None, onnx: Path | None, said: Mapping[str, object]) -> None:
    """Hold what was typed to one of the two ways to submit. Raises `BadParameter`."""
    given = [name for name, value in said.items() if value not in (None, False)]
    if onnx is None:
        if run is None:
            raise typer.BadParameter("name a RUN, or a finished file by --onnx FILE")
        if given:
            raise typer.BadParameter(
                f"--{given[0].replace('_', '-')} is said of a file: name it by --onnx FILE"
            )
        return
    if run is not None:
        raise typer.BadParameter("name a RUN or --onnx FILE, not both")
    if said["convention"] is None:
        raise typer.BadParameter("--onnx: say what its outputs mean by --convention")
    if (said["trained_on"] is None) == (not said["unseen"]):
        raise typer.BadParameter(
            "--onnx: say what it was trained on by --trained-on VERSION, or by --unseen --why TEXT that the holdout is "
            "new to it"
        )
    if bool(said["unseen"]) != bool(str(said["why"] or "").strip()):
        raise typer.BadParameter(
            "--unseen takes --why TEXT, kept for ever: how one knows; --trained-on takes none"
        )


def recorded_run(
    project: "Project",
    onnx: Path,
    said: Mapping[str, Any],
    *,
    actor: str,
    registry: "ModelRegistry",
    lakefs: "LakeFSResource",
) -> str:
    """The id of the run that holds the file. Raises `ForeignFileRefused`, and what lakeFS and MLflow raise."""
    from resources import home
    from resources.storage import ArtifactStore
    from visionops_assets.dataset.versions.dataset_version import named_version
    from visionops_assets.training.foreign.foreign_challenger import Word, record_file
    from visionops_assets.training.foreign.onnx_declaration import declared

    order = said["class_order"]
    declaration = declared(
        said["convention"],
        project.task,
        project.classes,
        None if order is None else [name.strip() for name in order.split(",")],
        channel_order=said["channel_order"],
        scale=said["scale"],
        mean=_numbers("--mean", said["mean"]),
        std=_numbers("--std", said["std"]),
        padding=said["padding"],
    )
    version = named_version(lakefs, ArtifactStore(root=home.artifacts()), project, said["trained_on"])
    word = Word(actor, version, said["why"] if said["unseen"] else None)
    return record_file(project, onnx, declaration, word, registry, lambda text: typer.echo(text, err=True))


def _numbers(name: str, text: str | None) -> list[float] | None:
    """`0.5` or `0.485,0.456,0.406`, as people write numbers."""
    if text is None:
        return None
    try:
        found = [parse_yaml(each.strip()) for each in text.split(",")]
    except NotYAML as error:
        raise typer.BadParameter(
            f"{name}: expected numbers with commas between them, got {text!r}"
        ) from error
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in found):
        raise typer.BadParameter(f"{name}: expected numbers with commas between them, got {text!r}")
    return [float(each) for each in found]
