"""`visionops diff`: what changed between two dataset versions."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from visionops_assets.dataset.versions.manifest import Manifest
    from visionops_assets.project import Project

_NAMES = (
    "Dataset version, commit, branch, tag, or a batch: the state that published it; a registered version, champion, "
    "challenger or run: what it was trained on."
)


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    before: Annotated[str, typer.Argument(metavar="A", help=_NAMES)],
    after: Annotated[str, typer.Argument(metavar="B", help="The same.")],
) -> None:
    """Show the images added, removed, relabelled or moved from A to B, by class and batch.

    `visionops diff digits week-02 week-03` shows what week-03 brought, `visionops diff digits champion main` what came
    since the champion was trained.
    """
    from visionops import services
    from visionops_assets.dataset.versions.manifest_diff import diff_manifests

    found = services.project(project)
    old, new = _manifest(found, before), _manifest(found, after)
    typer.echo(diff_manifests(old, new, services.artifacts()).summary())


def _manifest(project: "Project", text: str) -> "Manifest":
    """The manifest of what `text` names; MLflow is asked only where that may be a model."""
    from visionops import services
    from visionops.comparing.sides import Sides, is_model
    from visionops_assets.dataset.versions.dataset_version import UnknownVersion, manifest_at, named_commit

    lakefs, artifacts = services.lakefs(), services.artifacts()
    if not is_model(text):
        try:
            return manifest_at(lakefs, artifacts, project, named_commit(lakefs, project, text).id)
        except UnknownVersion:
            # A run may be called so; if none is, what is known is said with the models.
            pass
    return Sides(project, services.registry(), lakefs, artifacts).data(text)
