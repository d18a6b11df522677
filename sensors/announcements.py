"""Runs that ended are told to whoever wants to know: errors to one webhook, verdicts to a quieter one.

At least once: a run is marked when a webhook took its message, and is told again until then. Nothing waits for it.
"""

import datetime
import json
from dataclasses import asdict, dataclass, field

import dagster as dg

from resources.webhooks import Channel, Webhooks
from sensors.owned_sensor import owned_sensor
from visionops_assets import run_tags
from visionops_assets.announcements import CHANNELS, Event, payload, run_event
from visionops_assets.graph import ProjectGraph
from visionops_assets.run_reason import run_reason

EVERY_SECONDS = 30
# Ten minutes of a webhook that takes nothing.
ATTEMPTS = 20
# Each may take a webhook's timeout; a tick has a minute.
MESSAGES_A_TICK = 10
# What was updated by another machine, whose clock is late, is not missed.
OVERLAP = datetime.timedelta(minutes=2)
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]


@dataclass(frozen=True)
class Cursor:
    """The time (ISO 8601, UTC) from which runs that ended are looked at, and how often the message of each was refused.

    A lost cursor begins with now: what happened before is no news.
    """

    since: str
    refused: dict[str, int] = field(default_factory=dict)

    def write(self) -> str:
        """The stored form."""
        return json.dumps(asdict(self), sort_keys=True)


def announcement_sensor(graph: ProjectGraph) -> dg.SensorDefinition:
    """The sensor of one project."""
    project = graph.project

    @owned_sensor(
        name=f"{project.project}_announcements",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Tells of runs that ended: errors to VISIONOPS_ERROR_WEBHOOK, verdicts to VISIONOPS_VERDICT_WEBHOOK. "
            "Each once it was taken; one that is refused for ten minutes is dropped. No run waits for it."
        ),
        owners=list(project.owners),
        tags={"project": project.project},
    )
    def announcements(
        context: dg.SensorEvaluationContext, webhooks: Webhooks
    ) -> dg.SensorResult | dg.SkipReason:
        if not webhooks.any_configured:
            return dg.SkipReason(
                "nobody is told: set VISIONOPS_ERROR_WEBHOOK or VISIONOPS_VERDICT_WEBHOOK to a webhook's address"
            )
        now = datetime.datetime.now(datetime.UTC)
        if not context.cursor:
            return _said("tells of runs that end from now on", Cursor(now.isoformat()))
        return _tell(context, project.project, webhooks, Cursor(**json.loads(context.cursor)), now)

    return announcements


def _tell(
    context: dg.SensorEvaluationContext,
    project: str,
    webhooks: Webhooks,
    before: Cursor,
    now: datetime.datetime,
) -> dg.SensorResult:
    since = datetime.datetime.fromisoformat(before.since)
    records = context.instance.get_run_records(
        dg.RunsFilter(statuses=ENDED, updated_after=since - OVERLAP),
        order_by="update_timestamp",
        ascending=True,
    )
    told, refused = 0, dict[str, int]()
    # The oldest of which nothing is settled; the next tick begins there.
    oldest = now
    silent: set[Channel] = set()
    for record in records:
        channel = _wanted(record.dagster_run, project)
        if channel is None or not webhooks.configured(channel):
            continue
        event = _event(context.instance, record.dagster_run, project)
        problem: str | None
        if channel in silent or told + len(refused) >= MESSAGES_A_TICK:
            problem, attempts = "", before.refused.get(event.identity, 0)
        else:
            problem = webhooks.post(channel, payload(event))
            attempts = before.refused.get(event.identity, 0) + 1
        if problem is None:
            told += 1
            _settle(context.instance, event, channel)
        elif attempts >= ATTEMPTS:
            context.log.error(f"run {event.identity} was told to nobody, {ATTEMPTS} times: {problem}")
            _settle(context.instance, event, "dropped")
        else:
            if problem:
                context.log.warning(f"run {event.identity} is told again at the next tick: {problem}")
            silent.add(channel)
            refused[event.identity] = attempts
            oldest = min(oldest, record.update_timestamp)
    waiting = f", {len(refused)} messages wait" if refused else ""
    return _said(f"told of {told} runs{waiting}", Cursor(oldest.isoformat(), refused))


def _wanted(run: dg.DagsterRun, project: str) -> Channel | None:
    """Who is to be told of a run of this project that nobody was told of."""
    if run_tags.ANNOUNCED in run.tags or project_of(run) != project:
        return None
    return CHANNELS.get(_outcome(run))


def _outcome(run: dg.DagsterRun) -> str:
    # Whoever stops a run for a reason says so; what is left was an error.
    failed = run.status == dg.DagsterRunStatus.FAILURE
    return run.tags.get(run_tags.OUTCOME, run_tags.ERROR if failed else "")


def _event(instance: dg.DagsterInstance, run: dg.DagsterRun, project: str) -> Event:
    """What there is to tell of a run."""
    outcome = _outcome(run)
    logged = instance.all_logs(run.run_id)
    why = run_reason((entry.dagster_event for entry in logged if entry.dagster_event is not None), outcome)
    return run_event(project, run.job_name, run.run_id, outcome, run.tags, why, run_tags.run_page(run.run_id))


def project_of(run: dg.DagsterRun) -> str | None:
    """The project of a run: its tag, or that of the first asset of a run put together by hand."""
    if run_tags.PROJECT in run.tags:
        return run.tags[run_tags.PROJECT]
    keys = sorted(key.path[0] for key in run.asset_selection or () if len(key.path) > 1)
    return keys[0] if keys else None


def _settle(instance: dg.DagsterInstance, event: Event, how: str) -> None:
    instance.add_run_tags(event.identity, {run_tags.ANNOUNCED: how})


def _said(reason: str, cursor: Cursor) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=dg.SkipReason(reason), cursor=cursor.write())
