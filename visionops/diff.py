"""`visionops diff`: what changed between two dataset versions."""

from typing import Annotated

import typer


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    before: Annotated[str, typer.Argument(metavar="A", help="Commit, branch, tag or dataset version.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Commit, branch, tag or dataset version.")],
) -> None:
    """Show the images added, removed, relabelled or moved from A to B, by class and batch."""
    from visionops import services
    from visionops_assets.dataset.manifest_diff import diff_manifests
    from visionops_assets.dataset.version import manifest_at
    from visionops_assets.partitions import commit_of

    found = services.project(project)
    lakefs, artifacts = services.lakefs(), services.artifacts()
    old, new = (manifest_at(lakefs, artifacts, found, commit_of(text)) for text in (before, after))
    typer.echo(diff_manifests(old, new, artifacts).summary())
