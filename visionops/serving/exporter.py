"""The services that metrics are read from, each on its own: one that is away takes none of the others with it. Read
when Prometheus asks, all at once and for a limited time, and kept a little; GET /metrics answers with it.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from resources import home
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSNotFound
from resources.storage import Spool
from visionops import edge_repository, services
from visionops.serving import metric_families
from visionops.serving.metric_families import Family, Sample, to_metrics
from visionops_assets.config.project import Project, ProjectError, Projects, load_projects
from visionops_assets.monitoring.inference_log import production_repository

if TYPE_CHECKING:
    import dagster as dg

    from resources.models.registry import ModelRegistry
    from visionops.serving.metric_records import Days

Reading = Callable[[], list[Sample]]
# So much shorter than elsewhere: somebody waits for the page.
LAKEFS_SECONDS = 5.0
# Two Prometheus servers, or a person beside one, cost one reading.
KEEP_SECONDS = 10.0
WITHIN_SECONDS = 8.0
# Only the first time is anything imported.
FIRST_WITHIN_SECONDS = 60.0
_log = logging.getLogger("visionops.metrics")


def commit_samples(project: Project, lakefs: LakeFSResource) -> Iterator[Sample]:
    """When the project's data, and its production, got their newest commits. Raises `LakeFSError`."""
    yield from _newest(metric_families.DATA_COMMIT, project, lakefs, project.repository)
    yield from _newest(
        metric_families.PRODUCTION_COMMIT, project, lakefs, production_repository(project.repository)
    )


def spool_samples(project: Project, spool: Spool) -> Iterator[Sample]:
    """How many files wait. Raises OSError."""
    yield metric_families.SPOOLED(len(spool.files(project.project)), project.project)


def _newest(family: Family, project: Project, lakefs: LakeFSResource, repository: str) -> Iterator[Sample]:
    try:
        yield family(lakefs.head(repository).created_at.timestamp(), project.project)
    except LakeFSNotFound:
        # Nothing was imported, or nothing logged, yet.
        return


class ProjectFiles:
    """The project files as they are; of a project whose file is broken now, what it was at the last reading."""

    def __init__(self) -> None:
        self._known: dict[str, Project] = {}

    def read(self) -> list[Sample]:
        """The projects there are. Raises `ProjectError` where a file cannot be used."""
        for file in self._load().unusable:
            raise ProjectError(file.why)
        return [
            metric_families.PROJECT(1, one.project, one.task, one.repository) for one in self._known.values()
        ]

    def known(self) -> list[Project]:
        """The projects that the other services are asked about."""
        self._load()
        return list(self._known.values())

    def _load(self) -> Projects:
        found = load_projects(home.projects_folder())
        before = {file.project: self._known.get(file.project) for file in found.unusable}
        self._known = {name: project for name, project in before.items() if project is not None}
        self._known |= {project.project: project for project in found}
        return found


def assignment_samples(project: Project, registry: "ModelRegistry") -> Iterator[Sample]:
    """Whether each declared device group is assigned what the aliases say. Raises `RegistryError`, `CannotPublish`."""
    from visionops_assets.delivery.following import standings
    from visionops_assets.delivery.tuf_files import NotPublished

    if not project.delivery.groups:
        return
    repository = edge_repository.published(project.delivered_as)
    with contextlib.suppress(NotPublished):
        for each in standings(project, registry, repository):
            yield metric_families.EDGE_BEHIND(each.due or bool(each.problem), project.project, each.group)


def rollout_samples(project: Project, registry: "ModelRegistry") -> Iterator[Sample]:
    """The rollouts of a project, as they were looked at last. Raises `RegistryError`, `BadEntry`, `BadVerdict`."""
    from visionops_assets.delivery.rollout_page import current_rollouts
    from visionops_assets.delivery.rollout_steps import rollouts_of

    model = registry.models.get(project.project)
    current = current_rollouts(project, model, services.artifacts())
    yield from metric_families.rollout_samples(project.project, rollouts_of(model), current)


def device_samples(project: Project) -> Iterator[Sample]:
    """The devices of each group, as far as their reports are collected. Raises `CannotPublish` and OSError."""
    from visionops_assets.delivery.devices_now import groups_now
    from visionops_assets.delivery.tuf_files import NotPublished

    with contextlib.suppress(NotPublished):
        running = edge_repository.published(project.delivered_as).running()
        for now in groups_now(edge_repository.enrolled_devices(project, running)).values():
            yield from metric_families.group_of_devices_samples(project.project, now)


def clock_samples(*names: str) -> Iterator[Sample]:
    """How far the clocks of these services are ahead, of those that have one of their own."""
    addresses = {name: address for name, address in services.services_with_clocks().items() if name in names}
    for skew in services.skews(addresses):
        yield metric_families.CLOCK(skew.ahead.total_seconds(), skew.service)


def readings(instance: "dg.DagsterInstance") -> Mapping[str, Reading]:
    """What to read, by service, from the environment. Each raises what its service raises."""
    files = ProjectFiles()
    lakefs, spool = services.lakefs(LAKEFS_SECONDS), services.spool()

    def mlflow() -> Iterator[Sample]:
        from visionops_assets.monitoring.response.actions import read_actions
        from visionops_assets.promotion.status import status

        registry = services.registry()
        for project in files.known():
            ask = partial(
                status, registry, project.project, alpha=project.gate.alpha, approval=project.gate.approval
            )
            everywhere = ask()
            yield from metric_families.project_samples(everywhere)
            yield from metric_families.group_samples(everywhere)
            done = read_actions(registry.models.get(project.project).tags).entries
            yield from metric_families.action_samples(project.project, done)
            for group in everywhere.others:
                yield from metric_families.group_samples(ask(group=group))
            yield from assignment_samples(project, registry)
            yield from rollout_samples(project, registry)

        yield from clock_samples("mlflow")

    days: Days | None = None

    def artifacts() -> Iterator[Sample]:
        from visionops.serving.metric_records import Days

        nonlocal days
        days = days or Days(services.artifacts())
        for project in files.known():
            yield from days.samples(project)
        yield from clock_samples("s3")

    def dagster() -> Iterator[Sample]:
        from visionops.serving import metric_records

        known = files.known()
        names = [project.project for project in known]
        yield from metric_records.run_samples(instance, names)
        yield from metric_records.sensor_samples(instance, names)
        yield from metric_records.daemon_samples(instance)
        yield from metric_records.unseen_samples(instance, lakefs, known)
        yield from clock_samples("dagster", "lock")

    return {
        "projects": files.read,
        "mlflow": lambda: list(mlflow()),
        "artifacts": lambda: list(artifacts()),
        "lakefs": lambda: [
            *chain.from_iterable(commit_samples(project, lakefs) for project in files.known()),
            metric_families.CLOCK(lakefs.clock_ahead().total_seconds(), "lakefs"),
        ],
        "spool": lambda: list(
            chain.from_iterable(spool_samples(project, spool) for project in files.known())
        ),
        "edge": lambda: [
            *(
                metric_families.EDGE_EXPIRES(end.timestamp(), project, role)
                for project, ends in edge_repository.expiries()
                for role, end in ends.items()
            ),
            *chain.from_iterable(map(device_samples, files.known())),
        ],
        "dagster": lambda: list(dagster()),
    }


class Exporter(Collector):
    """All metrics. A service that fails, or does not answer within `within` seconds, is `visionops_up` 0.

    One that is slow goes on being read, and is not asked a second time meanwhile.
    """

    def __init__(
        self,
        readings: Mapping[str, Reading],
        *,
        keep: float = KEEP_SECONDS,
        within: float = WITHIN_SECONDS,
        first_within: float = FIRST_WITHIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._readings, self._keep, self._within, self._clock = readings, keep, within, clock
        self._next_within = first_within
        self._threads = ThreadPoolExecutor(max(1, len(readings)), thread_name_prefix="metrics")
        self._running: dict[str, Future[tuple[list[Sample], float]]] = {}
        self._lock = threading.Lock()
        self._read: tuple[float, list[Metric]] | None = None

    def describe(self) -> list[Metric]:
        """Nothing: what there is is known when it is read."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are, at most `keep` seconds old."""
        with self._lock:
            if self._read is None or self._clock() - self._read[0] >= self._keep:
                samples = self._samples()
                self._read = self._clock(), to_metrics(samples)
            metrics = self._read[1]
        yield from metrics

    def close(self) -> None:
        """Wait for nothing that is still being read."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _samples(self) -> list[Sample]:
        for service, reading in self._readings.items():
            if service not in self._running:
                self._running[service] = self._threads.submit(_timed, reading)
        wait(self._running.values(), timeout=self._next_within)
        self._next_within = self._within
        samples: list[Sample] = []
        for service in self._readings:
            found = self._answer(service)
            samples.append(metric_families.UP(found is not None, service))
            if found is not None:
                samples += found[0]
                samples.append(metric_families.READ_SECONDS(found[1], service))
        return samples

    def _answer(self, service: str) -> tuple[list[Sample], float] | None:
        future = self._running[service]
        if not future.done():
            _log.warning("%s did not answer in time", service)
            return None
        del self._running[service]
        error = future.exception()
        if error is not None:
            # Whatever it raises, the others are to be read; that it is away is what the page says.
            _log.warning("%s could not be read: %s", service, error or type(error).__name__)
            return None
        return future.result()


def _timed(reading: Reading) -> tuple[list[Sample], float]:
    started = time.perf_counter()
    return reading(), time.perf_counter() - started


def metrics_app(exporter: Exporter) -> Starlette:
    """Answers with what the exporter collects."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        text = await asyncio.to_thread(encode, registry)
        return Response(text, headers={"content-type": content_type})

    async def health(_: Request) -> Response:
        return JSONResponse({"visionops": "metrics"})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        exporter.close()

    return Starlette(routes=[Route("/metrics", metrics), Route("/health", health)], lifespan=lifespan)
