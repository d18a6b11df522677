"""New commits on a project's `main` become dataset versions, and the newest one a run."""

import datetime
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import dagster as dg

from resources import clocks
from resources.artifact_store import ArtifactStore
from resources.lakefs import MAIN, LakeFSResource
from resources.lakefs_errors import LakeFSError, LakeFSNotFound
from resources.lakefs_records import Commit
from resources.model_errors import RegistryError
from resources.model_registry import ModelRegistry
from sensors.asked_again import Standing, look_again
from sensors.owned_sensor import Wait, owned_sensor, skip_wrong, waiting_for
from sensors.readiness import EarlierRun, Go, readiness
from sensors.stale_runs import end_stale_runs
from visionops_assets import run_tags
from visionops_assets.dataset.commits import changed_samples, tags_of_version
from visionops_assets.evaluation.address import read_address
from visionops_assets.graph import ProjectGraph
from visionops_assets.partitions import commit_prefix, dataset_version, dataset_versions
from visionops_assets.project import Project
from visionops_assets.refusals import PromotionRefused
from visionops_assets.run_reason import is_attempt, note_outcome
from visionops_assets.training.training_version import training_version

# A lost cursor reads the whole log; in steps, so that no tick exceeds the sensor's time limit.
COMMITS_PER_TICK = 200
SAMPLES = "batches/"


@dataclass(frozen=True)
class Cursor:
    """The last commit read and the newest dataset version among all that were read; lost, it is made again.

    `future` has when things dated in the future were first seen, by `FirstSeen`.
    """

    commit: str | None = None
    newest: str | None = None
    future: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """What `write` wrote; nothing seen where there is no cursor."""
        return cls(**json.loads(text)) if text else cls()

    def write(self) -> str:
        """The stored form."""
        return json.dumps(asdict(self))


def commit_sensor(graph: ProjectGraph) -> dg.SensorDefinition:
    """The sensor of one project."""
    project, images = graph.project, graph.images

    @owned_sensor(
        name=f"{project.project}_commits",
        job=graph.decide,
        minimum_interval_seconds=int(project.trigger.check_every.total_seconds()),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Reads the log of `{project.repository}/main`. Each commit that changed samples becomes a partition; "
            "the newest is trained, evaluated and judged once."
        ),
        owners=list(project.owners),
        tags={"project": project.project},
    )
    def commits(
        context: dg.SensorEvaluationContext,
        lakefs: LakeFSResource,
        artifacts: ArtifactStore,
        registry: ModelRegistry,
    ) -> dg.SensorResult | dg.SkipReason:
        stale = end_stale_runs(context.instance)
        if stale:
            context.log.warning(f"ended, their processes are gone: {', '.join(stale)}")
        try:
            return _look(context, lakefs, artifacts, registry)
        except LakeFSNotFound as error:
            advice = f"`visionops import {project.project} …` creates it with a first batch."
            known = len(context.instance.get_dynamic_partitions(dataset_versions(project.project).name or ""))
            if known:
                return skip_wrong(f"{error}, though {known} of its dataset versions are known here. {advice}")
            return dg.SkipReason(f"{error}. {advice}")
        except LakeFSError as error:
            return skip_wrong(str(error))

    def _look(
        context: dg.SensorEvaluationContext,
        lakefs: LakeFSResource,
        artifacts: ArtifactStore,
        registry: ModelRegistry,
    ) -> dg.SensorResult:
        seen = Cursor.read(context.cursor)
        log = list(lakefs.log(project.repository, MAIN, stop_at=seen.commit))[::-1]
        found = log[:COMMITS_PER_TICK]
        changed = [commit for commit in found if changed_samples(lakefs, project, commit)]
        versions = dataset_versions(project.project)
        known = set(context.instance.get_dynamic_partitions(versions.name or ""))
        keys = {dataset_version(commit.id, commit.created_at): commit for commit in changed}
        fresh = {key: commit for key, commit in keys.items() if key not in known}
        # By the log, not by key: two commits of one second have keys in no order.
        now = Cursor(
            commit=found[-1].id if found else seen.commit, newest=[*keys][-1] if keys else seen.newest
        )
        if len(found) < len(log):
            wanted: dg.RunRequest | dg.SkipReason = dg.SkipReason(
                f"catching up: {len(log) - len(found)} commits are still to be read"
            )
        else:
            seen_at = clocks.FirstSeen(clocks.now(), seen.future)
            unclear = _unclear(registry, graph)
            wanted = unclear or _wanted(context, lakefs, artifacts, registry, now.newest, seen_at)
            now = replace(now, future=seen_at.seen)
        return dg.SensorResult(
            run_requests=[wanted] if isinstance(wanted, dg.RunRequest) else [],
            skip_reason=wanted if isinstance(wanted, dg.SkipReason) else None,
            dynamic_partitions_requests=[versions.build_add_request([*fresh])] if fresh else [],
            asset_events=[
                observed(images.key, key, commit, lakefs, project) for key, commit in fresh.items()
            ],
            cursor=now.write(),
        )

    def _wanted(
        context: dg.SensorEvaluationContext,
        lakefs: LakeFSResource,
        artifacts: ArtifactStore,
        registry: ModelRegistry,
        newest: str | None,
        happened: clocks.FirstSeen,
    ) -> dg.RunRequest | dg.SkipReason:
        if newest is None:
            return dg.SkipReason(
                f"{project.repository}/main has no samples of annotations {project.annotations} yet"
            )
        commit = lakefs.head(project.repository, commit_prefix(newest))
        version = training_version(project)
        # By our clock: the server dated it by its own.
        committed = happened.when(commit.id, commit.created_at - lakefs.clock_ahead())
        decided = read_address(artifacts, "decision", project.project, newest)
        last = _last_request(context.instance, project.project)
        requested = happened.when(*last) if last else None
        now = clocks.now()
        runs = _runs(context.instance, project.project, commit.id, version)
        standing = Standing(decided if decided and decided.training_version == version else None)
        try:
            standing = look_again(registry, project, standing.decided)
        except RegistryError as error:
            return skip_wrong(str(error))
        except PromotionRefused as error:
            context.log.warning(str(error))
        since = [run for run in runs if standing.counts(run)]
        answer = readiness(
            project.project,
            newest,
            project.trigger,
            stored_verdict=standing.decided.verdict if standing.decided else None,
            runs=since,
            age=now - committed,
            since_last_request=now - requested if requested else None,
            new_samples=_new_samples(lakefs, artifacts, context.instance, commit),
            again=bool(standing.again),
        )
        if not isinstance(answer, Go):
            return waiting_for([replace(answer, reason=answer.reason + standing.waits)], "")
        if standing.again:
            context.log.info(f"{newest} is asked again: {standing.again}")
        return dg.RunRequest(
            run_key=f"{project.project}/{commit.id}/{version}/{answer.number + len(runs) - len(since)}",
            partition_key=newest,
            tags={
                run_tags.PROJECT: project.project,
                **tags_of_version(lakefs, project, commit),
                run_tags.TRAINING_VERSION: version,
                run_tags.RULES: run_tags.rules_tag(project.gate.digest()),
                run_tags.INTENT: run_tags.DECISION,
                run_tags.ATTEMPT: str(answer.attempt),
            },
        )

    def _new_samples(
        lakefs: LakeFSResource, artifacts: ArtifactStore, instance: dg.DagsterInstance, commit: Commit
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

    return commits


def _unclear(registry: ModelRegistry, graph: ProjectGraph) -> dg.SkipReason | None:
    """That nothing is decided while it is not clear what runs, or while MLflow does not say: a run would only fail."""
    from visionops_assets.disagreements import disagreements, former_name

    try:
        wrong = [each for each in disagreements(registry, graph.project.project) if each.wrong]
        former = former_name(registry, graph.project, graph.neighbours)
    except RegistryError as error:
        return skip_wrong(str(error))
    if former is not None:
        wrong.append(former)
    if not wrong:
        return None
    return waiting_for([Wait(each.sentence(), wrong=True) for each in wrong], "")


def observed(
    key: dg.AssetKey, partition: str, commit: Commit, lakefs: LakeFSResource, project: Project
) -> dg.AssetMaterialization:
    """What is reported of a dataset version when it is seen first: that its images are there, and whose they are."""
    return dg.AssetMaterialization(
        asset_key=key,
        partition=partition,
        description=commit.message,
        metadata={
            "commit": commit.id,
            "committed_at": dg.MetadataValue.timestamp(commit.created_at),
            "committer": commit.committer,
            "lakefs": dg.MetadataValue.url(lakefs.link(project.repository, f"commits/{commit.id}")),
        },
        tags={"dagster/data_version": commit.id},
    )


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
