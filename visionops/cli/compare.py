"""`visionops compare`, `diff`, `what-if` and `comment`: two models or two states of the data side by side, and a
page of it on a pull request.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resources.error_family import Invalid, NotFound, Refused
from visionops import interruption

if TYPE_CHECKING:
    import dagster as dg

    from visionops.comparing.comparison import Comparing, Comparison
    from visionops_assets.config.project import Project
    from visionops_assets.dataset.versions.manifest import Manifest
    from visionops_assets.evaluation.verdict import Verdict

_NAMES = (
    "Dataset version, commit, branch, tag, or a batch: the state that published it; a registered version, champion, "
    "challenger or run: what it was trained on."
)


def compare_command(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROJECT] [A] [B]",
            help="A and B: a registered version, `champion`, `challenger`, an MLflow run, a dataset version, commit, "
            "branch, tag or batch. Without them the newest challenger against the champion; without B against the "
            "champion.",
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(help="Dataset version, commit or branch on whose holdout both are compared."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print as Markdown, for a pull request.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the page, with pictures of the images won and lost, to this file."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Compare A with B: metrics with intervals, slices, costs, and what differs in data, recipe and code.

    Answers are the stored ones where both were judged on one holdout; otherwise the files that ship answer now.
    Nothing is decided: no significance is spent, no verdict stored, no alias moved.
    """
    interruption.keep("nothing was decided, and what was stored stays")
    from visionops.comparing.comparison_report import comparison_page
    from visionops_assets.pages.html_page import write_html
    from visionops_assets.promotion.version_differences import images_at

    project, sides = _read(words or [])
    comparing = comparing_of(project, quiet=as_json or markdown)
    if not sides:
        found = comparing.usual(on)
    else:
        found = comparing.named(sides[0], sides[1] if len(sides) > 1 else "champion", on)
    if html is not None:
        commit = found.measured.commit if found.measured is not None else ""
        write_html(comparison_page(found, images_at(comparing.lakefs, project.repository, commit)), html)
        # Not on standard output, which a program may read.
        typer.echo(f"written: {html}", err=True)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
        return
    page = comparison_page(found, on=on)
    typer.echo(page.to_markdown() if markdown else page.to_text(), nl=False)


def comparing_of(project: "Project", *, quiet: bool) -> "Comparing":
    """What compares in a project, on the services of the environment; long work is told on standard error."""
    from resources import home
    from resources.storage import Scratch
    from visionops import services
    from visionops.comparing.comparison import Comparing

    return Comparing(
        project,
        services.registry(),
        services.lakefs(),
        services.artifacts(),
        Scratch(root=str(home.cache())),
        (lambda _: None) if quiet else (lambda line: typer.echo(line, err=True)),
    )


def _read(words: list[str]) -> "tuple[Project, list[str]]":
    """The project, and what is compared. A first word that is a project's name is the project."""
    from resources import home
    from resources.nearest import there_are
    from visionops.comparing.sides import ComparisonError
    from visionops_assets.config.project import find_project, load_projects

    projects = load_projects(home.projects_folder())
    names = [project.project for project in projects]
    if words and words[0] in names:
        chosen, sides = words[0], words[1:]
    elif len(names) == 1:
        chosen, sides = names[0], words
    elif len(words) == 3:
        chosen, sides = words[0], words[1:]
    else:
        first = words[0] if words else ""
        raise ComparisonError(f"name the project first; {there_are(first, names)}")
    if len(sides) > 2:
        raise ComparisonError(f"two things are compared, not {len(sides)}: {', '.join(sides)}")
    return find_project(projects, chosen), sides


def diff_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    before: Annotated[str, typer.Argument(metavar="A", help=_NAMES)],
    after: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show the images added, removed, relabelled or moved from A to B, by class and batch.

    `visionops diff digits week-02 week-03` shows what week-03 brought, `visionops diff digits champion main` what came
    since the champion was trained.
    """
    from visionops import services
    from visionops_assets.dataset.versions.manifest_diff import diff_manifests

    found = services.project(project)
    old, new = _manifest(found, before), _manifest(found, after)
    changed = diff_manifests(old, new, services.artifacts())
    if as_json:
        told = {"project": project, "a": before, "b": after, **changed.to_json()}
        typer.echo(json.dumps(told, indent=1))
    else:
        typer.echo(changed.summary())


def _manifest(project: "Project", text: str) -> "Manifest":
    """The manifest of what `text` names; MLflow is asked only where that may be a model."""
    from visionops import services
    from visionops.comparing.sides import Sides, is_model
    from visionops_assets.dataset.versions.dataset_version import UnknownVersion, manifest_at, named_commit

    lakefs, artifacts = services.lakefs(), services.artifacts()
    if not is_model(text):
        try:
            return manifest_at(lakefs, artifacts, project, named_commit(lakefs, project, text).id)
        except UnknownVersion:
            # A run may be called so; if none is, what is known is said with the models.
            pass
    return Sides(project, services.registry(), lakefs, artifacts).data(text)


def what_if_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    version: Annotated[
        str | None,
        typer.Option(
            "--dataset-version",
            metavar="VERSION",
            help="Dataset version, commit, branch, tag or batch; by default the newest dataset version.",
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
    from visionops.comparing.comparison_report import failed_page, proposal_page

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
    """Dataset version, Dagster run, verdict and comparison. Raises `Refused` where the run fails."""
    import definitions
    from visionops import services
    from visionops.runs import run_job
    from visionops.terminal import shown_progress
    from visionops_assets.config.project import find_project
    from visionops_assets.dataset.versions.commit_log import tags_of_version
    from visionops_assets.dataset.versions.dataset_version import named_version

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
        raise Refused(f"the what-if of {name} on {partition} failed: {why}")
    return partition, ran.run_id, *_outcome(project, partition)


def _make_known(defs: "dg.Definitions", instance: "dg.DagsterInstance", project: "Project", key: str) -> None:
    """Let this Dagster know a dataset version, as the sensor does."""
    from visionops.runs import evaluate_sensor
    from visionops_assets.shells.asset_options import dataset_versions

    versions = dataset_versions(project.project).name or ""
    if not instance.has_dynamic_partition(versions, key):
        evaluate_sensor(defs, instance, f"{project.project}_commits")
    # A commit of a branch is no dataset version of main; here it is looked at as if it were.
    if not instance.has_dynamic_partition(versions, key):
        instance.add_dynamic_partitions(versions, [key])


def _outcome(project: "Project", partition: str) -> "tuple[Verdict, Comparison | None]":
    """The verdict of the run that just ended, and the comparison where there is a champion."""
    from resources.models.records import version_on
    from visionops import services
    from visionops_assets.evaluation import verdict_store
    from visionops_assets.evaluation.verdict_store import read_address

    registry = services.registry()
    address = read_address(services.artifacts(), "what_if", project.project, partition)
    verdict = None
    if address is not None:
        verdict = verdict_store.find(registry, project.project, address.run_id, address.identity, "what_if")
    if address is None or verdict is None:
        raise NotFound(f"the what-if of {project.project} on {partition} left no verdict: run it again")
    if version_on(registry.models.get(project.project)) is None:
        return verdict, None
    comparing = comparing_of(project, quiet=True)
    return verdict, comparing.run(address.run_id, "champion", partition)


def _add(report: Path | None, text: str) -> None:
    from resources.safe_files import append

    if report is not None:
        append(report, f"{text}\n")


def comment_command(
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

    from visionops.forge import post_comment

    try:
        text = report.read_text(encoding="utf-8")
    except OSError as error:
        raise Invalid(
            f"{report}: {error.strerror}; write it with `visionops what-if PROJECT --report {report}`"
        ) from error
    typer.echo(text)
    typer.echo(post_comment(text, name, report, os.environ), err=True)
