"""`visionops status`, `why` and `doctor`: what is in production, how and why it came there, what waits; and whether
what is configured works.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionops.diagnosis.checking import WITHIN_SECONDS, Row, rows
from visionops_assets.tasks.task_registry import CLASSIFICATION

if TYPE_CHECKING:
    from resources.models.registry import ModelRegistry
    from visionops_assets.config.project import Project, Projects


# As far back as `labels export` looks.
_DAYS = 7


def status_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show the champion, its history, verdicts, holds, the significance left, and what was done about production."""
    from resources import home
    from visionops import services
    from visionops.cli.fleet_status import known_to_devices, waits_for_signatures, waits_of_groups
    from visionops.cli.projects import left_behind
    from visionops.diagnosis.project_state import state_of
    from visionops_assets.config.project import load_projects
    from visionops_assets.monitoring.response.actions import actions_blocks, actions_json, read_actions
    from visionops_assets.pages.page import Page
    from visionops_assets.promotion.status import status

    found, registry = services.project(project), services.registry()
    state = status(
        registry,
        project,
        alpha=found.gate.alpha,
        approval=found.gate.approval,
        group=group,
        rules=found.gate.digest(),
    )
    actions = read_actions(registry.models.get(project).tags).entries
    told = state_of(found, registry)
    wrong, gone = told.wrong, told.gone
    if state.champion is None and not state.now.foreign:
        # Of a project that was renamed in its file alone, the champion is still the old name's.
        wrong = wrong + [
            each.sentence() for each in left_behind(registry, load_projects(home.projects_folder()))
        ]
    waits = [
        *_waits(found, registry),
        *_refused(found),
        *waits_of_groups(found, registry),
        *waits_for_signatures(found),
    ]
    wanted = _images_wanted(found)
    devices = _devices(found)
    if as_json:
        content = {**state.to_json(), "actions": actions_json(actions), "wrong": wrong, "gone": gone}
        content |= {"waits": waits, "images_wanted": wanted, "known_to_devices_as": found.delivered_as}
        content |= {"devices": devices}
        typer.echo(json.dumps(content, indent=1))
        return
    for each in wrong:
        typer.echo(f"wrong: {each}\n")
    for each in gone:
        typer.echo(f"gone: {each}\n")
    for each in waits:
        typer.echo(f"waits: {each}\n")
    if wanted:
        typer.echo(
            f"waits: {wanted:,} images of the last {_DAYS} days for a label: `visionops labels export {project} --to "
            f"FOLDER`, then `visionops import {project} FOLDER --batch NAME`\n"
        )
    if found.delivered_as != project:
        typer.echo(f"{known_to_devices(found)}\n")
    for name, said in devices.items():
        typer.echo(f"devices of {name}: {said}\n")
    # What is wrong has the change that did not complete.
    page = state.to_page(unfinished=False)
    typer.echo(Page(page.title, (*page.blocks, *actions_blocks(project, actions))).to_text())


def _devices(project: "Project") -> dict[str, str]:
    """By device group, what it is assigned and what answers there, as devices told."""
    from visionops.edge_repository import enrolled_devices, published
    from visionops_assets.delivery.devices_now import groups_now
    from visionops_assets.delivery.tuf_files import CannotPublish, NotPublished

    try:
        running = published(project.delivered_as).running()
        found = groups_now(enrolled_devices(project, running))
    except (CannotPublish, NotPublished):
        return {}
    told = {}
    for group, now in found.items():
        assigned = f"version {running[group][1]['model']['version']}" if group in running else "nothing"
        silent = f"; {len(now.silent)} of {now.devices} silent" if now.silent else ""
        wrong = f"; {len(now.wrong)} with a problem" if now.wrong else ""
        told[group] = f"assigned {assigned}, answers {now.runs()}{silent}{wrong}"
    return told


def _waits(project: "Project", registry: "ModelRegistry") -> list[str]:
    """What the next tick does about the newest dataset version, or why it waits; nothing where that one is decided."""
    from sqlalchemy.exc import SQLAlchemyError

    from resources import clocks
    from resources.databases import DatabaseError
    from resources.lakefs.replies import LakeFSError, LakeFSNotFound
    from resources.models.records import RegistryError
    from sensors.newest_version import outlook
    from sensors.readiness import Wait
    from visionops import services
    from visionops_assets.common.keys import dataset_version
    from visionops_assets.dataset.versions.commit_log import batches_of, newest_commit

    stores, name = services.stores(), project.project
    lakefs = stores.lakefs
    try:
        commit = newest_commit(lakefs, project)
        if commit is None:
            return [
                f"{project.repository}/main has no batch yet: `visionops import {name} SOURCE --batch NAME`"
            ]
        newest, batches = dataset_version(commit.id, commit.created_at), batches_of(lakefs, project, commit)
        with services.dagster() as instance:
            seen = clocks.FirstSeen(clocks.now(), {})
            found = outlook(instance, project, stores, commit, seen)
    except LakeFSNotFound:
        return [
            f"there is no batch yet: `visionops import {name} SOURCE --batch NAME` makes {project.repository}"
        ]
    except (LakeFSError, RegistryError) as error:
        return [f"whether a dataset version waits is not known: {error}"]
    except (DatabaseError, SQLAlchemyError, OSError):
        # What is wrong says so.
        return []
    if isinstance(found.answer, Wait):
        # What is wrong or was cancelled is told as such.
        told = found.answer.settled or found.answer.wrong or found.answer.cancelled
        return [] if told else [found.answer.reason]
    why = f"is asked again, since {found.again}" if found.again else "is not judged yet"
    of = f" ({', '.join(batches[:3])})" if batches else ""
    return [
        f"dataset version {newest}{of} {why}: `visionops tick {name}`, or the sensor of `visionops up`, trains "
        "and judges it"
    ]


def _refused(project: "Project") -> list[str]:
    """The batches that did not come to main."""
    from resources.lakefs.replies import LakeFSError
    from visionops import services
    from visionops_assets.dataset.findings_file import refused_batches
    from visionops_assets.dataset.versions.layout import ingest_branch

    try:
        found = refused_batches(services.lakefs(), project)
    except LakeFSError:
        # Said of the dataset version that waits.
        return []
    name = project.project
    return [
        f"batch {batch} was refused on {commit.created_at:%Y-%m-%d}: `visionops findings {name} {batch}` says why; "
        f"correct it and import it again, or delete branch "
        f"{ingest_branch(project.repository, project.annotations, batch)} of {project.repository} in lakeFS"
        for batch, commit in found.items()
    ]


def _images_wanted(project: "Project") -> int:
    """How many images `labels export` would write now."""
    from visionops import services
    from visionops_assets.monitoring.labels_wanted import wanted_days

    today = datetime.now(UTC).date()
    days = [today - timedelta(back) for back in range(_DAYS)]
    # The boxes, which take long to read, count nothing.
    return len(wanted_days(services.artifacts(), project.project, days, CLASSIFICATION)[0])


def why_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    version: Annotated[
        int | None,
        typer.Option("--model-version", metavar="N", help="A registered version; by default what runs now."),
    ] = None,
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the page, with pictures of the images won and lost, to this file."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Say why this model: its verdict, the images won and lost, what it was trained on, what changed against the one
    before."""
    from visionops import services
    from visionops_assets.pages.html_page import write_html
    from visionops_assets.pages.page import Page
    from visionops_assets.promotion.explain import why
    from visionops_assets.promotion.production_report import links_to
    from visionops_assets.promotion.version_differences import (
        images_at,
        list_turned,
        picture_turned,
        turned_of_evidence,
    )

    found = services.project(project)
    registry, lakefs = services.registry(), services.lakefs()
    links = links_to(lakefs, registry)
    explained = why(registry, services.artifacts(), project, version, group, links, found.gate)
    turned, page = turned_of_evidence(registry, explained.evidence), explained.page
    if html is not None:
        read = images_at(lakefs, found.repository, turned[2]) if turned is not None else None
        shown = (
            tuple(picture_turned(turned[0], turned[1], read))
            if turned is not None and read is not None
            else ()
        )
        write_html(Page(page.title, (*page.blocks, *shown)), html)
    if as_json:
        typer.echo(json.dumps({"project": project, "group": group, **explained.evidence.to_json()}, indent=1))
        return
    asked = "".join(
        (
            f" --model-version {version}" if version is not None else "",
            f" --group {group}" if group != "all" else "",
        )
    )
    how = f"`visionops why {project}{asked} --html FILE` shows them."
    words = tuple(list_turned(turned[0], turned[1], how)) if turned is not None else ()
    typer.echo(Page(page.title, (*page.blocks, *words)).to_text())
    if (need := services.pages_need()) is not None:
        typer.echo(need)
    if html is not None:
        typer.echo(f"written: {html}")


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    within: Annotated[
        float, typer.Option(min=0.1, help="Seconds after which what has not answered is broken.")
    ] = WITHIN_SECONDS,
) -> None:
    """Try every setting and service: a row says what was set, what was tried, and ok or the fix.

    Exit code 1 if something is broken; a warning is none. It starts no service, sends no message and changes no data.
    """
    found = []
    for row in diagnose(within):
        found.append(row)
        if not as_json:
            typer.echo(_told_row(row))
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in found], indent=1))
    if any(row.state == "broken" for row in found):
        raise typer.Exit(1)


def diagnose(within: float = WITHIN_SECONDS) -> Iterator[Row]:
    """Every row: first the machine and the project files, then, side by side, all that these lead to."""
    # A page that is waited for: MLflow's own patience would be twenty seconds.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    from visionops.diagnosis import (
        checking,
        databases,
        disks_and_clock,
        installation,
        places,
        project_state,
        servers,
    )
    from visionops_assets.config.project import Projects

    projects = Projects(())

    def take(found: "Projects") -> None:
        nonlocal projects
        projects = found

    yield from rows(
        [*installation.checks(), installation.project_files(take), *checking.settings_checks()], within
    )
    yield from rows(
        [
            *installation.unusable_files(projects),
            *disks_and_clock.disk_checks(),
            *disks_and_clock.clock_checks(projects),
            *installation.credentials(),
            *databases.checks(),
            *servers.checks(projects),
            *places.checks(projects),
            *project_state.checks(projects),
            installation.revision(),
            installation.definitions(),
        ],
        within,
    )


def _told_row(row: Row) -> str:
    lines = [f"{row.state:7} {row.subject}: {row.what}", f"        {row.setting}; tried: {row.tried}"]
    if row.fix:
        lines.append(f"        fix: {row.fix}")
    return "\n".join(lines)
