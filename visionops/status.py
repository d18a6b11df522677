"""`visionops status`: what is in production, how it came there, what waits."""

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from resources.models.registry import ModelRegistry
    from visionops_assets.project import Project

# As far back as `labels export` looks.
_DAYS = 7


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    group: Annotated[str, typer.Option(help="Device group.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show the champion, its history, verdicts, holds, the significance left, and what was done about production."""
    from resources import home
    from visionops import services
    from visionops.missing_pieces import state_of
    from visionops.renaming import left_behind
    from visionops_assets.monitoring.acting.actions import read_actions
    from visionops_assets.monitoring.acting.status import actions_blocks, actions_json
    from visionops_assets.pages.page import Page
    from visionops_assets.project import load_projects
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
    waits, wanted = _waits(found, registry), _images_wanted(found)
    if as_json:
        content = {**state.to_json(), "actions": actions_json(actions), "wrong": wrong, "gone": gone}
        content |= {"waits": waits, "images_wanted": wanted}
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
    # What is wrong has the change that did not complete.
    page = state.to_page(unfinished=False)
    typer.echo(Page(page.title, (*page.blocks, *actions_blocks(project, actions))).to_text())


def _waits(project: "Project", registry: "ModelRegistry") -> list[str]:
    """What the next tick does about the newest dataset version, or why it waits; nothing where that one is decided."""
    from sqlalchemy.exc import SQLAlchemyError

    from resources import clocks
    from resources.databases import DatabaseError
    from resources.lakefs_errors import LakeFSError, LakeFSNotFound
    from resources.model_errors import RegistryError
    from sensors.newest_version import outlook
    from sensors.owned_sensor import Wait
    from visionops import services
    from visionops_assets.dataset.commits import batches_of, newest_commit
    from visionops_assets.partitions import dataset_version

    lakefs, name = services.lakefs(), project.project
    try:
        commit = newest_commit(lakefs, project)
        if commit is None:
            return [
                f"{project.repository}/main has no batch yet: `visionops import {name} SOURCE --batch NAME`"
            ]
        newest, batches = dataset_version(commit.id, commit.created_at), batches_of(lakefs, project, commit)
        with services.dagster() as instance:
            seen = clocks.FirstSeen(clocks.now(), {})
            found = outlook(instance, project, lakefs, services.artifacts(), registry, newest, commit, seen)
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
        told = found.answer.decided or found.answer.wrong or found.answer.cancelled
        return [] if told else [found.answer.reason]
    why = f"is asked again, since {found.again}" if found.again else "is not judged yet"
    of = f" ({', '.join(batches[:3])})" if batches else ""
    return [
        f"dataset version {newest}{of} {why}: `visionops tick {name}`, or the sensor of `visionops up`, trains "
        "and judges it"
    ]


def _images_wanted(project: "Project") -> int:
    """How many images `labels export` would write now."""
    from visionops import services
    from visionops_assets.monitoring.labels_export import wanted_days

    today = datetime.now(UTC).date()
    days = [today - timedelta(back) for back in range(_DAYS)]
    # The boxes, which take long to read, count nothing.
    return len(wanted_days(services.artifacts(), project.project, days, "classification")[0])
