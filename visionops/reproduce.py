"""`visionops reproduce`: make a registered version again, and say whether it is the same."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from visionops import interruption


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    version: Annotated[
        int | None, typer.Option(help="A registered version; by default the one in production.")
    ] = None,
    inputs_only: Annotated[
        bool, typer.Option("--inputs-only", help="Compare the recorded inputs; train nothing.")
    ] = False,
    present_versions: Annotated[
        bool,
        typer.Option(
            "--present-versions", help="Train with the packages installed here, not those recorded."
        ),
    ] = False,
    register: Annotated[
        bool,
        typer.Option(
            "--register", help="Put back files of the version that are gone, where what was made is the same."
        ),
    ] = False,
    unverified: Annotated[
        bool,
        typer.Option(
            "--unverified",
            help="Run the recorded code of a version that was registered before the digest of its record was.",
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say only what came of it, not what is being done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON.")] = False,
) -> None:
    """Make a version again from its recorded data, recipe, code and package versions, and certify the result.

    It needs lakeFS, MLflow and a clone of the code, and no project file. Exit code 0 if the version can be made
    again, 1 if something differs.
    """
    interruption.keep("the version stays as it is, and so does what was installed for it")
    from resources import home
    from visionops import services
    from visionops.progress import shown_line
    from visionops.run_progress import PHASES, Follower
    from visionops_assets.common.progress import watched
    from visionops_assets.reproduction.reproduce import reproduce

    if register and inputs_only:
        raise typer.BadParameter("--register puts back what was trained, and --inputs-only trains nothing")
    registry = services.registry()
    with shown_line(project, wanted=not quiet) as line:
        follower = Follower(line.show)

        def say(text: str) -> None:
            if not follower.read(text):
                line.say(text)
                # Once there is something to make.
                follower.enter(PHASES["make_again"])

        with watched(follower.hear):
            made = reproduce(
                registry,
                services.lakefs(),
                home.cache(),
                project,
                version,
                when=datetime.now(UTC),
                inputs_only=inputs_only,
                present_versions=present_versions,
                register=register,
                unverified=unverified,
                say=say,
            )
    if as_json:
        typer.echo(json.dumps(made.to_json(), indent=1))
    else:
        typer.echo(made.certificate.to_page().to_text())
        for file in made.restored:
            typer.echo(f"put back: {file} of version {made.certificate.version}")
        typer.echo(f"kept: {registry.run_url(registry.runs.get(made.run_id), made.page)}")
        if (need := services.pages_need()) is not None:
            typer.echo(need)
    if not made.certificate.holds:
        raise typer.Exit(1)
