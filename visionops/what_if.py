"""`visionops what-if`: what the present recipe and code would make of a dataset version."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionops import interruption

if TYPE_CHECKING:
    import dagster as dg

    from visionops.comparing.comparison import Comparison
    from visionops_assets.evaluation.verdict import Verdict
    from visionops_assets.project import Project


def command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    version: Annotated[
        str | None,
        typer.Option(
            help="Dataset version, commit, branch, tag or batch; by default the newest dataset version."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Add the outcome and the comparison with the champion to this file, as Markdown."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Run data checks, training and evaluation on a dataset version, beside the loop: for a pull request.

    Nothing is spent, promoted or registered; what was trained before is reused. Exit code 1 where the data checks or
    the training fail; a verdict that is no PASS is none of these.
    """
    interruption.keep("nothing was decided, and a training is kept up to its last checkpoint")
    from visionops.comparing.proposal import failed_page, proposal_page

    try:
        partition, dagster_run, verdict, comparison = _what_if(project, version)
    except Exception as error:
        # Whoever reads the request does not read the job's log.
        _add(report, failed_page(project, str(error) or type(error).__name__).to_markdown())
        raise
    page = proposal_page(project, partition, verdict, comparison)
    _add(report, page.to_markdown())
    if as_json:
        told = {
            "project": project,
            "dataset_version": partition,
            "run_id": verdict.challenger.run_id,
            "dagster_run_id": dagster_run,
            "verdict": json.loads(verdict.to_json()),
            "comparison": None if comparison is None else comparison.to_json(),
        }
        typer.echo(json.dumps(told, indent=1))
    else:
        typer.echo(page.to_text(), nl=False)


def _what_if(name: str, version: str | None) -> "tuple[str, str, Verdict, Comparison | None]":
    """Dataset version, Dagster run, verdict and comparison. Raises `RuntimeError` where the run fails."""
    import definitions
    from visionops import services
    from visionops.run_progress import shown_progress
    from visionops.runs import run_job
    from visionops_assets.dataset.commits import tags_of_version
    from visionops_assets.dataset.versions.dataset_version import named_version
    from visionops_assets.project import find_project

    project = find_project(definitions.projects, name)
    with services.dagster() as instance:
        dataset = named_version(services.lakefs(), services.artifacts(), project, version)
        partition = dataset.partition
        _make_known(definitions.defs, instance, project, partition)
        typer.echo(f"{name}: {partition} with the present recipe and code …", err=True)
        tags = tags_of_version(services.lakefs(), project, dataset.commit)
        with shown_progress():
            ran = run_job(definitions.defs, instance, f"{name}_what_if", partition=partition, tags=tags)
    if ran.error is not None:
        why = "; ".join(ran.failed_checks) or ran.error
        raise RuntimeError(f"the what-if of {name} on {partition} failed: {why}")
    return partition, ran.run_id, *_outcome(project, partition)


def _make_known(defs: "dg.Definitions", instance: "dg.DagsterInstance", project: "Project", key: str) -> None:
    """Let this Dagster know a dataset version, as the sensor does."""
    from visionops.sensor_ticks import evaluate_sensor
    from visionops_assets.partitions import dataset_versions

    versions = dataset_versions(project.project).name or ""
    if not instance.has_dynamic_partition(versions, key):
        evaluate_sensor(defs, instance, f"{project.project}_commits")
    # A commit of a branch is no dataset version of main; here it is looked at as if it were.
    if not instance.has_dynamic_partition(versions, key):
        instance.add_dynamic_partitions(versions, [key])


def _outcome(project: "Project", partition: str) -> "tuple[Verdict, Comparison | None]":
    """The verdict of the run that just ended, and the comparison where there is a champion."""
    from resources.model_records import version_on
    from visionops import services
    from visionops.compare import comparing_of
    from visionops_assets.evaluation import verdicts
    from visionops_assets.evaluation.address import read_address

    registry = services.registry()
    address = read_address(services.artifacts(), "what_if", project.project, partition)
    verdict = None
    if address is not None:
        verdict = verdicts.find(registry, project.project, address.run_id, address.identity, "what_if")
    if address is None or verdict is None:
        raise LookupError(f"the what-if of {project.project} on {partition} left no verdict: run it again")
    if version_on(registry.models.get(project.project)) is None:
        return verdict, None
    comparing = comparing_of(project, quiet=True)
    return verdict, comparing.run(address.run_id, "champion", partition)


def _add(report: Path | None, text: str) -> None:
    from resources.whole_outputs import append

    if report is not None:
        append(report, f"{text}\n")
