"""The metrics: their names, units, labels and kinds, in one place; and those of the registry: what is in production
since when, what was judged, what waits. Pure.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from resources.models.records import EVERYWHERE
from visionops_assets.champions.history import Kind
from visionops_assets.champions.registered_model import Outcome
from visionops_assets.delivery.devices_now import GroupNow
from visionops_assets.delivery.rollout_page import RolloutNow
from visionops_assets.monitoring.response import actions
from visionops_assets.promotion.status import Status
from visionops_assets.rollout.rollouts import ENDS, Rollout

# Beyond it, evidence is no larger to anybody.
_LARGEST_LOG = 60.0
_MODEL_DAY = ("project", "group", "model")


class Sample(NamedTuple):
    """One number; `labels` are the values of its family's labels."""

    family: "Family"
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True)
class Family:
    """One metric. `labels` are the names of its labels."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...]

    def __call__(self, value: float, *labels: str) -> Sample:
        """A sample. Raises ValueError where the labels are not as many as they should be."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {', '.join(self.labels)}; given: {labels}")
        return Sample(self, labels, float(value))


UP = Family("visionops_up", "gauge", "1 where the service answered the latest reading, else 0", ("service",))
READ_SECONDS = Family(
    "visionops_read_duration_seconds", "gauge", "How long the latest reading of a service took", ("service",)
)
CLOCK = Family(
    "visionops_clock_skew_seconds",
    "gauge",
    "How far the clock of a service is ahead of this machine's; behind where negative",
    ("service",),
)
PROJECT = Family(
    "visionops_project_info", "gauge", "1 for each project file", ("project", "task", "repository")
)
CHAMPION = Family(
    "visionops_champion_version",
    "gauge",
    "The registered version in production on a device group",
    ("project", "group"),
)
CHAMPION_INFO = Family(
    "visionops_champion_info",
    "gauge",
    "1 for each model in production; model is the beginning of its weights' SHA-256",
    ("project", "group", "model", "version"),
)
CHAMPION_SINCE = Family(
    "visionops_champion_since_timestamp_seconds",
    "gauge",
    "When the version in production came there",
    ("project", "group"),
)
ON_HOLD = Family(
    "visionops_promotion_on_hold",
    "gauge",
    "1 where promotion waits for a release of a hold, else 0",
    ("project", "group"),
)
CHANGES = Family(
    "visionops_changes_total",
    "counter",
    "Promotions, overrides, rollbacks, holds and releases",
    ("project", "group", "kind"),
)
ACTIONS = Family(
    "visionops_actions_total",
    "counter",
    "What the system did about production by itself; dry_run is true where it only said what it would do",
    ("project", "group", "kind", "dry_run"),
)
VERDICTS = Family(
    "visionops_verdicts_total", "counter", "Decisions of the gate by outcome", ("project", "outcome")
)
WAITING = Family(
    "visionops_verdicts_waiting", "gauge", "Passes that a person has to approve or reject", ("project",)
)
DRIFT = Family(
    "visionops_drifted_columns_ratio",
    "gauge",
    "The share of the compared columns that drift, on the newest day of a model and device group",
    _MODEL_DAY,
)
DRIFT_DAY = Family(
    "visionops_drift_day_timestamp_seconds",
    "gauge",
    "Midnight UTC of the day that the share of drifted columns is of",
    _MODEL_DAY,
)
ROWS = Family(
    "visionops_production_day_rows",
    "gauge",
    "Predictions on the newest day of a model and device group",
    _MODEL_DAY,
)
PERFORMANCE = Family(
    "visionops_performance_ratio",
    "gauge",
    "Accuracy, or mAP@0.5 of a detector, on the newest day: kind is realised (by labels) or estimated (without)",
    (*_MODEL_DAY, "kind"),
)
PERFORMANCE_LOWER = Family(
    "visionops_performance_lower_ratio",
    "gauge",
    "The lower end of the 95% interval of visionops_performance_ratio",
    (*_MODEL_DAY, "kind"),
)
PERFORMANCE_UPPER = Family(
    "visionops_performance_upper_ratio",
    "gauge",
    "The upper end of the 95% interval of visionops_performance_ratio",
    (*_MODEL_DAY, "kind"),
)
FLOOR = Family(
    "visionops_performance_floor_ratio", "gauge", "The performance that production has to hold", ("project",)
)
ALARM = Family(
    "visionops_alarm_standing",
    "gauge",
    "1 where k of n days were bad and it is not over, else 0; signal is drift or performance",
    (*_MODEL_DAY, "signal"),
)
ALARM_SINCE = Family(
    "visionops_alarm_since_timestamp_seconds",
    "gauge",
    "Midnight UTC of the day on which a standing alarm rose",
    (*_MODEL_DAY, "signal"),
)
NEWEST_DAY = Family(
    "visionops_production_newest_day_timestamp_seconds",
    "gauge",
    "Midnight UTC of the newest production day whose log is stored",
    ("project",),
)
DATA_COMMIT = Family(
    "visionops_data_last_commit_timestamp_seconds",
    "gauge",
    "When main of the project's repository got its newest commit",
    ("project",),
)
PRODUCTION_COMMIT = Family(
    "visionops_production_last_commit_timestamp_seconds",
    "gauge",
    "When the spool of production was committed last",
    ("project",),
)
SPOOLED = Family(
    "visionops_spool_files",
    "gauge",
    "Files of predictions and labels that wait to be committed",
    ("project",),
)
EDGE_EXPIRES = Family(
    "visionops_edge_metadata_expires_timestamp_seconds",
    "gauge",
    "When what a role signed for a project's devices ends",
    ("project", "role"),
)
EDGE_BEHIND = Family(
    "visionops_edge_assignment_behind",
    "gauge",
    "1 where what a declared device group is assigned is not what the aliases say, else 0",
    ("project", "group"),
)
FLEET_DEVICES = Family(
    "visionops_fleet_devices",
    "gauge",
    "Devices of a group: never (reported), silent, trying (another model), refused (what is assigned), behind, current",
    ("project", "group", "state"),
)
FLEET_VERSIONS = Family(
    "visionops_fleet_version_devices",
    "gauge",
    "Devices of a group on which a version answers, as they told last",
    ("project", "group", "version", "variant"),
)
FLEET_SILENT = Family(
    "visionops_fleet_silent_devices",
    "gauge",
    "Devices of a group that missed three reports",
    ("project", "group"),
)
FLEET_PROBLEMS = Family(
    "visionops_fleet_problem_devices",
    "gauge",
    "Devices of a group that told of a problem, by the part of the agent that has it",
    ("project", "group", "problem"),
)
ROLLOUT_STATE = Family(
    "visionops_rollout_state",
    "gauge",
    "1 for the newest rollout of a device group: in progress, paused, held (for a person), complete, FAIL, aborted",
    ("project", "group", "rollout", "state"),
)
ROLLOUT_E_VALUE = Family(
    "visionops_rollout_e_value",
    "gauge",
    "Evidence against the candidate of a rollout in progress: safety goes back at 50, silence at 100",
    ("project", "group", "rollout", "kind"),
)
ROLLOUT_EXPOSED = Family(
    "visionops_rollout_exposed_devices",
    "gauge",
    "Devices that a rollout in progress has reached, by the waves so far",
    ("project", "group", "rollout"),
)
ROLLOUT_LATE = Family(
    "visionops_rollout_late_devices",
    "gauge",
    "Devices of a rollout in progress that missed three reports since they try it",
    ("project", "group", "rollout"),
)
ROLLOUTS = Family(
    "visionops_rollouts_total",
    "counter",
    "Rollouts of a device group that ended, by how",
    ("project", "group", "outcome"),
)
RUNS = Family(
    "visionops_runs_total",
    "counter",
    "Runs by outcome; error is the only one that is an alarm. Without a project: runs put together by hand",
    ("project", "outcome"),
)
RUNS_NOW = Family("visionops_runs", "gauge", "Runs that are queued or in progress now", ("project", "status"))
SENSOR_TICK = Family(
    "visionops_sensor_last_tick_timestamp_seconds",
    "gauge",
    "When a running sensor was evaluated last",
    ("sensor",),
)
SENSOR_INTERVAL = Family(
    "visionops_sensor_interval_seconds",
    "gauge",
    "How long a sensor waits between two evaluations",
    ("sensor",),
)
SENSOR_FAILED = Family(
    "visionops_sensor_last_tick_failed",
    "gauge",
    "1 where the latest tick of a sensor failed, else 0",
    ("sensor",),
)
UNSEEN = Family(
    "visionops_commits_unseen",
    "gauge",
    "Commits on main that the sensor has not read yet; 100 stands for 100 or more",
    ("project",),
)
DAEMON = Family(
    "visionops_daemon_last_heartbeat_timestamp_seconds",
    "gauge",
    "When a daemon of Dagster was alive last",
    ("daemon",),
)

FAMILIES = tuple(found for found in list(globals().values()) if isinstance(found, Family))


def to_metrics(samples: Iterable[Sample]) -> list[Metric]:
    """The samples as prometheus_client takes them, in the order of `FAMILIES`; of two alike the last counts."""
    metrics: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}
    for family in FAMILIES:
        metrics[family.name] = kinds[family.kind](family.name, family.help, labels=family.labels)
    once = {(sample.family.name, sample.labels): sample.value for sample in samples}
    for (name, labels), value in once.items():
        metrics[name].add_metric(labels, value)
    return [metric for metric in metrics.values() if metric.samples]


def model_label(weights_sha256: str) -> str:
    """How a model is named in labels: as everywhere, by the beginning of its weights' SHA-256."""
    return weights_sha256[:12]


def project_samples(status: Status) -> Iterator[Sample]:
    """What is true of a project on all device groups."""
    outcomes = Counter(verdict.outcome for verdict in status.verdicts)
    for outcome in get_args(Outcome):
        yield VERDICTS(outcomes[outcome], status.project, outcome.lower())
    yield WAITING(len(status.waiting), status.project)


def group_samples(status: Status) -> Iterator[Sample]:
    """What is true of a project on the device group of this status."""
    where = (status.project, status.now.group)
    yield ON_HOLD(status.now.on_hold, *where)
    changes = Counter(entry.kind for entry in status.entries)
    for kind in get_args(Kind):
        # A counter that begins at 1 has no increase.
        yield CHANGES(changes[kind], *where, kind)
    if status.now.version is not None:
        yield CHAMPION(status.now.version, *where)
    if status.champion is not None:
        model, version = model_label(status.champion.weights_sha256), str(status.champion.version)
        yield CHAMPION_INFO(1, *where, model, version)
    if status.now.version is not None and status.now.since is not None:
        yield CHAMPION_SINCE(status.now.since.when.timestamp(), *where)


def action_samples(project: str, done: Iterable[actions.Action]) -> Iterator[Sample]:
    """What was done about production, by kind."""
    # A counter that begins at 1 has no increase.
    counted = Counter({(EVERYWHERE, kind, False): 0 for kind in get_args(actions.Kind)})
    counted.update((action.group, action.kind, action.dry_run) for action in done)
    for (group, kind, dry_run), number in counted.items():
        yield ACTIONS(number, project, group, kind, str(dry_run).lower())


def rollout_samples(
    project: str, rollouts: Iterable[Rollout], current: Iterable[RolloutNow]
) -> Iterator[Sample]:
    """How rollouts ended, and where the newest of each group, which `current` has, stands."""
    counted: Counter[tuple[str, str]] = Counter()
    for rollout in rollouts:
        # A counter that begins at 1 has no increase.
        counted.update({(rollout.group, outcome): 0 for outcome in ENDS.values()})
        if rollout.ended:
            counted[rollout.group, rollout.ended] += 1
    for (group, outcome), number in counted.items():
        yield ROLLOUTS(number, project, group, outcome)
    for each in current:
        where = (project, each.rollout.group, each.rollout.id)
        yield ROLLOUT_STATE(1, *where, each.state)
        if each.look is None or each.rollout.ended:
            continue
        known = each.look.verdict.evidence
        yield ROLLOUT_EXPOSED(known.in_wave, *where)
        yield ROLLOUT_LATE(known.late, *where)
        for kind, value in (("safety", known.log_safety), ("silence", known.log_silence)):
            yield ROLLOUT_E_VALUE(math.exp(min(value, _LARGEST_LOG)), *where, kind)


def group_of_devices_samples(project: str, now: GroupNow) -> Iterator[Sample]:
    """What is true of the devices of a group."""
    where = (project, now.group)
    for state, count in now.states.items():
        yield FLEET_DEVICES(count, *where, state)
    for (version, variant), count in now.versions.items():
        yield FLEET_VERSIONS(count, *where, str(version), variant)
    yield FLEET_SILENT(len(now.silent), *where)
    for problem, count in now.problems.items():
        yield FLEET_PROBLEMS(count, *where, problem)
