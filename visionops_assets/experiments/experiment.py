"""Train recipes one after the other, each recorded as an experiment. No gate, no alias, no significance."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from resources.models.records import EXPERIMENT, TAG_KIND, TAG_SWEEP, Run
from resources.models.registry import ModelRegistry
from resources.service_clients import Stores
from visionops_assets.common.errors import TrainingError
from visionops_assets.config.project import Project
from visionops_assets.config.recipe import Recipe
from visionops_assets.dataset.versions.dataset_version import DatasetVersion
from visionops_assets.training.challenge import challenge
from visionops_assets.training.provenance import EpochReport
from visionops_assets.training.training_task import training_task

# Lower where it is better.
LOSS = "validation_loss"


@dataclass(frozen=True)
class Attempt:
    """One recipe to train; `values` are those by which it differs from the project's."""

    values: Mapping[str, Any]
    recipe: Recipe
    name: str | None = None


@dataclass(frozen=True)
class Trained:
    """What became of an attempt. Where the training itself failed, `error` says why and there are no weights."""

    run_id: str | None
    name: str
    url: str | None
    values: Mapping[str, Any]
    reused: bool
    weights_sha256: str | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Hearing:
    """Who is told: `say` lines, `on_epoch` each epoch, `on_attempt` each attempt that ended."""

    say: Callable[[str], None] = lambda text: None
    on_epoch: Callable[[EpochReport], None] = lambda report: None
    on_attempt: Callable[[Trained], None] = lambda trained: None


def train_all(
    project: Project,
    version: DatasetVersion,
    attempts: Sequence[Attempt],
    stores: Stores,
    *,
    sweep: str | None = None,
    hearing: Hearing | None = None,
) -> list[Trained]:
    """Train each attempt on a dataset version. What was trained before, by whomever, is found and reused.

    A training that cannot go on (it diverged, its model does not fit) fails alone; the others are trained. Raises
    what lakeFS and MLflow raise, with everything before it kept.
    """
    heard = hearing or Hearing()
    results = []
    for attempt in attempts:
        trained = _train(project, version, attempt, stores, sweep, heard)
        heard.on_attempt(trained)
        results.append(trained)
    return results


def score_of(task: str) -> str:
    """The metric of a task's validation, higher where it is better."""
    return f"validation_{training_task(task).score}"


def ranked(results: Sequence[Trained], task: str) -> list[Trained]:
    """Best first: by the validation score, ties by the validation loss, then as trained; never by the holdout.

    What has no validation score comes last.
    """
    score = score_of(task)

    def place(each: Trained) -> tuple[float, float]:
        return -each.metrics.get(score, -math.inf), each.metrics.get(LOSS, math.inf)

    return sorted(results, key=place)


def best_of(results: Sequence[Trained], task: str) -> Trained | None:
    """The first of `ranked`; None where no attempt has a validation score."""
    return next((each for each in ranked(results, task) if score_of(task) in each.metrics), None)


def _train(
    project: Project,
    version: DatasetVersion,
    attempt: Attempt,
    stores: Stores,
    sweep: str | None,
    heard: Hearing,
) -> Trained:
    name = attempt.name or _name(project, version, attempt.values)
    tags = {TAG_KIND: EXPERIMENT, **({TAG_SWEEP: sweep} if sweep else {})}
    try:
        made, reused = challenge(
            project.model_copy(update={"recipe": attempt.recipe}),
            version,
            stores,
            say=heard.say,
            tags=tags,
            name=name,
            on_epoch=heard.on_epoch,
        )
    except TrainingError as error:
        return Trained(None, name, None, attempt.values, False, None, error=str(error))
    registry = stores.registry
    run = registry.runs.get(made.run_id)
    if sweep and reused:
        _join(registry, run, sweep)
    return Trained(
        run.id,
        run.name,
        registry.run_url(run),
        attempt.values,
        reused,
        made.weights_sha256,
        dict(run.metrics),
        (run.ended - run.started).total_seconds() if run.ended else None,
    )


def _join(registry: ModelRegistry, run: Run, sweep: str) -> None:
    """Let a run that was trained before show as a part of this sweep too."""
    known = [name for name in run.tags.get(TAG_SWEEP, "").split(", ") if name]
    if sweep not in known:
        registry.runs.set_tags(run.id, {TAG_SWEEP: ", ".join([*known, sweep])})


def _name(project: Project, version: DatasetVersion, values: Mapping[str, Any]) -> str:
    """A run's name that tells it from its neighbours in MLflow's list."""
    differing = " ".join(f"{path}={_short(value)}" for path, value in values.items())
    return f"{project.project} {differing or version.partition}"[:250]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
