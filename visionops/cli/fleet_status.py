"""`visionops fleet status`: what each device group should run, is assigned and does run, and what is wrong."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionops.edge_repository import enrolled_devices, published, waiting_reports

if TYPE_CHECKING:
    from resources.models.registry import ModelRegistry
    from visionops_assets.config.project import Project
    from visionops_assets.delivery.devices_now import DeviceNow
    from visionops_assets.delivery.following import Standing
    from visionops_assets.delivery.repository import Repository, Running

# Of each kind in a terminal; --json has all.
_SHOWN = 20


def fleet_status_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show by group what it should run, is assigned and does run, its devices and what is wrong with them, reports that
    did not count, and what has to be signed when.

    Takes no key. Ends with exit code 1 where somebody has to act: an alias that the history does not confirm, or
    metadata that is about to end.
    """
    from visionops import services
    from visionops_assets.delivery.following import left_trying, problems, standings

    found, registry = services.project(project), services.registry()
    repository = published(found.delivered_as)
    declared = {each.group: each for each in standings(found, registry, repository)}
    wrong, away = _read_reports(found)
    running = repository.running()
    devices = enrolled_devices(found, running)
    rows = _group_rows(repository.read().groups, running, declared, devices)
    told, urgent = _ends(repository, project)
    waiting = repository.waiting()
    waits = _signing(waiting, project) if waiting is not None else None
    left = left_trying(found, running)
    wrong_of_groups = [*problems(list(declared.values())), *left]
    approvals = waits_of_groups(found, registry)
    if as_json:
        content = {"project": project, "groups": rows, "waits": waits, "ends": told, "wrong": wrong_of_groups}
        told_of = [{**asdict(each), "last_report": _iso(each.last_report)} for each in devices]
        content |= {"devices": told_of, "did_not_count": wrong, "lakefs": away, "approvals": approvals}
        typer.echo(json.dumps(content, indent=1))
    else:
        typer.echo(_status_page(found, rows, waits, told).to_text())
        for line in [
            *(f"wrong: {each}" for each in left),
            *(f"waits: {each}" for each in approvals),
            *_empty(rows, project),
            *_told_of_devices(rows, wrong, away),
            *waiting_reports(project),
        ]:
            typer.echo(line)
    if wrong_of_groups or urgent:
        raise typer.Exit(1)


def waits_of_groups(project: "Project", registry: "ModelRegistry") -> list[str]:
    """What declared device groups wait for from people, where people approve what passed."""
    from visionops_assets.promotion import group_approvals

    if project.gate.approval != "manual":
        return []
    return group_approvals.waits_of_groups(registry, project.project, project.delivery.groups)


def waits_for_signatures(project: "Project") -> list[str]:
    """The release that device groups get once enough approvers signed it."""
    from visionops_assets.delivery.tuf_files import CannotPublish, NotPublished

    try:
        waiting = published(project.delivered_as).lacking_signatures()
    except (CannotPublish, NotPublished):
        return []
    return [_signing(waiting, project.project)] if waiting is not None else []


def _signing(waiting: tuple[Mapping[str, Any], str], project: str) -> str:
    manifest, signed = waiting
    return f"release {manifest['release']} waits: {signed}; `visionops rollout sign {project} --key ADDRESS`"


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


def _empty(rows: list[dict[str, Any]], project: str) -> list[str]:
    """Groups that no device is in, and what puts one there."""
    groups = [row["group"] for row in rows if not row["devices"]]
    if not groups:
        return []
    first = f"`visionops fleet provision {project} --group {groups[0]} --device NAME --to FOLDER`"
    return [f"no device is in {', '.join(groups)}: {first} makes one; or is the name another?"]


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
        blocks.append(Paragraph(waits))
    blocks.append(Table(("role", "ends"), tuple(ends.items())))
    return Page(f"Devices of {project.project}", tuple(blocks))
