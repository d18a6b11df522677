"""`visionops submit`: have an experiment's run, or a finished file, judged, and promoted if it passes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionops import interruption
from visionops.foreign_file import option, recorded_run, require_either

if TYPE_CHECKING:
    import dagster as dg

    from resources.lakefs.client import LakeFSResource
    from resources.lakefs.replies import Commit
    from resources.models.registry import ModelRegistry
    from visionops_assets.config.project import Project
    from visionops_assets.evaluation.verdict_store import ListedVerdict
    from visionops_assets.training.challenger import Challenger


@dataclass(frozen=True)
class Submitted:
    """What became of a submission. `dagster_run` is None where the run's model is in production already."""

    project: str
    run_id: str
    partition: str | None
    dagster_run: str | None
    outcome: str
    verdict: str | None
    version: int | None
    reason: str

    def to_text(self) -> str:
        """For a terminal."""
        from visionops_assets.shells.run_outcomes import outcome_in_words

        return f"{self.project}: {outcome_in_words(self.outcome, self.reason)}"

    def to_json(self) -> dict[str, Any]:
        """What --json prints."""
        return asdict(self)


def submit_command(
    project: Annotated[str, typer.Argument(help="Name of the project.")],
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]",
            help="MLflow run of an experiment, as `visionops train` prints it.",
            show_default=False,
        ),
    ] = None,
    onnx: Annotated[Path | None, option("The file, in the place of a RUN.", "--onnx")] = None,
    convention: Annotated[
        str | None,
        option("What its outputs mean: visionops, logits, yolo, yolo_obj or boxes6.", "--convention"),
    ] = None,
    trained_on: Annotated[
        str | None,
        option("The dataset version, commit or batch that it was trained on.", "--trained-on"),
    ] = None,
    unseen: Annotated[
        bool, option("Nobody knows what it was trained on, and the holdout is new to it.", "--unseen")
    ] = False,
    why: Annotated[str | None, option("How one knows that; kept for ever.", "--why")] = None,
    channel_order: Annotated[
        str | None, option("How it takes colours: rgb, bgr or grey.", "--channel-order")
    ] = None,
    scale: Annotated[float | None, option("What values of 0 to 255 are divided by.", "--scale")] = None,
    mean: Annotated[
        str | None, option("What is subtracted then: one number, or one a channel, with commas.", "--mean")
    ] = None,
    std: Annotated[str | None, option("What that is divided by, likewise.", "--std")] = None,
    padding: Annotated[
        str | None,
        option("How an image reaches its size: black keeps the aspect ratio, none stretches.", "--padding"),
    ] = None,
    class_order: Annotated[
        str | None,
        option("The classes in the order of its numbers, with commas; else the project's.", "--class-order"),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say only what came of it, not what is being done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Judge an experiment's model, or a finished ONNX file, on the newest dataset version's holdout, as a decision: it
    spends significance and is promoted if it passes, as the project's `approval` says.

    Nothing is trained. A file is opened in a process of its own that it may end, and VISIONOPS_ACTOR vouches for what
    is said of it; --unseen needs `gate.foreign_models: allow`. Submitting again changes nothing. A refusal is no
    failure: exit code 0; an error is 1.
    """
    interruption.keep("a verdict is stored whole or not at all")
    said = {
        "convention": convention,
        "trained_on": trained_on,
        "unseen": unseen,
        "why": why,
        "channel_order": channel_order,
        "scale": scale,
        "mean": mean,
        "std": std,
        "padding": padding,
        "class_order": class_order,
    }
    require_either(run, onnx, said)
    from visionops import services

    registry, lakefs = services.registry(), services.lakefs()
    found = services.project(project)
    if onnx is not None:
        run = recorded_run(found, onnx, said, actor=services.actor(), registry=registry, lakefs=lakefs)
    else:
        assert run is not None
        run = _run_id(registry, run, [project])
    import definitions
    from visionops.terminal import shown_progress

    with services.dagster() as instance, shown_progress(not quiet):
        ended = submit(definitions.defs, instance, found, run, registry=registry, lakefs=lakefs)
    typer.echo(json.dumps(ended.to_json(), indent=1) if as_json else ended.to_text())
    if ended.outcome == "error":
        raise typer.Exit(1)
    if ended.outcome == "promoted" and not as_json and onnx is None:
        typer.echo(
            f"the next commit trains the recipe in the project file of {found.project}: put this one there to keep it",
            err=True,
        )


def submit(
    defs: "dg.Definitions",
    instance: "dg.DagsterInstance",
    project: "Project",
    run_id: str,
    *,
    registry: "ModelRegistry",
    lakefs: "LakeFSResource",
) -> Submitted:
    """Run the project's decision with a run's model in the place of the challenger, in this process.

    Raises `SubmissionRefused`, `RunNotFound`, `EmptyVersion` before anything runs, and what lakeFS and MLflow raise.
    """
    from visionops.runs import run_job
    from visionops_assets.champions.history import production
    from visionops_assets.common import run_tags
    from visionops_assets.common.keys import dataset_version
    from visionops_assets.dataset.versions.commit_log import tags_of_version
    from visionops_assets.promotion.promote import champion_of
    from visionops_assets.shells.run_outcomes import note_outcome
    from visionops_assets.training.challenger import submitted_challenger

    challenger, _ = submitted_challenger(registry, lakefs, project, run_id)
    model = registry.models.get(project.project)
    champion = champion_of(registry, model)
    if challenger.weights_sha256 == champion:
        version = production(model).version
        said = f"the model of run {run_id} is version {version}, which is in production already"
        return Submitted(project.project, run_id, None, None, "unchanged", None, version, said)
    commit = _newest(lakefs, project)
    partition = dataset_version(commit.id, commit.created_at)
    _make_known(instance, lakefs, project, partition, commit)
    ran = run_job(
        defs,
        instance,
        f"{project.project}_decide",
        partition=partition,
        config={f"{project.project}__challenger": {"run": run_id}},
        tags={
            run_tags.PROJECT: project.project,
            **tags_of_version(lakefs, project, commit),
            run_tags.TRAINING_VERSION: challenger.training_version,
            run_tags.INTENT: run_tags.DECISION,
            run_tags.SUBMITTED: run_id,
        },
    )
    ended = instance.get_run_by_id(ran.run_id)
    outcome = (note_outcome(instance, ended) if ended is not None else None) or run_tags.ERROR
    verdict = _verdict(registry, project, challenger, champion)
    has_verdict = verdict is not None and outcome != run_tags.ERROR
    return Submitted(
        project.project,
        run_id,
        partition,
        ran.run_id,
        outcome,
        verdict.identity if verdict is not None else None,
        production(registry.models.get(project.project)).version if outcome == run_tags.PROMOTED else None,
        verdict.summary if has_verdict and verdict is not None else ran.error or outcome,
    )


def _run_id(registry: "ModelRegistry", text: str, projects: Sequence[str]) -> str:
    """The id of the experiment that a person means, by its id, a unique beginning of it, or its name.

    Raises `RunNotFound`, naming what comes near.
    """
    from resources.models.records import TAG_KIND, RunNotFound
    from resources.nearest import did_you_mean

    try:
        return registry.runs.get(text).id
    except RunNotFound as error:
        runs = [run for name in projects for run in registry.runs.search(name) if TAG_KIND in run.tags]
        meant = [run for run in runs if run.id.startswith(text) or run.name == text]
        if len(meant) == 1:
            return meant[0].id
        if meant:
            ids = ", ".join(run.id for run in meant[:5])
            raise RunNotFound(f"{text} means {len(meant)} runs: {ids}; give more of an id") from error
        known = [name for run in runs for name in (run.name, run.id)]
        raise RunNotFound(
            f"{error}{did_you_mean(text, known, '.')} `visionops train PROJECT` prints the ids of its runs"
        ) from error


def project_of_run(registry: "ModelRegistry", text: str) -> str:
    """The project of an experiment, by its run's id, a beginning of it, or its name.

    Raises `RunNotFound`, and `SubmissionRefused` for a run of no project.
    """
    from resources.models.records import TAG_PROJECT
    from visionops import services
    from visionops_assets.training.challenger import SubmissionRefused

    run_id = _run_id(registry, text, [each.project for each in services.projects()])
    owner = registry.runs.get(run_id).tags.get(TAG_PROJECT)
    if owner is None:
        raise SubmissionRefused(
            f"run {run_id} is of no project of VisionOps: submit one that `visionops train PROJECT` or "
            "visionops.tracking made"
        )
    return owner


def _newest(lakefs: "LakeFSResource", project: "Project") -> "Commit":
    from visionops_assets.dataset.versions.commit_log import newest_commit
    from visionops_assets.dataset.versions.dataset_version import EmptyVersion

    commit = newest_commit(lakefs, project)
    if commit is None:
        raise EmptyVersion(f"{project.repository}/main has no samples to judge a run of {project.project} on")
    return commit


def _make_known(
    instance: "dg.DagsterInstance",
    lakefs: "LakeFSResource",
    project: "Project",
    partition: str,
    commit: "Commit",
) -> None:
    """Tell the instance of the newest dataset version, where no sensor did yet, as the sensor does."""
    from sensors.new_commits import observed
    from visionops_assets.shells.asset_options import asset_key, dataset_versions

    name = dataset_versions(project.project).name or ""
    if not instance.has_dynamic_partition(name, partition):
        instance.add_dynamic_partitions(name, [partition])
        event = observed(asset_key(project, "images"), partition, commit, lakefs, project)
        instance.report_runless_asset_event(event)


def _verdict(
    registry: "ModelRegistry", project: "Project", challenger: "Challenger", champion: str | None
) -> "ListedVerdict | None":
    """The newest decision on this challenger against who was champion when it was submitted."""
    from visionops_assets.evaluation.verdict_store import listed

    decisions = listed(registry.models.get(project.project).tags).values()
    pair = (challenger.weights_sha256, champion)
    return next(
        (each for each in reversed(list(decisions)) if (each.challenger, each.champion) == pair), None
    )
