"""Batches in a project's drop are taken when they are complete, one at a time."""

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import dagster as dg

from resources import clocks
from resources.drop import Drop
from resources.drop_places import DropError, Sighting
from resources.models.records import RegistryUnavailable
from resources.models.registry import ModelRegistry
from sensors.readiness import Go, Wait, owned_sensor, skip_wrong, stopped, waiting_for
from sensors.unfinished_runs import end_stale_runs
from visionops_assets.common import run_tags
from visionops_assets.config.project import Project
from visionops_assets.dataset.versions.layout import check_batch_name
from visionops_assets.graph import ProjectGraph
from visionops_assets.shells.asset_options import batches
from visionops_assets.shells.run_outcomes import is_attempt

_SETTLED = {run_tags.PUBLISHED, run_tags.UNCHANGED, run_tags.REFUSED}


@dataclass(frozen=True)
class Cursor:
    """What was seen: of batches without a marker since when they look so; of taken ones how they looked then.

    A lost cursor costs waiting and a look at past runs, nothing else.
    """

    since: dict[str, tuple[str, float]] = field(default_factory=dict)
    settled: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """What `write` wrote; nothing seen where there is no cursor."""
        return cls(**json.loads(text)) if text else cls()

    def write(self) -> str:
        """The stored form."""
        return json.dumps(asdict(self), sort_keys=True)


def drop_sensor(graph: ProjectGraph) -> dg.SensorDefinition:
    """The sensor of one project's drop."""
    project = graph.project

    @owned_sensor(
        name=f"{project.project}_drops",
        job=graph.take,
        minimum_interval_seconds=int(project.drop.check_every.total_seconds()),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Looks for batches of {project.project} in its drop. One with a `_SUCCESS` marker, or whose files stayed "
            f"the same for {project.drop.quiet_for.total_seconds():.0f} s, is imported, checked and published."
        ),
        owners=list(project.owners),
        tags={"project": project.project},
    )
    def drops(
        context: dg.SensorEvaluationContext,
        drop: dg.ResourceParam[Drop],
        registry: dg.ResourceParam[ModelRegistry],
    ) -> dg.SensorResult | dg.SkipReason:
        end_stale_runs(context.instance)
        try:
            seen = drop.look(drop.place(project.project, project.drop.address))
        except DropError as error:
            return skip_wrong(str(error))
        found = look(project, seen, Cursor.read(context.cursor), context.instance, clocks.now().timestamp())
        if found.run_requests:
            try:
                # The audit asks the champion: without an answer a run would only fail.
                registry.models.get(project.project)
            except RegistryUnavailable as error:
                nothing = skip_wrong(str(error))
                return found._replace(run_requests=[], dynamic_partitions_requests=[], skip_reason=nothing)
        return found

    return drops


def look(
    project: Project, seen: Sequence[Sighting], before: Cursor, instance: dg.DagsterInstance, now: float
) -> dg.SensorResult:
    """What to do about the batches `seen` at `now` (seconds since the epoch)."""
    since: dict[str, tuple[str, float]] = {}
    settled: dict[str, str] = {}
    waiting: list[Wait] = []
    request: dg.RunRequest | None = None
    chosen = ""
    for one in seen:
        if before.settled.get(one.batch) == one.fingerprint:
            settled[one.batch] = one.fingerprint
            continue
        if not one.marked:
            known = before.since.get(one.batch)
            since[one.batch] = (
                one.fingerprint,
                # A clock that was set back since would have it wait until then.
                min(known[1], now) if known and known[0] == one.fingerprint else now,
            )
            quiet = now - since[one.batch][1]
            wanted = project.drop.quiet_for.total_seconds()
            if quiet < wanted:
                waiting.append(
                    Wait(
                        f"{one.batch} has been quiet for {quiet:.0f} of {wanted:.0f} s, and has no _SUCCESS marker"
                    )
                )
                continue
        found = _standing(instance, project, one)
        if found is None:
            settled[one.batch] = one.fingerprint
        elif isinstance(found, Wait):
            waiting.append(found)
        elif request is None:
            # The next one is audited against a main that has this one.
            request, chosen = _request(project, one, found, now), one.batch
        else:
            waiting.append(Wait(f"{one.batch} is taken after {chosen}"))
    added = [batches(project.project).build_add_request([chosen])] if request else []
    return dg.SensorResult(
        run_requests=[request] if request else [],
        skip_reason=None if request else waiting_for(waiting, "no batch is waiting in the drop"),
        dynamic_partitions_requests=added,
        cursor=Cursor(since, settled).write(),
    )


def _standing(instance: dg.DagsterInstance, project: Project, one: Sighting) -> Wait | Go | None:
    """Whether to take it now; None where it was taken as it is."""
    try:
        check_batch_name(one.batch)
    except ValueError as error:
        return Wait(str(error), wrong=True)
    tags = {run_tags.PROJECT: project.project, run_tags.BATCH: one.batch, run_tags.DROP: one.fingerprint}
    runs = [record.dagster_run for record in instance.get_run_records(dg.RunsFilter(tags=tags))]
    for run in runs:
        if run.tags.get(run_tags.OUTCOME) in _SETTLED:
            return None
        if not run.is_finished:
            return Wait(f"{one.batch} is being taken by run {run.run_id}")
    attempts = [run for run in runs if is_attempt(run)]
    waits = stopped(project.project, one.batch, project.drop.attempts, attempts)
    if waits is not None:
        return replace(waits, reason=f"{waits.reason}, or touch its _SUCCESS marker")
    return Go(len(attempts) + 1, len(runs) + 1)


def _request(project: Project, one: Sighting, go: Go, now: float) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{project.project}/{one.batch}/{one.fingerprint}/{go.number}",
        partition_key=one.batch,
        tags={
            run_tags.PROJECT: project.project,
            run_tags.BATCH: one.batch,
            run_tags.WEEK: run_tags.week_of(datetime.datetime.fromtimestamp(now, datetime.UTC)),
            run_tags.DROP: one.fingerprint,
            run_tags.ATTEMPT: str(go.attempt),
        },
    )
