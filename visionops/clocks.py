"""Whether the services' clocks and this machine's agree: one dates what is recorded, by the other it is decided."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from resources import clocks
from resources.databases import DatabaseError, connected
from resources.masking import shown

_WEB = ("http://", "https://")
# The variables whose servers have a clock of their own, and what their metric calls them.
_SERVICES = {
    "LAKEFS_ENDPOINT": "lakefs",
    "MLFLOW_TRACKING_URI": "mlflow",
    "AWS_ENDPOINT_URL": "s3",
    "DAGSTER_POSTGRES_URL": "dagster",
    "VISIONOPS_LOCK_URL": "lock",
}
_SECONDS = 3.0


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
            f"the clock of {self.service} ({shown(self.address)}) is {clocks.in_words(self.ahead)} {where} this "
            "machine's: set both by the network's time, for example `timedatectl set-ntp true`"
        )


def skews(addresses: Mapping[str, str] | None = None) -> Iterator[Skew]:
    """The clocks of the services of the environment, or of those at `addresses` by name; what does not answer, or says
    no time, is left out: that it is away is told elsewhere. The embedded ones have this machine's clock.
    """
    for service, address in (services() if addresses is None else addresses).items():
        ahead = _web_ahead(address) if address.startswith(_WEB) else _database_ahead(address)
        if ahead is not None:
            yield Skew(service, address, ahead)


def services() -> dict[str, str]:
    """The addresses of servers that the environment names, each once."""
    found: dict[str, str] = {}
    for variable, service in _SERVICES.items():
        address = os.environ.get(variable, "")
        if address.startswith((*_WEB, "postgres")) and address not in found.values():
            found[service] = address
    return found


def _web_ahead(address: str) -> timedelta | None:
    import httpx

    asked = clocks.now()
    try:
        # Whatever it says of the request, it dates its answer.
        answer = httpx.head(address, timeout=_SECONDS)
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
