"""Runs that ended, what was done about production, and what rollouts came to are told: errors to one webhook, verdicts
to a quieter one.

At least once: what a webhook took is marked, and is told again until then. Nothing waits for it.
"""

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import dagster as dg

from resources import clocks
from resources.models.records import RegistryError
from resources.models.registry import ModelRegistry
from resources.webhooks import Channel, Webhooks
from sensors.announced_events import (
    CHANNELS,
    Event,
    action_event,
    announcement_payload,
    rollout_events,
    run_event,
)
from sensors.readiness import owned_sensor
from visionops_assets.common import run_tags
from visionops_assets.graph import ProjectGraph
from visionops_assets.monitoring.response.actions import read_actions
from visionops_assets.rollout.rollouts import BadEntry, read_entries
from visionops_assets.shells.run_outcomes import run_outcome, run_reason

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
    """From when runs that ended are looked at (ISO 8601, UTC), the number of the last action and of the last step of a
    rollout that was told, and how often each message was refused.

    A lost cursor begins with now: what happened before is no news.
    """

    since: str
    action: int | None = None
    refused: dict[str, int] = field(default_factory=dict)
    rollout: int | None = None

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
            "Tells of runs that ended and of what was done about production: errors to VISIONOPS_ERROR_WEBHOOK, "
            "verdicts to VISIONOPS_VERDICT_WEBHOOK. What a webhook refuses for ten minutes is dropped; no run waits."
        ),
        owners=list(project.owners),
        tags={"project": project.project},
    )
    def announcements(
        context: dg.SensorEvaluationContext,
        webhooks: dg.ResourceParam[Webhooks],
        registry: dg.ResourceParam[ModelRegistry],
    ) -> dg.SensorResult | dg.SkipReason:
        if not webhooks.any_configured:
            return dg.SkipReason(
                "nobody is told: set VISIONOPS_ERROR_WEBHOOK or VISIONOPS_VERDICT_WEBHOOK to a webhook's address"
            )
        now = clocks.now()
        actions, rollouts = _happened(context, registry, project.project)
        if not context.cursor:
            begun = Cursor(now.isoformat(), _newest(actions), rollout=_newest(rollouts))
            return _said("tells of what happens from now on", begun)
        before = Cursor(**json.loads(context.cursor))
        telling = _Telling(context, webhooks, before.refused)
        # A clock that was set back since would have nothing told until then.
        looked = min(datetime.datetime.fromisoformat(before.since), now)
        since = _tell_runs(telling, project.project, looked, now)
        action = _tell_each(telling, actions, before.action)
        rollout = _tell_each(telling, rollouts, before.rollout)
        waiting = f", {len(telling.refused)} messages wait" if telling.refused else ""
        return _said(
            f"sent {telling.told} messages{waiting}",
            Cursor(since.isoformat(), action, telling.refused, rollout),
        )

    return announcements


@dataclass
class _Telling:
    """The messages of one tick. A webhook that refuses one is asked no more before the next tick."""

    context: dg.SensorEvaluationContext
    webhooks: Webhooks
    before: Mapping[str, int]
    told: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    silent: set[Channel] = field(default_factory=set)

    def tell(self, event: Event) -> str | None:
        """What became of a message: the channel that took it, or "dropped"; None where it waits."""
        attempts = self.before.get(event.identity, 0)
        if event.channel in self.silent or self.told >= MESSAGES_A_TICK:
            self.refused[event.identity] = attempts
            return None
        problem = self.webhooks.post(event.channel, announcement_payload(event))
        if problem is None:
            self.told += 1
            return event.channel
        if attempts + 1 >= ATTEMPTS:
            self.context.log.error(f"{event.identity} was told to nobody, {ATTEMPTS} times: {problem}")
            return "dropped"
        self.context.log.warning(f"{event.identity} is told again at the next tick: {problem}")
        self.silent.add(event.channel)
        self.refused[event.identity] = attempts + 1
        return None


def _tell_runs(
    telling: _Telling, project: str, since: datetime.datetime, now: datetime.datetime
) -> datetime.datetime:
    """Tell of runs that ended; the time from which the next tick looks."""
    instance = telling.context.instance
    oldest = now
    for record in instance.get_run_records(
        dg.RunsFilter(statuses=ENDED, updated_after=since - OVERLAP),
        order_by="update_timestamp",
        ascending=True,
    ):
        run = record.dagster_run
        channel = _wanted(run, project)
        if channel is None or not telling.webhooks.configured(channel):
            continue
        how = telling.tell(_event(instance, run, project))
        if how is None:
            oldest = min(oldest, record.update_timestamp)
        else:
            instance.add_run_tags(run.run_id, {run_tags.ANNOUNCED: how})
    return oldest


# By their numbers, oldest first: what there is to tell, None of what nobody is told of. None where that is not known.
_Happened = list[tuple[int, Event | None]] | None


def _happened(
    context: dg.SensorEvaluationContext, registry: ModelRegistry, project: str
) -> tuple[_Happened, _Happened]:
    """What was done about production, and the steps of rollouts."""
    try:
        tags = registry.models.get(project).tags
    except RegistryError as error:
        context.log.warning(str(error))
        return None, None
    actions: _Happened = [(each.number, action_event(project, each)) for each in read_actions(tags).entries]
    try:
        entries, _ = read_entries(tags)
    except BadEntry as error:
        context.log.warning(str(error))
        return actions, None
    return actions, list(enumerate(rollout_events(project, entries), 1))


def _newest(happened: _Happened) -> int | None:
    return None if happened is None else max((number for number, _ in happened), default=0)


def _tell_each(telling: _Telling, happened: _Happened, last: int | None) -> int | None:
    """Tell of them one after the other; the number of the last that needs to be told no more."""
    if happened is None or last is None:
        return last if happened is None else _newest(happened)
    for number, event in (each for each in happened if each[0] > last):
        if event is not None and telling.webhooks.configured(event.channel) and telling.tell(event) is None:
            break
        last = number
    return last


def _wanted(run: dg.DagsterRun, project: str) -> Channel | None:
    """Who is to be told of a run of this project that nobody was told of."""
    if run_tags.ANNOUNCED in run.tags or project_of(run) != project:
        return None
    return CHANNELS.get(run_outcome(run) or "")


def _event(instance: dg.DagsterInstance, run: dg.DagsterRun, project: str) -> Event:
    """What there is to tell of a run."""
    outcome = run_outcome(run) or ""
    logged = instance.all_logs(run.run_id)
    why = run_reason((entry.dagster_event for entry in logged if entry.dagster_event is not None), outcome)
    return run_event(project, run.job_name, run.run_id, outcome, run.tags, why, run_tags.run_page(run.run_id))


def project_of(run: dg.DagsterRun) -> str | None:
    """The project of a run: its tag, or that of the first asset of a run put together by hand."""
    if run_tags.PROJECT in run.tags:
        return run.tags[run_tags.PROJECT]
    keys = sorted(key.path[0] for key in run.asset_selection or () if len(key.path) > 1)
    return keys[0] if keys else None


def _said(reason: str, cursor: Cursor) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=dg.SkipReason(reason), cursor=cursor.write())
