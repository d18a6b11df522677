"""`visionops doctor`: what is configured, whether it works, and what to do where it does not."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from visionops.diagnosis.checking import WITHIN_SECONDS, Row, rows

if TYPE_CHECKING:
    from visionops_assets.project import Projects


def command(
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
            typer.echo(_told(row))
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in found], indent=1))
    if any(row.state == "broken" for row in found):
        raise typer.Exit(1)


def diagnose(within: float = WITHIN_SECONDS) -> Iterator[Row]:
    """Every row: first the machine and the project files, then, side by side, all that these lead to."""
    # A page that is waited for: MLflow's own patience would be twenty seconds.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    from visionops.diagnosis import (
        clock,
        databases,
        file_systems,
        installation,
        places,
        servers,
        settings,
        states,
    )
    from visionops_assets.project import Projects

    projects = Projects(())

    def take(found: "Projects") -> None:
        nonlocal projects
        projects = found

    yield from rows([*installation.checks(), installation.project_files(take), *settings.checks()], within)
    yield from rows(
        [
            *installation.unusable_files(projects),
            *file_systems.checks(),
            *clock.checks(projects),
            *installation.credentials(),
            *databases.checks(),
            *servers.checks(projects),
            *places.checks(projects),
            *states.checks(projects),
            installation.revision(),
            installation.definitions(),
        ],
        within,
    )


def _told(row: Row) -> str:
    lines = [f"{row.state:7} {row.subject}: {row.what}", f"        {row.setting}; tried: {row.tried}"]
    if row.fix:
        lines.append(f"        fix: {row.fix}")
    return "\n".join(lines)
