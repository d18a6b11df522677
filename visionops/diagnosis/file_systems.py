"""What the disks under local folders can do, room included, and whether they are disks of this machine."""

import os
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from resources import home
from visionops.diagnosis.checking import Check, Finding, State, broken, ok, warning
from visionops.diagnosis.settings import setting

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


def checks() -> Iterator[Check]:
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
