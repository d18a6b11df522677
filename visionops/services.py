"""What a command talks to, from the environment, as the code location's resources do; and whether the clocks of
these services agree with this machine's: one dates what is recorded, by the other it is decided.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from resources import clocks, home
from resources.databases import DatabaseError, check_database, connected
from resources.error_family import Invalid, NotFound
from resources.escaping import masked
from resources.lakefs.client import LakeFSResource
from resources.models.registry import ModelRegistry
from resources.nearest import nearest, there_are
from resources.service_clients import LAKEFS_SECONDS, Services, Stores
from resources.settings import given
from resources.storage import ArtifactStore, Spool
from visionops.bootstrap import POSTGRES
from visionops_assets.common.errors import ReasonMissing
from visionops_assets.config.project import Neighbours, Project, find_project, load_projects, neighbours_of

if TYPE_CHECKING:
    import dagster as dg


_NUMBER = re.compile(r"\d+")
# What a schema says of a wrong value is longer than what helps.
_SAID = 200
_WEB = ("http://", "https://")
# The variables whose servers have a clock of their own, and what their metric calls them.
_WITH_CLOCKS = {
    "LAKEFS_ENDPOINT": "lakefs",
    "MLFLOW_TRACKING_URI": "mlflow",
    "AWS_ENDPOINT_URL": "s3",
    "DAGSTER_POSTGRES_URL": "dagster",
    "VISIONOPS_LOCK_URL": "lock",
}
_CLOCK_SECONDS = 3.0


class ConfigurationUnusable(Invalid, DatabaseError):
    """What is no configuration of Dagster; the message names the file."""


class UnknownGroup(NotFound, ValueError):
    """A device group that nobody made, and that is nearly one that somebody did."""


def project(name: str) -> Project:
    """The project called `name`; raises `ProjectError`."""
    return find_project(load_projects(home.projects_folder()), name)


def neighbours(project: Project) -> Neighbours:
    """The projects that may share a project's repository."""
    return neighbours_of(project, load_projects(home.projects_folder()))


def projects() -> Sequence[Project]:
    """The projects whose files can be used."""
    return load_projects(home.projects_folder())


def lakefs(timeout_seconds: float = LAKEFS_SECONDS) -> LakeFSResource:
    """The lakeFS of the environment, or the embedded one."""
    return Services.from_environment(lakefs_seconds=timeout_seconds).lakefs


def registry() -> ModelRegistry:
    """The MLflow of the environment, or the local one."""
    return Services.from_environment().registry


def artifacts() -> ArtifactStore:
    """Tables and records."""
    return Services.from_environment().artifacts


def edge() -> ArtifactStore:
    """The repositories that devices follow."""
    return Services.from_environment().edge


def stores() -> Stores:
    """What a stage reads from and writes to."""
    return Services.from_environment().stores


def spool() -> Spool:
    """Where predictions are left for the collector."""
    return Services.from_environment().spool


@contextmanager
def dagster() -> "Iterator[dg.DagsterInstance]":
    """The Dagster of DAGSTER_HOME. Processes that open a new one at once would each make its tables.

    Raises `DatabaseError` where its database cannot be used, `ConfigurationUnusable` where its file cannot.
    """
    from filelock import FileLock

    if given(POSTGRES):
        # Dagster would print each of several attempts, and raise without the address.
        check_database(given(POSTGRES), POSTGRES, postgres=True)
    with FileLock(f"{home.dagster_home()}.lock"):
        instance = _open_dagster()
    with instance:
        yield instance


def _open_dagster() -> "dg.DagsterInstance":
    import dagster as dg
    import yaml
    from dagster_shared.check import CheckError

    try:
        return dg.DagsterInstance.get()
    except (yaml.YAMLError, CheckError, dg.DagsterInvalidConfigError, UnicodeDecodeError) as error:
        file = home.dagster_home() / "dagster.yaml"
        said = " ".join(str(error).split())[:_SAID]
        otherwise = "" if file.is_symlink() else ", or delete it: the next command puts it there again"
        raise ConfigurationUnusable(
            f"{file.resolve()} cannot be used ({said})", f"correct {file.resolve()}{otherwise}"
        ) from error


def pages_need() -> str | None:
    """What has to run for MLflow's and lakeFS's pages to open; None where both have servers of their own."""
    local = [
        name
        for name, served in (
            ("MLflow", home.mlflow_uri().startswith("http") or given("MLFLOW_UI_URL")),
            ("lakeFS", given("LAKEFS_ENDPOINT") or given("LAKEFS_UI_URL")),
        )
        if not served
    ]
    return f"The pages of {' and '.join(local)} open while `visionops up` runs." if local else None


def check_group(registry: ModelRegistry, project: str, group: str) -> str | None:
    """What to know of a device group before it is answered: None where it has a champion of its own.

    Any group without one runs that of `all`, and one that was misspelt would do so silently: raises `UnknownGroup`
    for a name that is nearly one of those that have, unless numbers alone tell the two apart.
    """
    from visionops_assets.champions.history import groups

    known = groups(registry.models.get(project))
    if group in known:
        return None
    _require_no_misspelling(project, group, known)
    return f"device group {group} has no champion of its own: that of `all` answers"


def check_new_group(found: Project, registry: ModelRegistry, group: str, also: Sequence[str] = ()) -> None:
    """Raise `UnknownGroup` for a device group that nobody made or declared, and that is nearly one that is there.

    Unless numbers alone tell the two apart. `also` are those of a repository.
    """
    from visionops_assets.champions.history import groups

    known = sorted({*groups(registry.models.get(found.project)), *found.delivery.groups, *also})
    if group not in known:
        _require_no_misspelling(found.project, group, known)


def _require_no_misspelling(project: str, group: str, known: Sequence[str]) -> None:
    meant = [each for each in nearest(group, known) if _NUMBER.sub("0", each) != _NUMBER.sub("0", group)]
    if meant:
        raise UnknownGroup(f"{project} has no device group {group}; {there_are(group, known)}")


def dagster_has_history() -> bool:
    """Whether there is a Dagster to ask: a local one makes its tables when it is opened first."""
    return bool(given(POSTGRES)) or (home.dagster_home() / "history" / "runs.db").exists()


def actor() -> str:
    """Who makes a change by hand: VISIONOPS_ACTOR. Raises `ReasonMissing` where it names nobody."""
    named = given("VISIONOPS_ACTOR").strip()
    if not named:
        raise ReasonMissing(
            "a change by hand is recorded with who makes it: set VISIONOPS_ACTOR, for example "
            "`export VISIONOPS_ACTOR=you@example.com`"
        )
    return named


@dataclass(frozen=True)
class Skew:
    """How far the clock of a service is ahead of this machine's; behind where that is negative."""

    service: str
    address: str
    ahead: timedelta

    @property
    def matters(self) -> bool:
        """Whether the two are further apart than clocks that are kept are."""
        return abs(self.ahead) >= clocks.TOLERANCE

    def sentence(self) -> str:
        """Which clock is off by how much, and what mends it."""
        where = "ahead of" if self.ahead > timedelta(0) else "behind"
        return (
            f"the clock of {self.service} ({masked(self.address)}) is {clocks.in_words(self.ahead)} {where} this "
            "machine's: set both by the network's time, for example `timedatectl set-ntp true`"
        )


def skews(addresses: Mapping[str, str] | None = None) -> Iterator[Skew]:
    """The clocks of the services of the environment, or of those at `addresses` by name; what does not answer, or says
    no time, is left out: that it is away is told elsewhere. The embedded ones have this machine's clock.
    """
    for service, address in (services_with_clocks() if addresses is None else addresses).items():
        ahead = _web_ahead(address) if address.startswith(_WEB) else _database_ahead(address)
        if ahead is not None:
            yield Skew(service, address, ahead)


def services_with_clocks() -> dict[str, str]:
    """The addresses of servers that the environment names, each once."""
    found: dict[str, str] = {}
    for variable, service in _WITH_CLOCKS.items():
        address = given(variable)
        if address.startswith((*_WEB, "postgres")) and address not in found.values():
            found[service] = address
    return found


def _web_ahead(address: str) -> timedelta | None:
    import httpx

    asked = clocks.now()
    try:
        # Whatever it says of the request, it dates its answer.
        answer = httpx.head(address, timeout=_CLOCK_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    return clocks.ahead_by_header(answer.headers.get("date"), asked, clocks.now())


def _database_ahead(address: str) -> timedelta | None:
    from sqlalchemy import text

    try:
        with connected(address, "its address", postgres=True) as session:
            asked = clocks.now()
            theirs = session.scalar(text("SELECT clock_timestamp()"))
            return clocks.ahead(theirs, asked, clocks.now())
    except DatabaseError:
        return None
