"""The commit sensor looks at once when lakeFS calls, in this process, with the project files as they are now; its
run is handed to Dagster's queue.
"""

import contextlib
import importlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from resources import home
from resources.error_family import Invalid
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import LakeFSError
from visionops.runs import ASKED_BY, RUN_KEY, SensorTick, evaluate_sensor, recorded_tick, sensor_tags
from visionops.serving.webhook import Event, SensorNotTicked
from visionops_assets.config.project import Project
from visionops_assets.training.challenger import training_version

if TYPE_CHECKING:
    import dagster as dg

    from visionops_assets.shells.unstable_dagster import InstigatorState


_Seen = tuple[tuple[str, int, int], ...]
WAIT_FOR_DAEMON_SECONDS = 20.0
LONGEST_LOOK_SECONDS = 600.0
_POLL_SECONDS = 0.05
_log = logging.getLogger("visionops.webhook")


class CodeLocation:
    """`definitions`, loaded when it is needed and again when a project file changed."""

    def __init__(self) -> None:
        self._seen: _Seen | None = None

    def load(self) -> "tuple[dg.Definitions, Sequence[Project]]":
        """Definitions and the projects whose files can be used."""
        import definitions

        seen = _project_files()
        if self._seen is not None and seen != self._seen:
            importlib.reload(definitions)
        self._seen = seen
        return definitions.defs, definitions.projects


def warm_up(lakefs: LakeFSResource, projects: Sequence[Project]) -> None:
    """Import and read what the first look needs, so that it takes no longer than the others."""
    with contextlib.suppress(LakeFSError):
        lakefs.version()
    for project in projects:
        training_version(project)


def _project_files() -> _Seen:
    folder = home.projects_folder()
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


@dataclass(frozen=True)
class Job:
    """A job, and where Dagster has it: the names of code location and repository, where they are known."""

    name: str
    location: str | None = None
    repository: str | None = None


# Requests a run of a job with tags; gives its id.
Launch = Callable[[Job, Mapping[str, str]], str]


@dataclass
class Looking:
    """Has the sensors of `projects` look. One look at a time: two at once would both find the same commit new."""

    instance: "dg.DagsterInstance"
    load: "Callable[[], tuple[dg.Definitions, Sequence[Project]]]"
    launch: Launch
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, event: Event) -> str:
        """What came of an event, in words. Raises `SensorNotTicked`."""
        if event.branch != MAIN:
            return f"nothing to do: {event.branch} is not {MAIN}"
        with self._lock:
            defs, projects = self.load()
            watching = [project for project in projects if project.repository == event.repository]
            if not watching:
                return f"nothing to do: no project watches {event.repository}"
            return "; ".join(self._look(defs, project) for project in watching)

    def _look(self, defs: "dg.Definitions", project: Project) -> str:
        name = f"{project.project}_commits"
        daemon = _Daemon(self.instance, name)
        if daemon.stopped:
            return f"{name} is switched off in Dagster"
        daemon.put_off()
        with recorded_tick(defs, self.instance, name) as tick:
            tick.asked = evaluate_sensor(defs, self.instance, name)
            if daemon.looking():
                daemon.wait()
                tick.asked = evaluate_sensor(defs, self.instance, name)
            if not tick.asked.run_requests:
                return f"{project.project}: {tick.asked.skip_message or 'nothing new'}"
            job = daemon.job(f"{project.project}_decide")
            return "; ".join(self._request(job, name, request, tick) for request in tick.asked.run_requests)

    def _request(self, job: Job, sensor: str, request: "dg.RunRequest", tick: SensorTick) -> str:
        import dagster as dg

        tags = sensor_tags(request, sensor)
        if request.partition_key is not None:
            tags["dagster/partition"] = request.partition_key
        known = self.instance.get_runs(
            dg.RunsFilter(tags={name: tags[name] for name in (ASKED_BY, RUN_KEY)}),
            limit=1,
        )
        if known:
            return f"{job.name}: run {known[0].run_id} was requested already"
        run_id = self.launch(job, tags)
        tick.requested(run_id, request.run_key)
        return f"{job.name}: run {run_id} requested on {request.partition_key}"


class _Daemon:
    """Dagster's own sensor daemon, by what it keeps of one sensor; nothing where it never looked."""

    def __init__(self, instance: "dg.DagsterInstance", name: str) -> None:
        from visionops_assets.shells.unstable_dagster import InstigatorType

        self._instance = instance
        states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        self._state: InstigatorState | None = next((s for s in states if s.instigator_name == name), None)

    @property
    def stopped(self) -> bool:
        return self._state is not None and not self._state.is_running

    def job(self, name: str) -> Job:
        """A job beside the sensor; Dagster would have to look for it by its name alone."""
        if self._state is None:
            return Job(name)
        where = self._state.repository_selector
        return Job(name, where.location_name, where.repository_name)

    def put_off(self) -> None:
        """Let the daemon believe that it has just looked."""
        from visionops_assets.shells.unstable_dagster import SensorInstigatorData

        if self._state is None or not isinstance(self._state.instigator_data, SensorInstigatorData):
            return
        data = self._state.instigator_data._replace(last_tick_start_timestamp=time.time())
        self._state = self._instance.update_instigator_state(self._state.with_data(data))

    def looking(self) -> bool:
        from visionops_assets.shells.unstable_dagster import TickStatus

        if self._state is None:
            return False
        # One that began long ago was killed; the daemon mends it when it looks next.
        return bool(
            self._instance.get_ticks(
                self._state.instigator_origin_id,
                self._state.selector_id,
                after=time.time() - LONGEST_LOOK_SECONDS,
                limit=1,
                statuses=[TickStatus.STARTED],
            )
        )

    def wait(self) -> None:
        """Until its look has ended. Raises `SensorNotTicked` where it takes too long."""
        until = time.monotonic() + WAIT_FOR_DAEMON_SECONDS
        while self.looking():
            if time.monotonic() > until:
                raise SensorNotTicked("Dagster's daemon is looking at this sensor now and does not end")
            time.sleep(_POLL_SECONDS)


def launch_through(address: str) -> Launch:
    """Requests runs from the Dagster webserver at an http address; its daemon starts them in their turn."""
    from dagster_graphql import DagsterGraphQLClient, DagsterGraphQLClientError

    # It writes every query and answer.
    logging.getLogger("gql").setLevel(logging.WARNING)
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid(f"{address} is no http address of a Dagster webserver: set --dagster or DAGSTER_UI_URL")
    client = DagsterGraphQLClient(
        parts.hostname,
        port_number=parts.port,
        use_https=parts.scheme == "https",
        path_prefix=parts.path.rstrip("/"),
        timeout=20,
    )

    def launch(job: Job, tags: Mapping[str, str]) -> str:
        try:
            return client.submit_job_execution(
                job.name,
                repository_location_name=job.location,
                repository_name=job.repository,
                tags=dict(tags),
            )
        except DagsterGraphQLClientError as error:
            cause = error.__cause__ or error
            first = str(cause).strip().splitlines()[0]
            raise SensorNotTicked(
                f"Dagster at {parts.hostname} did not take the run of {job.name}: {first}"
            ) from error

    return launch
