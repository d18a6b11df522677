"""New commits on a project's `main` become dataset versions, and the newest one a run.

Every day, a sample of the newest dataset version's images is read again.
"""

import json
from dataclasses import asdict, dataclass, field, replace

import dagster as dg

from resources import clocks
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import Commit, LakeFSError, LakeFSNotFound
from resources.models.records import RegistryError
from resources.models.registry import ModelRegistry
from resources.service_clients import Stores
from resources.storage import ArtifactStore, Scratch
from sensors.newest_version import outlook
from sensors.readiness import Go, Wait, owned_sensor, skip_wrong, waiting_for
from sensors.unfinished_runs import end_stale_runs
from visionops_assets.common import run_tags
from visionops_assets.common.keys import commit_prefix, dataset_version
from visionops_assets.config.project import Project
from visionops_assets.dataset.versions.commit_log import (
    changed_samples,
    in_words_if_deleted,
    tags_of_version,
)
from visionops_assets.graph import ProjectGraph
from visionops_assets.shells.asset_options import dataset_versions

# A lost cursor reads the whole log; in steps, so that no tick exceeds the sensor's time limit.
COMMITS_PER_TICK = 200
# At night, when lakeFS has time.
DAILY_SAMPLE_CRON = "17 3 * * *"


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
        lakefs: dg.ResourceParam[LakeFSResource],
        artifacts: dg.ResourceParam[ArtifactStore],
        registry: dg.ResourceParam[ModelRegistry],
        scratch: dg.ResourceParam[Scratch],
    ) -> dg.SensorResult | dg.SkipReason:
        stale = end_stale_runs(context.instance)
        if stale:
            context.log.warning(f"ended, their processes are gone: {', '.join(stale)}")
        try:
            return _look(context, Stores(lakefs, registry, artifacts, scratch))
        except LakeFSNotFound as error:
            known = len(context.instance.get_dynamic_partitions(dataset_versions(project.project).name or ""))
            if known:
                of = f"{known} of its dataset versions are known here"
                return skip_wrong(in_words_if_deleted(error, project, of))
            return dg.SkipReason(
                f"lakeFS has no repository {project.repository} yet: `visionops import {project.project} SOURCE "
                "--batch NAME` makes it with a first batch"
            )
        except LakeFSError as error:
            return skip_wrong(str(error))

    def _look(context: dg.SensorEvaluationContext, stores: Stores) -> dg.SensorResult:
        lakefs = stores.lakefs
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
            unclear = _unclear(stores.registry, graph)
            wanted = unclear or _wanted(context, stores, now.newest, seen_at)
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
        stores: Stores,
        newest: str | None,
        happened: clocks.FirstSeen,
    ) -> dg.RunRequest | dg.SkipReason:
        if newest is None:
            return dg.SkipReason(
                f"{project.repository}/main has no samples of annotations {project.annotations} yet"
            )
        commit = stores.lakefs.head(project.repository, commit_prefix(newest))
        try:
            found = outlook(context.instance, project, stores, commit, happened)
        except RegistryError as error:
            return skip_wrong(str(error))
        if found.refused:
            context.log.warning(found.refused)
        if not isinstance(found.answer, Go):
            return waiting_for([found.answer], "")
        if found.again:
            context.log.info(f"{newest} is asked again: {found.again}")
        return dg.RunRequest(
            run_key=f"{project.project}/{commit.id}/{found.training_version}/{found.answer.number + found.passed_over}",
            partition_key=newest,
            tags={
                run_tags.PROJECT: project.project,
                **tags_of_version(stores.lakefs, project, commit),
                run_tags.TRAINING_VERSION: found.training_version,
                run_tags.RULES: run_tags.rules_tag(project.gate.digest()),
                run_tags.INTENT: run_tags.DECISION,
                run_tags.ATTEMPT: str(found.answer.attempt),
            },
        )

    return commits


def _unclear(registry: ModelRegistry, graph: ProjectGraph) -> dg.SkipReason | None:
    """That nothing is decided while it is not clear what runs, or while MLflow does not say: a run would only fail."""
    from visionops_assets.champions.disagreements import disagreements, former_name

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


def daily_sample_schedule(graph: ProjectGraph) -> dg.ScheduleDefinition:
    """The schedule of one project."""
    project = graph.project

    @dg.schedule(
        name=f"{project.project}_daily_sample",
        job=graph.verify,
        cron_schedule=DAILY_SAMPLE_CRON,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Asks for `images_intact` on the newest dataset version.",
        tags={"project": project.project},
    )
    def daily_sample(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        keys = context.instance.get_dynamic_partitions(dataset_versions(project.project).name or "")
        if not keys:
            return dg.SkipReason(f"{project.project} has no dataset version yet")
        # By its tag: a job of checks alone has no partitions by which Dagster would take a key.
        return dg.RunRequest(tags={run_tags.PARTITION: max(keys), run_tags.PROJECT: project.project})

    return daily_sample
