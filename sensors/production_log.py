"""The spool of production is committed at the project's interval, and the days that commits touched are looked at."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import dagster as dg

from resources import clocks
from resources.error_family import Invalid
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import LakeFSError, LakeFSNotFound
from resources.models.lock import PromotionLocked
from resources.models.records import RegistryError, RegistryUnavailable
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore, Spool
from sensors.after_promotion import untold_changes
from sensors.readiness import Go, Wait, also_wrong, cancelled, failed, owned_sensor, skip_wrong, waiting_for
from sensors.touched_days import take_labels, touched_days
from sensors.unfinished_runs import end_stale_runs
from visionops_assets.common import run_tags
from visionops_assets.config.project import Project
from visionops_assets.graph import ProjectGraph
from visionops_assets.monitoring.inference_log import production_repository
from visionops_assets.shells.run_outcomes import is_attempt, note_outcome

if TYPE_CHECKING:
    from visionops_assets.monitoring.collection import Collected
    from visionops_assets.monitoring.device_files import DeviceKey

# Each is a run: the rest is asked for by the next ticks.
DAYS_A_TICK = 31
LOCK_SECONDS = 1.0
# Between two attempts at a day that fails.
LONGEST_WAIT = datetime.timedelta(days=1)


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
    # When runs that are dated in the future were first seen, by `FirstSeen`.
    future: dict[str, str] = field(default_factory=dict)

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
            "the labels of captured images that came with batches, and asks for the production days that it touched. "
            "Tells `in_production` of a change whose author was stopped before."
        ),
        owners=list(project.owners),
        tags={"project": project.project},
    )
    def production(
        context: dg.SensorEvaluationContext,
        lakefs: dg.ResourceParam[LakeFSResource],
        registry: dg.ResourceParam[ModelRegistry],
        artifacts: dg.ResourceParam[ArtifactStore],
        spool: dg.ResourceParam[Spool],
    ) -> dg.SensorResult:
        end_stale_runs(context.instance)
        away = False
        try:
            told, untold = untold_changes(context, project, lakefs, registry, artifacts)
        except RegistryUnavailable as error:
            told, untold, away = [], str(error), True
        found = _look(context, lakefs, registry, artifacts, spool)
        if isinstance(found, dg.SkipReason):
            found = dg.SensorResult(skip_reason=found)
        if away:
            # Rows are collected all the same; the days stay pending, and no attempt at them is used up.
            found = found._replace(run_requests=[])
        if untold is not None:
            context.log.warning(untold)
            if not found.run_requests:
                found = found._replace(skip_reason=also_wrong(untold, found.skip_reason))
        return found._replace(asset_events=[*told])

    def _look(
        context: dg.SensorEvaluationContext,
        lakefs: LakeFSResource,
        registry: ModelRegistry,
        artifacts: ArtifactStore,
        spool: Spool,
    ) -> dg.SensorResult | dg.SkipReason:
        now = clocks.now()
        before = Cursor.read(context.cursor)
        try:
            labels = take_labels(project, lakefs, registry, artifacts, spool, before.labelled, now)
            before = replace(before, labelled=labels.seen)
            said = "; ".join([*labels.problem, *collect_spool(project, lakefs, registry, artifacts, spool)])
            return look(project, lakefs, context.instance, before, now, said)
        except LakeFSNotFound as error:
            known = len(_logged_days(context.instance, project))
            if known:
                return skip_wrong(
                    f"{error}, though {known} of its days are known here: restore it from a backup; the next rows that "
                    f"are collected, as by `visionops predict {project.project} IMAGES --log`, make it anew"
                )
            return dg.SkipReason(
                f"nothing was logged yet: `visionops serve {project.project}` or `visionops predict "
                f"{project.project} IMAGES --log` does"
            )
        except (LakeFSError, RegistryError, OSError) as error:
            return skip_wrong(str(error))

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
    happened, today = clocks.FirstSeen(now, before.future), f"{now:%Y-%m-%d}"
    last = before.afterwards
    if last is not None or touched.labelled:
        if last is not None:
            pending[last] = head
        known = {*pending, *touched.labelled, *_logged_days(instance, project)}
        last = max((day for day in known if day <= today), default=today)
        pending.pop(last, None)
    requests: list[dg.RunRequest] = []
    waiting: list[Wait] = []
    # What a person cancelled waits for a person, and nothing else waits for it.
    cancelled_days: set[str] = set()

    def ask(day: str) -> None:
        if day > today:
            # Of a device whose clock is ahead, shortly before midnight.
            waiting.append(Wait(f"{day} has not begun yet"))
            return
        found = _standing(instance, project, day, pending[day], happened)
        if found is None:
            del pending[day]
        elif isinstance(found, Wait):
            waiting.append(found)
            if found.cancelled:
                cancelled_days.add(day)
        elif len(requests) < DAYS_A_TICK:
            requests.append(_request(project, day, pending[day], found))
        else:
            waiting.append(Wait(f"{day} is asked for at the next tick"))

    for day in sorted(pending):
        ask(day)
    if last is not None and all(day > today for day in pending.keys() - cancelled_days):
        pending[last], afterwards = head, None
        ask(last)
    else:
        afterwards = last
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else waiting_for([Wait(said), *waiting], said),
        cursor=Cursor(head, pending, before.labelled, afterwards, happened.seen).write(),
    )


def collect_spool(
    project: Project,
    lakefs: LakeFSResource,
    registry: ModelRegistry,
    artifacts: ArtifactStore,
    spool: Spool,
) -> list[str]:
    """Commit what the spool has, fold what devices reported; what came of it, in words."""
    from visionops_assets.delivery.enrolment import any_enrolled, device_keys
    from visionops_assets.delivery.reported_devices import folded
    from visionops_assets.monitoring.collection import collect, collect_all

    def devices() -> "Mapping[str, DeviceKey]":
        return device_keys(artifacts, project.delivered_as)

    def once() -> "Collected":
        lock = registry.lock(production_repository(project.repository), timeout=LOCK_SECONDS)
        return collect(project, lakefs=lakefs, spool=spool, lock=lock, now=clocks.now(), devices=devices)

    try:
        said = [each.sentence() for each in collect_all(once)]
    except PromotionLocked:
        said = ["another process collects the spool"]
    if any_enrolled(artifacts, project.delivered_as):
        folded(project, lakefs, artifacts)
        said += _folded_for_rollouts(project, lakefs, registry, artifacts)
    return said


def _folded_for_rollouts(
    project: Project, lakefs: LakeFSResource, registry: ModelRegistry, artifacts: ArtifactStore
) -> list[str]:
    """Fold what devices told of rollouts in progress; that they stand still keeps no rows from their days."""
    from visionops_assets.delivery.rollout_reports import fold_reports
    from visionops_assets.delivery.rollout_steps import rollouts_of

    try:
        for rollout in rollouts_of(registry.models.get(project.project)):
            if not rollout.ended:
                fold_reports(project, lakefs, artifacts, rollout)
    except (RegistryError, Invalid) as error:
        return [f"rollouts stand still: {error}"]
    return []


def _logged_days(instance: dg.DagsterInstance, project: Project) -> set[str]:
    return instance.get_materialized_partitions(dg.AssetKey([project.project, "inference_log"]))


def _standing(
    instance: dg.DagsterInstance, project: Project, day: str, commit: str, happened: clocks.FirstSeen
) -> Wait | Go | None:
    """Whether to run a day now; None where it is done.

    A day that failed as often as `attempts` says is still owed: it is tried again, each time after twice as long. One
    that a person cancelled waits for a person, or for a commit that touches it again.
    """
    tags = {run_tags.PROJECT: project.project, run_tags.DAY: day}
    records = instance.get_run_records(dg.RunsFilter(tags=tags))
    runs = [each.dagster_run for each in records if each.dagster_run.tags.get(run_tags.COMMIT) == commit]
    for run in runs:
        note_outcome(instance, run)
    attempts = [run for run in runs if is_attempt(run)]
    if any(run.is_success for run in runs):
        return None
    unfinished = [each.dagster_run for each in records if not each.dagster_run.is_finished]
    if unfinished:
        return Wait(f"{day} is looked at by run {unfinished[0].run_id}")
    by_hand = next((run for run in attempts if run.status == dg.DagsterRunStatus.CANCELED), None)
    if by_hand is not None:
        return cancelled(project.project, day, by_hand.run_id)
    now, last = happened.now, None
    if records:
        last = happened.when(records[0].dagster_run.run_id, records[0].create_timestamp)
    if (failed := _failed_too_often(project, day, attempts, now, last)) is not None:
        return failed
    if not runs and last is not None and _is_fresh(project, day, now, last):
        return Wait(f"{day} is not over and was looked at at {last:%H:%M}")
    return Go(len(attempts) + 1, len(runs) + 1)


def _is_fresh(project: Project, day: str, now: datetime.datetime, last: datetime.datetime) -> bool:
    """Whether a day that is not over was looked at only just now."""
    return now - last < project.production.look_every and day == f"{now:%Y-%m-%d}"


def _failed_too_often(
    project: Project,
    day: str,
    attempts: Sequence[dg.DagsterRun],
    now: datetime.datetime,
    last: datetime.datetime | None,
) -> Wait | None:
    beyond = len(attempts) - project.production.attempts
    if beyond < 0 or last is None:
        return None
    again = last + min(project.production.look_every * 2 ** min(beyond, 16), LONGEST_WAIT)
    if now >= again:
        return None
    return Wait(
        f"{day} {failed(len(attempts))} with an error, the last in run {attempts[0].run_id}: mend the "
        f"cause; it is tried again at {again:%Y-%m-%d %H:%M} UTC, or by "
        f"`visionops tick {project.project} --again`",
        wrong=True,
    )


def _request(project: Project, day: str, commit: str, go: Go) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{project.project}/{day}/{commit}/{go.number}",
        partition_key=day,
        tags={
            run_tags.PROJECT: project.project,
            run_tags.DAY: day,
            run_tags.WEEK: run_tags.week_of(datetime.date.fromisoformat(day)),
            run_tags.COMMIT: commit,
            run_tags.ATTEMPT: str(go.attempt),
        },
    )
