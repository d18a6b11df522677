"""The spool of production is committed at the project's interval, and the days that commits touched are looked at."""

import datetime
import json
from dataclasses import asdict, dataclass, field, replace

import dagster as dg

from resources.artifact_store import ArtifactStore
from resources.lakefs import MAIN, LakeFSResource
from resources.lakefs_errors import LakeFSError, LakeFSNotFound
from resources.model_lock import PromotionLocked
from resources.model_registry import ModelRegistry
from resources.spool import Spool
from sensors.labels_of_batches import take_labels
from sensors.owned_sensor import owned_sensor
from sensors.stale_runs import fail_stale_runs
from sensors.touched_days import touched_days
from visionops_assets import run_tags
from visionops_assets.graph import ProjectGraph
from visionops_assets.monitoring.inference_log import production_repository
from visionops_assets.project import Project

# Each is a run: the rest is asked for by the next ticks.
DAYS_A_TICK = 31
LOCK_SECONDS = 1.0


@dataclass(frozen=True)
class Cursor:
    """The last commit read, and for each day that is still to be looked at the commit that touched it last.

    A lost cursor costs a look at what each day's last run had seen, and asks for nothing twice.
    """

    commit: str | None = None
    pending: dict[str, str] = field(default_factory=dict)
    # The last commit of `main` whose labels were looked at.
    labelled: str | None = None
    # The newest day, which decides what to do: asked for again once days that have new labels are done.
    afterwards: str | None = None

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """What `write` wrote; nothing seen where there is no cursor."""
        return cls(**json.loads(text)) if text else cls()

    def write(self) -> str:
        """The stored form."""
        return json.dumps(asdict(self), sort_keys=True)


def production_sensor(graph: ProjectGraph) -> dg.SensorDefinition:
    """The sensor of one project's production."""
    project = graph.project
    every = project.production.collect_every.total_seconds()

    @owned_sensor(
        name=f"{project.project}_production",
        job=graph.days,
        minimum_interval_seconds=max(1, int(every)),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Every {every:.0f} s commits what devices and servers spooled to `{project.repository}-production`, with "
            "the labels of captured images that came with batches, and asks for the production days that it touched."
        ),
        owners=list(project.owners),
        tags={"project": project.project},
    )
    def production(
        context: dg.SensorEvaluationContext,
        lakefs: LakeFSResource,
        registry: ModelRegistry,
        artifacts: ArtifactStore,
        spool: Spool,
    ) -> dg.SensorResult | dg.SkipReason:
        fail_stale_runs(context.instance)
        now = datetime.datetime.now(datetime.UTC)
        before = Cursor.read(context.cursor)
        try:
            labels = take_labels(project, lakefs, registry, artifacts, spool, before.labelled, now)
            before = replace(before, labelled=labels.seen)
            said = "; ".join([*labels.problem, _collect(project, lakefs, registry, spool, now)])
            return look(project, lakefs, context.instance, before, now, said)
        except LakeFSNotFound:
            return dg.SkipReason(
                f"nothing was logged yet: `visionops serve {project.project}` or `visionops predict "
                f"{project.project} IMAGES --log` does"
            )
        except (LakeFSError, OSError) as error:
            return dg.SkipReason(str(error))

    return production


def look(
    project: Project,
    lakefs: LakeFSResource,
    instance: dg.DagsterInstance,
    before: Cursor,
    now: datetime.datetime,
    said: str,
) -> dg.SensorResult:
    """Which days to ask for at `now` (UTC). Raises what lakeFS raises, before anything is asked."""
    head = lakefs.head(production_repository(project.repository), MAIN).id
    touched = touched_days(project, lakefs, instance, before.commit, head)
    pending = {**before.pending, **dict.fromkeys(touched.days, head)}
    last = before.afterwards
    if last is not None or touched.labelled:
        if last is not None:
            pending[last] = head
        last = max([*pending, *touched.labelled, *_logged_days(instance, project)])
        pending.pop(last, None)
    requests: list[dg.RunRequest] = []
    waiting: list[str] = []

    def ask(day: str) -> None:
        found = _standing(instance, project, day, pending[day], now)
        if found is True:
            del pending[day]
        elif isinstance(found, str):
            waiting.append(found)
        elif len(requests) < DAYS_A_TICK:
            requests.append(_request(project, day, pending[day], found))
        else:
            waiting.append(f"{day} is asked for at the next tick")

    for day in sorted(pending):
        ask(day)
    if last is not None and not pending:
        pending[last], afterwards = head, None
        ask(last)
    else:
        afterwards = last
    reason = "; ".join([said, *waiting[:5]])
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else dg.SkipReason(reason),
        cursor=Cursor(head, pending, before.labelled, afterwards).write(),
    )


def _collect(
    project: Project, lakefs: LakeFSResource, registry: ModelRegistry, spool: Spool, now: datetime.datetime
) -> str:
    from visionops_assets.monitoring.collector import collect

    lock = registry.lock(production_repository(project.repository), timeout=LOCK_SECONDS)
    try:
        return collect(project, lakefs=lakefs, spool=spool, lock=lock, now=now).sentence()
    except PromotionLocked:
        return "another process collects the spool"


def _logged_days(instance: dg.DagsterInstance, project: Project) -> set[str]:
    return instance.get_materialized_partitions(dg.AssetKey([project.project, "inference_log"]))


def _standing(
    instance: dg.DagsterInstance, project: Project, day: str, commit: str, now: datetime.datetime
) -> bool | str | int:
    """True: the day is done, or given up; text: why to wait; else the number of the next attempt."""
    tags = {run_tags.PROJECT: project.project, run_tags.DAY: day}
    records = instance.get_run_records(dg.RunsFilter(tags=tags))
    runs = [each.dagster_run for each in records if each.dagster_run.tags.get(run_tags.COMMIT) == commit]
    for run in runs:
        if run.status == dg.DagsterRunStatus.FAILURE and run_tags.OUTCOME not in run.tags:
            instance.add_run_tags(run.run_id, {run_tags.OUTCOME: run_tags.ERROR})
    if any(run.is_success for run in runs):
        return True
    unfinished = [each.dagster_run for each in records if not each.dagster_run.is_finished]
    if unfinished:
        return f"{day} is looked at by run {unfinished[0].run_id}"
    if len(runs) >= project.production.attempts or any(
        run.status == dg.DagsterRunStatus.CANCELED for run in runs
    ):
        return True
    last = records[0].create_timestamp if records else None
    soon = last is not None and now - last < project.production.look_every
    if not runs and soon and day == f"{now:%Y-%m-%d}":
        return f"{day} is not over and was looked at at {last:%H:%M}"
    return len(runs) + 1


def _request(project: Project, day: str, commit: str, attempt: int) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{project.project}/{day}/{commit}/{attempt}",
        partition_key=day,
        tags={
            run_tags.PROJECT: project.project,
            run_tags.DAY: day,
            run_tags.COMMIT: commit,
            run_tags.ATTEMPT: str(attempt),
        },
    )
