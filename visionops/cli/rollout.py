"""`visionops rollout`: what people answer about a model on its way to devices."""

import json
from typing import Annotated, Any

import typer

from visionops.edge_repository import changing

rollout_app = typer.Typer(help="Models on their way to devices.", no_args_is_help=True)


@rollout_app.callback()
def rollout_command() -> None:
    """Keeps `sign` a verb of its own while it is the only one."""


@rollout_app.command("sign")
def sign_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    key: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Your key: file2:FILE, awskms:…, gcpkms:…, azurekms:…, hv:…, hsm:…."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking once more.")] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Let the release that waits go, unsigned.")
    ] = False,
) -> None:
    """Sign the release that waits for approvers, after seeing what it is.

    Its files are held to their digests first. Without --key nothing is signed: it is shown.
    """
    from visionops_assets.delivery.signers import key_at
    from visionops_assets.delivery.tuf_files import CannotPublish

    with changing(project) as repository:
        found = repository.waiting()
        if found is None:
            typer.echo(f"no release of {project} waits for approvers")
            return
        manifest, signed = found
        for line in _in_words(manifest):
            typer.echo(line)
        typer.echo(signed)
        if withdraw:
            repository.withdraw()
            typer.echo(f"release {manifest['release']} of {project} is withdrawn")
            return
        if key is None:
            return
        signer = key_at(key).signer()
        if not yes:
            typer.confirm("Sign that this model may run on devices?", abort=True)
        signed = repository.sign_bundle(signer)
        typer.echo(signed)
        try:
            complete = repository.complete_bundle()
        except CannotPublish:
            # An approver need not have the keys that publish.
            complete = False
        if complete:
            typer.echo(
                f"release {manifest['release']} is published; `visionops tick {project}` assigns it to groups that "
                f"follow, `visionops fleet publish {project} --group GROUP` to others"
            )


def _in_words(manifest: dict[str, Any]) -> list[str]:
    model = manifest["model"]
    return [
        f"{manifest['project']} release {manifest['release']} ({manifest['variant']}): version {model['version']}, "
        f"trained on {model['partition']}",
        f"  verdict     {manifest['gate']['verdict'] or 'none is recorded'}",
        f"  weights     {model['weights_sha256']}",
        *(
            f"  {name:<11} {each['sha256']} ({each['size']:,} bytes)"
            for name, each in manifest["files"].items()
        ),
        f"  requires    {json.dumps(manifest['requires'])}",
        f"  budget      {json.dumps(manifest['budget'])}",
    ]
