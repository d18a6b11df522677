"""`visionops fleet provision | move | revoke`: which devices a project has."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edge.formats import check_group
from visionops.edge_repository import changing, where

ProjectName = Annotated[str, typer.Argument(help="Name of the project.")]
GroupName = Annotated[str, typer.Option(help="Device group, such as line-1.")]
DeviceName = Annotated[str, typer.Argument(help="Name of the device.")]


def provision(
    project: ProjectName,
    group: GroupName,
    device: Annotated[str, typer.Option(help="Name of the device, such as cam-17.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="A new folder; copy it to the device.")],
    repository: Annotated[
        str | None,
        typer.Option(help="Where the device finds the repository; by default this machine's, as a folder."),
    ] = None,
    reports: Annotated[
        str | None,
        typer.Option(help="Where it leaves reports: a folder there, or an address that takes PUT."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Give an enrolled device another key.")] = False,
) -> None:
    """Write what a device starts with: its settings, the root of trust, a key of its own. Then it needs nobody.

    On the device: `pip install ./edge` into an environment of its own, and `visionops-edge run --device FOLDER`.
    """
    from visionops import services
    from visionops_assets.delivery import enrolment

    declared = services.project(project)
    who = services.actor()
    found, folder = repository or where(project), to.expanduser().absolute()
    scheme, separator, _ = found.partition("://")
    if separator and scheme not in ("http", "https", "file"):
        raise typer.BadParameter(
            f"devices fetch over http, https or from a folder, not from {found}: name the address that serves it",
            param_hint="--repository",
        )
    with changing(project) as held:
        enrolment.require_new(services.artifacts(), project, group, device, folder, again=replace)
        services.check_new_group(declared, services.registry(), check_group(group), held.read().groups)
        root = held.bootstrap()
        if held.add_group(check_group(group)):
            typer.echo(f"{project}: group {group} is new")
        record = enrolment.provision(
            services.artifacts(),
            project=project,
            group=group,
            device=device,
            to=folder,
            root=root,
            settings={
                "repository": found,
                **({"reports": reports} if reports else {}),
            },
            who=who,
            when=datetime.now(UTC),
            again=replace,
        )
    typer.echo(f"{device} of {project}, group {group}: {to} (key {record.key_id[:12]}; device.pem is secret)")
    typer.echo(
        f"`visionops-edge once --device {to}` tries it here, after `pip install ./edge` into an environment of its "
        "own; copy the folder to the device for good"
    )


def move(project: ProjectName, device: DeviceName, group: GroupName) -> None:
    """Let a device belong to another group: it is told by the assignment that it looks at now."""
    from visionops import services
    from visionops_assets.delivery import enrolment
    from visionops_assets.delivery.publishing import move_device

    services.actor()
    with changing(project) as repository:
        repository.add_group(check_group(group))
        _, before = enrolment.move(services.artifacts(), project, device, group)
        told = before == group or move_device(repository, device, before, group)
        waits = repository.assignment(group) is None
    typer.echo(
        f"{device} of {project} belongs to {group}, before to {before}"
        + (
            ""
            if told
            else f"; {before} has no assignment yet that could tell it: "
            "publish to it, or provision it anew with --replace"
        )
        + (f"; it goes once something is published to {group}" if told and waits else "")
    )


def revoke(
    project: ProjectName,
    device: DeviceName,
    why: Annotated[str, typer.Option(help="Why; kept for ever.")],
) -> None:
    """From now on nothing that this device's key signs counts: for one that was stolen or is gone.

    It cannot be kept from what lies openly in the repository; use a token or client certificates for that.
    """
    from visionops import services
    from visionops_assets.delivery import enrolment

    record = enrolment.revoke(
        services.artifacts(), project, device, who=services.actor(), why=why, when=datetime.now(UTC)
    )
    typer.echo(f"{device} of {project} is revoked: {record.revoked}")
