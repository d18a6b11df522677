"""This machine's disks and its clock: what the disks under local folders can do, room included, and whether they
are of this machine; the clock beside those of the services and the disk, and beside what is dated in the future.
"""

import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from resources import clocks, home
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSError
from resources.settings import given
from visionops.diagnosis.checking import ANSWER_SECONDS, Check, Finding, State, broken, ok, setting, warning
from visionops.services import services_with_clocks, skews
from visionops_assets.config.project import Project

GIB = 1 << 30
DISK_WANTED, DISK_NEEDED = 10 * GIB, 1 * GIB
# A batch of small images is as many files.
FILES_NEEDED = 10_000
# Locks and memory shared by processes are of one machine on these, or of none.
NETWORK = frozenset(
    (
        *(
            "9p",
            "afs",
            "beegfs",
            "ceph",
            "cifs",
            "davfs",
            "drvfs",
            "glusterfs",
            "gpfs",
            "lustre",
            "ncpfs",
            "nfs",
        ),
        *("nfs4", "orangefs", "smb", "smb2", "smb3", "smbfs", "sshfs"),
        *("fuse.ceph", "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.mountpoint-s3", "fuse.rclone"),
        *("fuse.s3fs", "fuse.sshfs"),
    )
)
IN_MEMORY = ("tmpfs", "ramfs")
ON_THIS_DISK = "set VISIONOPS_HOME to a folder on a disk of this machine"
# From here on lakeFS's calls are refused, and S3 lets nobody in a little later.
TOO_FAR = timedelta(minutes=5)
_SET_CLOCKS = "set the clocks by the network's time, for example `timedatectl set-ntp true`"


def disk_checks() -> Iterator[Check]:
    """Room on each disk that is written to, and what the disks of local state can do."""
    yield Check(
        "disk",
        setting("VISIONOPS_HOME", "TMPDIR", otherwise=f"{home.home()}"),
        "free space, and room for more files",
        "free some space, or set VISIONOPS_HOME to a larger disk",
        lambda: _worst(room, _written()),
    )
    yield Check(
        "file system",
        setting("VISIONOPS_HOME", "DAGSTER_HOME", otherwise=f"{home.home()}"),
        "fsync, rename, links, locks, SQLite's log",
        ON_THIS_DISK,
        lambda: _worst(abilities, [home.home(), home.dagster_home()]),
    )


def room(folder: Path) -> Finding:
    """How much can still be written to the disk of a folder."""
    free = shutil.disk_usage(folder).free
    status = os.statvfs(folder)
    said = f"{free / GIB:,.1f} GiB free"
    fix = f"free some space on the disk of {folder}, or set VISIONOPS_HOME to a larger one"
    if status.f_files and status.f_favail < FILES_NEEDED:
        return broken(f"{said}, but room for {status.f_favail:,} more files only", fix)
    if free < DISK_NEEDED:
        return broken(said, fix)
    return warning(said, fix) if free < DISK_WANTED else ok(said)


def abilities(folder: Path) -> Finding:
    """Try, in a folder of its own that goes again, what local state is built on."""
    kind = kind_of(folder)
    place = folder / f".doctor-{uuid.uuid4().hex}"
    place.mkdir()
    try:
        missing = [said for attempt in (_replace, _link, _lock, _database) if (said := attempt(place))]
    except OSError as error:
        missing = [error.strerror or str(error)]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if missing:
        return broken(f"{kind}: {'; '.join(missing)}", ON_THIS_DISK)
    if kind in NETWORK:
        return warning(
            f"{kind} is of the network: databases and locks there can be damaged when two machines use them",
            f"{ON_THIS_DISK}; artifacts, drop and spool may stay there",
        )
    if kind in IN_MEMORY:
        return warning(f"{kind} is in memory: all of it is gone when the machine restarts", ON_THIS_DISK)
    return ok(f"{kind} can do all of it")


def _worst(look: Callable[[Path], Finding], folders: list[Path]) -> Finding:
    """What was found on each disk, in one."""
    found = [(folder, look(folder)) for folder in _one_a_disk(folders)]
    if not found:
        return broken(f"{folders[0]} is not there", ON_THIS_DISK)
    order: list[State] = ["ok", "warning", "broken"]
    state = max((finding.state for _, finding in found), key=order.index)
    said = "; ".join(f"{folder}: {finding.what}" for folder, finding in found)
    return Finding(state, said, "; ".join(dict.fromkeys(one.fix for _, one in found if one.fix)))


def kind_of(folder: Path) -> str:
    """The type of file system under a folder, in lower case; `unknown` where the system does not tell."""
    there = folder.resolve()
    found = {
        Path(one.mountpoint): one.fstype.lower()
        for one in psutil.disk_partitions(all=True)
        if there.is_relative_to(one.mountpoint)
    }
    if not found:
        return "unknown"
    return found[max(found, key=lambda place: len(place.parts))] or "unknown"


def _replace(place: Path) -> str | None:
    """Written, synced, and put in the place of another: what a reader sees is whole, whatever is killed."""
    old, new = place / "file", place / "new"
    old.write_bytes(b"old")
    with new.open("wb") as stream:
        stream.write(b"new")
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(old)
    folder = os.open(place, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        return f"a folder cannot be synced ({error.strerror})"
    finally:
        os.close(folder)
    return None if old.read_bytes() == b"new" else "a renamed file does not take the place of another"


def _link(place: Path) -> str | None:
    """Copies of a bucket's files are links, and so is Dagster's configuration."""
    try:
        (place / "hard").hardlink_to(place / "file")
        (place / "soft").symlink_to(place / "file")
    except OSError as error:
        return f"it has no links ({error.strerror})"
    return None if (place / "soft").read_bytes() == b"new" else "links lead nowhere"


def _lock(place: Path) -> str | None:
    """One holder at a time, and the next once the first has let go."""
    first, second = (FileLock(place / "lock", timeout=0, is_singleton=False) for _ in range(2))
    try:
        with first:
            try:
                with second:
                    return "a lock is given to two at once"
            except Timeout:
                pass
        with second:
            return None
    except (OSError, NotImplementedError) as error:
        return f"it has no locks ({error})"


def _database(place: Path) -> str | None:
    """A SQLite in the mode that lets one write while others read."""
    try:
        with closing(sqlite3.connect(place / "database", timeout=1)) as writer:
            mode = writer.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            with writer:
                writer.execute("CREATE TABLE tried (number)")
            with closing(sqlite3.connect(place / "database", timeout=1)) as reader:
                reader.execute("SELECT number FROM tried").fetchall()
    except sqlite3.Error as error:
        return f"SQLite cannot work there ({error})"
    return None if mode == "wal" else f"SQLite has no write-ahead log there (it is {mode})"


def _written() -> list[Path]:
    """The local folders that are written to."""
    places = [home.home(), home.dagster_home(), Path(tempfile.gettempdir())]
    return places + [Path(root) for root in (home.artifacts(), home.spool()) if "://" not in root]


def _one_a_disk(folders: list[Path]) -> list[Path]:
    """The first of the folders, that are there, on each disk."""
    disks: dict[int, Path] = {}
    for folder in folders:
        if folder.is_dir():
            disks.setdefault(folder.stat().st_dev, folder)
    return list(disks.values())


def clock_checks(projects: Sequence[Project]) -> Iterator[Check]:
    """Whether clocks agree, and whether anything is dated in the future."""
    names = ", ".join(["the disk", *services_with_clocks()])
    yield Check("clock", "this machine's", f"compared with {names}", _SET_CLOCKS, _agree)
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
    return (broken if furthest >= TOO_FAR else warning)("; ".join(said), _SET_CLOCKS)


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
            f"{_SET_CLOCKS}; what came of it waits no longer than anything else, from when it was first seen",
        )
    return ok("nothing is dated in the future")


def _commits(projects: Sequence[Project]) -> Iterator[tuple[str, datetime]]:
    from lakefs_local import discovery
    from visionops import services as connected

    if not given("LAKEFS_ENDPOINT") and discovery.running(home.lakefs_data()) is None:
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
