"""The services that metrics are read from, each on its own: one that is away takes none of the others with it."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from resources import home
from visionops import clocks, edge_repository, services
from visionops.exporter import data, families, models
from visionops.exporter.families import Sample
from visionops_assets.project import Project, ProjectError, Projects, load_projects

if TYPE_CHECKING:
    import dagster as dg

    from visionops.exporter.days import Days

Reading = Callable[[], list[Sample]]
# So much shorter than elsewhere: somebody waits for the page.
LAKEFS_SECONDS = 5.0


class ProjectFiles:
    """The project files as they are; of a project whose file is broken now, what it was at the last reading."""

    def __init__(self) -> None:
        self._known: dict[str, Project] = {}

    def read(self) -> list[Sample]:
        """The projects there are. Raises `ProjectError` where a file cannot be used."""
        for file in self._load().unusable:
            raise ProjectError(file.why)
        return [families.PROJECT(1, one.project, one.task, one.repository) for one in self._known.values()]

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


def clock_samples(*names: str) -> Iterator[Sample]:
    """How far the clocks of these services are ahead, of those that have one of their own."""
    addresses = {name: address for name, address in clocks.services().items() if name in names}
    for skew in clocks.skews(addresses):
        yield families.CLOCK(skew.ahead.total_seconds(), skew.service)


def readings(instance: "dg.DagsterInstance") -> Mapping[str, Reading]:
    """What to read, by service, from the environment. Each raises what its service raises."""
    files = ProjectFiles()
    lakefs, spool = services.lakefs(LAKEFS_SECONDS), services.spool()

    def mlflow() -> Iterator[Sample]:
        from visionops_assets.monitoring.acting.actions import read_actions
        from visionops_assets.promotion.status import status

        registry = services.registry()
        for project in files.known():
            ask = partial(
                status, registry, project.project, alpha=project.gate.alpha, approval=project.gate.approval
            )
            everywhere = ask()
            yield from models.project_samples(everywhere)
            yield from models.group_samples(everywhere)
            done = read_actions(registry.models.get(project.project).tags).entries
            yield from models.action_samples(project.project, done)
            for group in everywhere.others:
                yield from models.group_samples(ask(group=group))

        yield from clock_samples("mlflow")

    days: Days | None = None

    def artifacts() -> Iterator[Sample]:
        from visionops.exporter.days import Days

        nonlocal days
        days = days or Days(services.artifacts())
        for project in files.known():
            yield from days.samples(project)
        yield from clock_samples("s3")

    def dagster() -> Iterator[Sample]:
        from visionops.exporter import work

        known = files.known()
        names = [project.project for project in known]
        yield from work.run_samples(instance, names)
        yield from work.sensor_samples(instance, names)
        yield from work.daemon_samples(instance)
        yield from work.unseen_samples(instance, lakefs, known)
        yield from clock_samples("dagster", "lock")

    return {
        "projects": files.read,
        "mlflow": lambda: list(mlflow()),
        "artifacts": lambda: list(artifacts()),
        "lakefs": lambda: [
            *chain.from_iterable(data.commit_samples(project, lakefs) for project in files.known()),
            families.CLOCK(lakefs.clock_ahead().total_seconds(), "lakefs"),
        ],
        "spool": lambda: list(
            chain.from_iterable(data.spool_samples(project, spool) for project in files.known())
        ),
        "edge": lambda: [
            families.EDGE_EXPIRES(end.timestamp(), project, role)
            for project, ends in edge_repository.expiries()
            for role, end in ends.items()
        ],
        "dagster": lambda: list(dagster()),
    }
