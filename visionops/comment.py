"""`visionops comment`: a report on the pull or merge request that a job runs for."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    report: Annotated[Path, typer.Argument(help="The report, as Markdown.")],
    name: Annotated[
        str, typer.Option(help="Which comment this is, where a request has several reports.")
    ] = "report",
) -> None:
    """Post a report as ONE comment on the pull or merge request, updated by each later run.

    By `cml` where it is installed, else by `gh` on GitHub or `glab` on GitLab; the request is the CI job's.
    The report is printed first, so a job's log has it whatever the forge says. Exit code 1 where the forge refuses.
    """
    import os

    from visionops.forge.posting import post

    try:
        text = report.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"{report}: {error.strerror}; write it with `visionops what-if PROJECT --report {report}`"
        ) from error
    typer.echo(text)
    typer.echo(post(text, name, report, os.environ), err=True)
