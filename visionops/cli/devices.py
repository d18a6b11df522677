"""`visionops fleet provision | move | revoke | status` and `visionops rollout`: which devices a project has, what
each group of them should run, and what people answer about a model on its way there.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.files import named_path
from edge.formats import check_group
from visionops.edge_repository import (
    changing,
    enrolled_devices,
    known_as,
    own_spool,
    published,
    repository_address,
    waiting_reports,
)

if TYPE_CHECKING:
    from visionops_assets.config.project import Project
    from visionops_assets.delivery.devices_now import DeviceNow
    from visionops_assets.delivery.following import Standing
    from visionops_assets.delivery.repository import Repository, Running


ProjectName = Annotated[str, typer.Argument(help="Name of the project.")]
GroupName = Annotated[str, typer.Option(help="Device group, such as line-1.")]
DeviceName = Annotated[str, typer.Argument(help="Name of the device.")]
# Of each kind in a terminal; --json has all.
_SHOWN = 20
rollout_app = typer.Typer(help="Models on their way to devices.", no_args_is_help=True)


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


def fleet_status_command(
    project: ProjectName,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show by group what it should run, is assigned and does run, its devices and what is wrong with them, reports that
    did not count, and what has to be signed when.

    Takes no key. Ends with exit code 1 where somebody has to act: an alias that the history does not confirm, or
    metadata that is about to end.
    """
    from visionops import services
    from visionops_assets.delivery.following import standings

    found, registry = services.project(project), services.registry()
    repository = published(found.delivered_as)
    declared = {each.group: each for each in standings(found, registry, repository)}
    wrong, away = _read_reports(found)
    running = repository.running()
    devices = enrolled_devices(found, running)
    rows = _group_rows(repository.read().groups, running, declared, devices)
    told, urgent = _ends(repository, project)
    waiting = repository.waiting()
    waits = f"release {waiting[0]['release']} waits: {waiting[1]}" if waiting is not None else None
    problems = [each.sentence() for each in declared.values() if each.problem]
    if as_json:
        content = {"project": project, "groups": rows, "waits": waits, "ends": told, "wrong": problems}
        told_of = [{**asdict(each), "last_report": _iso(each.last_report)} for each in devices]
        content |= {"devices": told_of, "did_not_count": wrong, "lakefs": away}
        typer.echo(json.dumps(content, indent=1))
    else:
        typer.echo(_status_page(found, rows, waits, told).to_text())
        for line in [*_told_of_devices(rows, wrong, away), *waiting_reports(project)]:
            typer.echo(line)
    if problems or urgent:
        raise typer.Exit(1)


def _read_reports(project: "Project") -> tuple[dict[str, str], str | None]:
    """Fold what is collected by now; what did not count yesterday and today, and why lakeFS cannot say so."""
    from resources.lakefs.replies import LakeFSError
    from visionops import services
    from visionops_assets.delivery.reported_devices import folded, report_findings

    now = datetime.now(UTC)
    try:
        lakefs = services.lakefs()
        folded(project, lakefs, services.artifacts())
        days = [f"{now - timedelta(days=back):%Y-%m-%d}" for back in (1, 0)]
        return dict(report_findings(project, lakefs, days)), None
    except LakeFSError as error:
        return {}, str(error)


def _told_of_devices(rows: list[dict[str, Any]], wrong: Mapping[str, str], away: str | None) -> list[str]:
    told = []
    for row in rows:
        silent = row["silent"]
        if silent:
            more = f" and {len(silent) - _SHOWN} more" if len(silent) > _SHOWN else ""
            told.append(f"silent: {', '.join(silent[:_SHOWN])}{more} of {row['group']}")
        told += [f"problem: {device}: {said}" for device, said in list(row["wrong"].items())[:_SHOWN]]
    told += [f"did not count: {what} {said}" for what, said in list(wrong.items())[:_SHOWN]]
    if len(wrong) > _SHOWN:
        told.append(f"did not count: {len(wrong) - _SHOWN} more; --json has them")
    if away is not None:
        told.append(f"what devices reported since lakeFS is away is not in this: {away}")
    return told


def _iso(when: datetime | None) -> str | None:
    return when.isoformat(timespec="seconds") if when is not None else None


def _group_rows(
    published: Iterable[str],
    running: "Running",
    declared: "Mapping[str, Standing]",
    devices: "Sequence[DeviceNow]",
) -> list[dict[str, Any]]:
    from visionops_assets.delivery.devices_now import groups_now

    groups, rows = groups_now(devices), []
    for group in sorted({*published, *declared, *groups}):
        now = groups.get(group)
        assignment, manifest = running.get(group, (None, None))
        standing = declared.get(group)
        version = manifest["model"]["version"] if manifest is not None else None
        by_hand = f"version {version}, published by hand" if version is not None else "nothing published yet"
        rows.append(
            {
                "group": group,
                "follows": standing is not None,
                "should_run": standing.version if standing is not None else None,
                "version": version,
                "release": manifest["release"] if manifest is not None else None,
                "serial": assignment["serial"] if assignment is not None else None,
                "devices": [each.device for each in devices if each.group == group],
                "runs": now.runs() if now is not None else "",
                "states": dict(now.states) if now is not None else {},
                "silent": list(now.silent) if now is not None else [],
                "wrong": dict(now.wrong) if now is not None else {},
                "last_report": _iso(now.last_report) if now is not None else None,
                "says": standing.sentence() if standing is not None else by_hand,
            }
        )
    return rows


def _ends(repository: "Repository", project: str) -> tuple[dict[str, str], bool]:
    """When what each role signed ends, and whether somebody has to act now."""
    from visionops.edge_repository import ending_of_role

    now, told, urgent = datetime.now(UTC), {}, False
    for role, end in repository.read().expiries().items():
        said, now_or_never = ending_of_role(project, role, end, now)
        urgent |= now_or_never
        told[role] = said.removeprefix(role).strip() or f"{end:%Y-%m-%d}"
    return told, urgent


def known_to_devices(project: "Project") -> str:
    """Why a project that was renamed delivers under another name."""
    return (
        f"devices know {project.project} as {project.delivered_as}, which is what their repository is called and what "
        "is signed for (`delivery.known_as` of its project file)"
    )


def _status_page(
    project: "Project", rows: list[dict[str, Any]], waits: str | None, ends: Mapping[str, str]
) -> Any:
    from visionops_assets.pages.page import Block, Page, Paragraph, Table

    columns = ("group", "version", "release", "devices", "run", "states", "last report", "says")
    shown = [
        (
            row["group"],
            *("" if row[name] is None else str(row[name]) for name in ("version", "release")),
            str(len(row["devices"])),
            row["runs"],
            ", ".join(f"{count} {state}" for state, count in row["states"].items() if count),
            (row["last_report"] or "")[:16].replace("T", " "),
            row["says"],
        )
        for row in rows
    ]
    blocks: list[Block] = [Table(columns, tuple(shown))] if shown else [Paragraph("No device group yet.")]
    if not project.delivery.groups:
        blocks.append(
            Paragraph(
                "No group follows what is promoted: `delivery.groups` of the project file names those that do."
            )
        )
    if project.delivered_as != project.project:
        blocks.append(Paragraph(known_to_devices(project)))
    if waits is not None:
        blocks.append(Paragraph(f"{waits}; `visionops rollout sign {project.project} --key ADDRESS`"))
    blocks.append(Table(("role", "ends"), tuple(ends.items())))
    return Page(f"Devices of {project.project}", tuple(blocks))


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
    from visionops.edge_repository import changing
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
