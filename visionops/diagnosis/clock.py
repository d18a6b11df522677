"""The clock of this machine beside those of the services and the disk, and beside what is dated in the future."""

import os
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from resources import clocks, home
from resources.lakefs.client import LakeFSResource
from resources.lakefs_errors import LakeFSError
from visionops.clocks import services, skews
from visionops.diagnosis.checking import ANSWER_SECONDS, Check, Finding, broken, ok, warning
from visionops_assets.project import Project

# From here on lakeFS's calls are refused, and S3 lets nobody in a little later.
TOO_FAR = timedelta(minutes=5)
_MEND = "set the clocks by the network's time, for example `timedatectl set-ntp true`"


def checks(projects: Sequence[Project]) -> Iterator[Check]:
    """Whether clocks agree, and whether anything is dated in the future."""
    names = ", ".join(["the disk", *services()])
    yield Check("clock", "this machine's", f"compared with {names}", _MEND, _agree)
    yield Check(
        "dates",
        "what lakeFS and Dagster recorded last",
        "compared with now",
        "see the clock",
        lambda: _dates(projects),
    )


def _agree() -> Finding:
    found = list(skews())
    apart = [skew for skew in found if skew.matters]
    said = [skew.sentence().partition(": set ")[0] for skew in apart]
    disk = _disk_ahead()
    if abs(disk) >= clocks.TOLERANCE:
        where = "ahead of" if disk > timedelta(0) else "behind"
        said.append(f"the disk of {home.home()} is {clocks.in_words(disk)} {where} this machine's clock")
    if not said:
        beside = ", ".join(skew.service for skew in found)
        return ok(f"agrees with the disk{f', {beside}' if beside else ''}")
    furthest = max(abs(skew.ahead) for skew in apart) if apart else abs(disk)
    return (broken if furthest >= TOO_FAR else warning)("; ".join(said), _MEND)


def _disk_ahead() -> timedelta:
    """How far the times of new files are ahead: on a file system of the network its server writes them."""
    file = home.home() / f".doctor-{uuid.uuid4().hex}"
    asked = clocks.now()
    try:
        file.touch()
        theirs = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except OSError:
        # That it cannot be written is told elsewhere.
        return timedelta(0)
    finally:
        file.unlink(missing_ok=True)
    return clocks.ahead(theirs, asked, clocks.now())


def _dates(projects: Sequence[Project]) -> Finding:
    """Work goes on by when such things were first seen; that a clock was wrong is to be known all the same."""
    limit = clocks.now() + clocks.TOLERANCE
    future = [
        f"{what} is dated in {clocks.in_words(when - clocks.now())}"
        for what, when in (*_commits(projects), *_runs(projects))
        if when > limit
    ]
    if future:
        return warning(
            "; ".join(future),
            f"{_MEND}; what came of it waits no longer than anything else, from when it was first seen",
        )
    return ok("nothing is dated in the future")


def _commits(projects: Sequence[Project]) -> Iterator[tuple[str, datetime]]:
    from lakefs_local import discovery
    from visionops import services as connected

    if not os.environ.get("LAKEFS_ENDPOINT") and discovery.running(home.lakefs_data()) is None:
        return
    lakefs: LakeFSResource = connected.lakefs(ANSWER_SECONDS)
    for project in projects:
        try:
            head = lakefs.head(project.repository)
        except LakeFSError:
            continue
        yield f"commit {head.id[:12]} of {project.repository}/main", head.created_at


def _runs(projects: Sequence[Project]) -> Iterator[tuple[str, datetime]]:
    import dagster as dg

    from visionops import services as connected
    from visionops_assets.common import run_tags

    with connected.dagster() as instance:
        for project in projects:
            wanted = dg.RunsFilter(tags={run_tags.PROJECT: project.project})
            for record in instance.get_run_records(wanted, limit=1):
                yield f"run {record.dagster_run.run_id} of {project.project}", record.create_timestamp
