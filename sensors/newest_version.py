"""What becomes of the newest dataset version at the next look: a run, or why there is none: it starts nothing."""

import datetime
from dataclasses import dataclass, replace
from typing import Literal

import dagster as dg

from resources import clocks
from resources.artifact_store import ArtifactStore
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs_records import Commit
from resources.models.registry import ModelRegistry
from sensors.asked_again import Standing, look_again
from sensors.owned_sensor import Wait
from sensors.readiness import EarlierRun, Go, readiness
from visionops_assets.common import run_tags
from visionops_assets.evaluation.address import read_address
from visionops_assets.partitions import commit_prefix, dataset_version
from visionops_assets.project import Project
from visionops_assets.refusals import PromotionRefused
from visionops_assets.run_reason import is_attempt, note_outcome
from visionops_assets.training.training_version import training_version

SAMPLES = "batches/"


@dataclass(frozen=True)
class Outlook:
    """The `answer`, by the present recipe and code (`training_version`).

    `again` says why what was decided is asked again, empty where it is not; `refused` what MLflow's records do not let
    be asked again; `passed_over` counts the runs that speak of it no more.
    """

    answer: Go | Wait
    training_version: str
    again: str = ""
    refused: str = ""
    passed_over: int = 0


def outlook(
    instance: dg.DagsterInstance,
    project: Project,
    lakefs: LakeFSResource,
    artifacts: ArtifactStore,
    registry: ModelRegistry,
    newest: str,
    commit: Commit,
    happened: clocks.FirstSeen,
) -> Outlook:
    """What becomes of the dataset version `newest`, made by `commit`. Raises `RegistryError` and `LakeFSError`."""
    version = training_version(project)
    # By our clock: the server dated it by its own.
    committed = happened.when(commit.id, commit.created_at - lakefs.clock_ahead())
    decided = read_address(artifacts, "decision", project.project, newest)
    last = _last_request(instance, project.project)
    requested = happened.when(*last) if last else None
    now = clocks.now()
    runs = _runs(instance, project.project, commit.id, version)
    standing, refused = Standing(decided if decided and decided.training_version == version else None), ""
    try:
        standing = look_again(registry, project, standing.decided)
    except PromotionRefused as error:
        refused = str(error)
    since = [run for run in runs if standing.counts(run)]
    answer = readiness(
        project.project,
        newest,
        project.trigger,
        stored_verdict=standing.decided.verdict if standing.decided else None,
        runs=since,
        age=now - committed,
        since_last_request=now - requested if requested else None,
        new_samples=_new_samples(project, lakefs, artifacts, instance, commit),
        again=bool(standing.again),
    )
    if not isinstance(answer, Go):
        answer = replace(answer, reason=answer.reason + standing.waits)
    return Outlook(answer, version, standing.again, refused, len(runs) - len(since))


def _new_samples(
    project: Project,
    lakefs: LakeFSResource,
    artifacts: ArtifactStore,
    instance: dg.DagsterInstance,
    commit: Commit,
) -> int:
    enough = project.trigger.min_new_samples
    if enough <= 1:
        return enough
    known = set(instance.get_dynamic_partitions(f"{project.project}_dataset_versions"))
    # By the log, not by key: one that is dated in the future would be the newest until then.
    log = (dataset_version(each.id, each.created_at) for each in lakefs.log(project.repository, MAIN))
    versions = (key for key in log if key in known)
    decided = next(
        (key for key in versions if read_address(artifacts, "decision", project.project, key)), None
    )
    if decided is None:
        return enough
    counted = 0
    for change in lakefs.diff(project.repository, commit_prefix(decided), commit.id, SAMPLES):
        counted += change.kind == "added" and "/images/" in change.path
        if counted >= enough:
            break
    return counted


def _runs(instance: dg.DagsterInstance, project: str, commit: str, version: str) -> list[EarlierRun]:
    wanted = {
        run_tags.PROJECT: project,
        run_tags.COMMIT: commit,
        run_tags.TRAINING_VERSION: version,
        run_tags.INTENT: run_tags.DECISION,
    }
    records = instance.get_run_records(dg.RunsFilter(tags=wanted), ascending=True)
    return [_earlier(instance, record.dagster_run) for record in records]


def _earlier(instance: dg.DagsterInstance, run: dg.DagsterRun) -> EarlierRun:
    outcome, rules = note_outcome(instance, run), run.tags.get(run_tags.RULES)
    if not run.is_finished:
        return EarlierRun(run.run_id, "in progress", outcome, rules=rules)
    if run.status == dg.DagsterRunStatus.CANCELED:
        return EarlierRun(run.run_id, "cancelled", outcome, is_attempt(run), rules)
    status: Literal["succeeded", "errored"] = "succeeded" if run.is_success else "errored"
    return EarlierRun(run.run_id, status, outcome, is_attempt(run), rules)


def _last_request(instance: dg.DagsterInstance, project: str) -> tuple[str, datetime.datetime] | None:
    """The newest decision run and when it was requested, as its record is dated."""
    wanted = {run_tags.PROJECT: project, run_tags.INTENT: run_tags.DECISION}
    records = instance.get_run_records(dg.RunsFilter(tags=wanted), limit=1)
    return (records[0].dagster_run.run_id, records[0].create_timestamp) if records else None
