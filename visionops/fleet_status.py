"""`visionops fleet status`: what each device group should run, what it is assigned, and who belongs to it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from visionops_assets.delivery.following import Standing
    from visionops_assets.delivery.repository import Repository
    from visionops_assets.project import Project

ProjectName = Annotated[str, typer.Argument(help="Name of the project.")]


def status(
    project: ProjectName,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show by group what it should run, what it is assigned, its devices, and what has to be signed when.

    Takes no key. Ends with exit code 1 where somebody has to act: an alias that the history does not confirm, or
    metadata that is about to end.
    """
    from visionops import services
    from visionops.edge_repository import repository_of
    from visionops_assets.delivery.enrolment import devices
    from visionops_assets.delivery.following import standings
    from visionops_assets.delivery.signers import Keys

    found, registry = services.project(project), services.registry()
    repository = repository_of(project, Keys({}))
    declared = {each.group: each for each in standings(found, registry, repository)}
    by_group: dict[str, list[str]] = {}
    for device in devices(services.artifacts(), project):
        if not device.revoked:
            by_group.setdefault(device.group, []).append(device.device)
    rows = _rows(repository, declared, by_group)
    told, urgent = _ends(repository, project)
    waiting = repository.waiting()
    waits = f"release {waiting[0]['release']} waits: {waiting[1]}" if waiting is not None else None
    problems = [each.sentence() for each in declared.values() if each.problem]
    if as_json:
        content = {"project": project, "groups": rows, "waits": waits, "ends": told, "wrong": problems}
        typer.echo(json.dumps(content, indent=1))
    else:
        typer.echo(_page(found, rows, waits, told).to_text())
    if problems or urgent:
        raise typer.Exit(1)


def _rows(
    repository: "Repository", declared: "Mapping[str, Standing]", devices: Mapping[str, list[str]]
) -> list[dict[str, Any]]:
    running = repository.running()
    rows = []
    for group in sorted({*repository.read().groups, *declared, *devices}):
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
                "devices": sorted(devices.get(group, [])),
                "says": standing.sentence() if standing is not None else by_hand,
            }
        )
    return rows


def _ends(repository: "Repository", project: str) -> tuple[dict[str, str], bool]:
    """When what each role signed ends, and whether somebody has to act now."""
    from visionops.fleet_keys import ending

    now, told, urgent = datetime.now(UTC), {}, False
    for role, end in repository.read().expiries().items():
        said, now_or_never = ending(project, role, end, now)
        urgent |= now_or_never
        told[role] = said.removeprefix(role).strip() or f"{end:%Y-%m-%d}"
    return told, urgent


def _page(project: "Project", rows: list[dict[str, Any]], waits: str | None, ends: Mapping[str, str]) -> Any:
    from visionops_assets.pages.page import Block, Page, Paragraph, Table

    columns = ("group", "version", "release", "serial", "devices", "says")
    shown = [
        (
            row["group"],
            *("" if row[name] is None else str(row[name]) for name in ("version", "release", "serial")),
            str(len(row["devices"])),
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
    if waits is not None:
        blocks.append(Paragraph(f"{waits}; `visionops rollout sign {project.project} --key ADDRESS`"))
    blocks.append(Table(("role", "ends"), tuple(ends.items())))
    return Page(f"Devices of {project.project}", tuple(blocks))
