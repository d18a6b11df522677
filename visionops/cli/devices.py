"""`visionops fleet provision | move | revoke | remove-group`: which devices and groups of them a project has."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edge.files import named_path
from edge.formats import check_group
from visionops.edge_repository import changing, known_as, own_spool, repository_address

ProjectName = Annotated[str, typer.Argument(help="Name of the project.")]
GroupName = Annotated[str, typer.Option(help="Device group, such as line-1.")]
DeviceName = Annotated[str, typer.Argument(help="Name of the device.")]


def provision_command(
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
        typer.Option(
            help="Where it leaves reports: a folder there, or an address that takes PUT; by default the spool of this "
            "machine, where it is a folder."
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Give an enrolled device another key.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Write what a device starts with: its settings, the root of trust, a key of its own. Then it needs nobody.

    On the device: `pip install ./edge` into an environment of its own, and `visionops-edge run --device FOLDER`.
    """
    from visionops import services
    from visionops_assets.delivery import enrolment

    declared = services.project(project)
    known = declared.delivered_as
    who = services.actor()
    found, folder = repository or repository_address(project), named_path(to).absolute()
    scheme, separator, _ = found.partition("://")
    if separator and scheme not in ("http", "https", "file"):
        raise typer.BadParameter(
            f"devices fetch over http, https or from a folder, not from {found}: name the address that serves it",
            param_hint="--repository",
        )
    with changing(project) as held:
        enrolment.require_new(services.artifacts(), known, group, device, folder, again=replace)
        services.check_new_group(declared, services.registry(), check_group(group), held.read().groups)
        root = held.bootstrap()
        if held.add_group(check_group(group)):
            typer.echo(f"{project}: group {group} is new", err=as_json)
        record = enrolment.provision(
            services.artifacts(),
            enrolment.NewDevice(
                known,
                group,
                device,
                folder,
                root,
                settings={
                    "repository": found,
                    **({"reports": told} if (told := reports or own_spool()) else {}),
                },
            ),
            who=who,
            when=datetime.now(UTC),
            again=replace,
        )
    if as_json:
        typer.echo(json.dumps({**asdict(record), "folder": str(folder)}, indent=1))
        return
    typer.echo(f"{device} of {project}, group {group}: {to} (key {record.key_id[:12]}; device.pem is secret)")
    typer.echo(
        f"`visionops-edge once --device {to}` tries it here, after `pip install ./edge` into an environment of its "
        "own; copy the folder to the device for good"
    )


def move_command(
    project: ProjectName,
    device: DeviceName,
    group: GroupName,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Let a device belong to another group: it is told by the assignment that it looks at now."""
    from visionops import services
    from visionops_assets.delivery import enrolment
    from visionops_assets.delivery.publishing import move_device

    services.actor()
    with changing(project) as repository:
        repository.add_group(check_group(group))
        _, before = enrolment.move(services.artifacts(), repository.project, device, group)
        told = before == group or move_device(repository, device, before, group)
        waits = repository.assignment(group) is None
    if as_json:
        content = {"project": project, "device": device, "group": group, "before": before}
        typer.echo(json.dumps({**content, "told": told, "waits": bool(told and waits)}, indent=1))
        return
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


def revoke_command(
    project: ProjectName,
    device: DeviceName,
    why: Annotated[str, typer.Option(help="Why; kept for ever.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """From now on nothing that this device's key signs counts: for one that was stolen or is gone.

    It cannot be kept from what lies openly in the repository; use a token or client certificates for that.
    """
    from visionops import services
    from visionops_assets.delivery import enrolment
    from visionops_assets.delivery.repository import lock_name

    known, who = known_as(project), services.actor()
    # Who moves the device meanwhile writes its record whole. It takes no key to revoke.
    with services.registry().lock(lock_name(known)):
        record = enrolment.revoke(
            services.artifacts(), known, device, who=who, why=why, when=datetime.now(UTC)
        )
    said = f"{device} of {project} is revoked: {record.revoked}"
    typer.echo(json.dumps(asdict(record), indent=1) if as_json else said)


def remove_group_command(
    project: ProjectName,
    group: Annotated[str, typer.Argument(help="Device group, such as line-1.")],
    why: Annotated[str, typer.Option(help="Why; kept for ever.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Remove a device group that no device is in: what it is assigned, its champion and its hold go, its history stays.

    Its devices are moved or revoked first, and `delivery.groups` of the project file names it no more. A group of this
    name that is made later begins anew. Safe to repeat: a removal that was killed is completed.
    """
    from visionops import interruption, services
    from visionops.cli.rollback import tell_production
    from visionops_assets.delivery.removed_groups import remove_group
    from visionops_assets.promotion.production_change import Attribution

    interruption.keep("the same command completes the removal")
    found = services.project(project)
    by = Attribution(services.actor(), datetime.now(UTC), why)
    with changing(project) as repository:
        done = remove_group(
            found,
            group,
            by,
            registry=services.registry(),
            artifacts=services.artifacts(),
            repository=repository,
        )
    if done.champion:
        tell_production(project, group)
    typer.echo(
        json.dumps({"project": project, **asdict(done)}, indent=1) if as_json else done.sentence(project)
    )
