"""`visionops doctor`: what is configured, whether it answers, and what to do where it does not."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from visionops.diagnosis import Line, machine, services_in_use


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Check every configured service, versions, disk and keys; each line that is not ok names its fix.

    Exit code 1 if something is broken; a warning is none. It starts no service and changes no data.
    """
    lines = []
    for line in _checked(machine.CHECKS, services_in_use.CHECKS):
        lines.append(line)
        if not as_json:
            typer.echo(
                f"{line.state:7} {line.subject}: {line.what}"
                + (f"\n        fix: {line.fix}" if line.fix else "")
            )
    if as_json:
        typer.echo(json.dumps([asdict(line) for line in lines], indent=1))
    if any(line.state == "broken" for line in lines):
        raise typer.Exit(1)


def _checked(*groups: tuple[Callable[[], Iterator[Line]], ...]) -> Iterator[Line]:
    """What every check says; one that cannot be made is broken and ends nothing."""
    for group in groups:
        for check in group:
            subject = check.__name__.replace("_", " ")
            try:
                yield from check()
            except Exception as error:
                yield Line(
                    "broken", subject, str(error) or type(error).__name__, "see above; --debug has more"
                )
