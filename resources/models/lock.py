"""Locks that die with their holder: one promotion at a time per project.

A Dagster pool would not do: a killed step keeps its slot for ever.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from resources.databases import DatabaseMisnamed, DatabaseUnreachable, connected
from resources.error_family import Invalid, Unavailable
from resources.escaping import masked
from resources.models.records import RegistryError, RegistryUnavailable

LOCK_URL = "VISIONOPS_LOCK_URL"
POLL_SECONDS = 0.1


class PromotionLocked(Unavailable, RegistryError):
    """Another promotion or rollback of the project is running and did not end in time."""


class LockHeld(Unavailable):
    """Another process holds a file's lock; the message says which."""


class LockNotConfigured(Invalid, RegistryError):
    """The lock's address cannot be used: no Postgres, or its driver is missing."""


@contextmanager
def held_file(folder: Path, name: str, timeout: float) -> Iterator[None]:
    """Hold a lock of this name for all processes of this machine; the kernel frees it when the holder dies.

    It lies beside what it protects, in a folder that nobody removes. `timeout` in seconds, negative to wait for ever.
    Raises `LockHeld`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / f"{name}.holder"
    lock = FileLock(folder / f"{name}.lock", timeout=timeout, poll_interval=POLL_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        raise LockHeld(holder.read_text() if holder.is_file() else "an unknown process") from error
    try:
        holder.write_text(f"process {os.getpid()} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
        yield
    finally:
        lock.release()


@contextmanager
def file_lock(folder: Path, project: str, timeout: float) -> Iterator[None]:
    """Hold the project's lock for all processes of this machine. `timeout` in seconds. Raises `PromotionLocked`."""
    with ExitStack() as held:
        try:
            held.enter_context(held_file(folder, project, timeout))
        except LockHeld as error:
            raise PromotionLocked(
                f"promotion of {project} is locked by {error}: wait for it, or end that process, and run again"
            ) from error
        yield


@contextmanager
def advisory_lock(url: str, project: str, timeout: float) -> Iterator[None]:
    """Hold the project's lock for all machines: a Postgres advisory lock, freed when its session ends.

    `url` is `postgresql://user:secret@host/database`, or SQLAlchemy's with another driver; `timeout` in seconds.
    Raises `PromotionLocked`, `LockNotConfigured` where the address is not Postgres's, and `RegistryUnavailable`
    where nothing answers there.
    """
    from sqlalchemy import text

    with ExitStack() as opened:
        try:
            session = opened.enter_context(connected(url, LOCK_URL, postgres=True))
        except DatabaseMisnamed as error:
            raise LockNotConfigured(f"the promotion lock: {error}") from error
        except DatabaseUnreachable as error:
            raise RegistryUnavailable(f"the promotion lock: {error}") from error
        key = int.from_bytes(hashlib.sha256(f"visionops/{project}".encode()).digest()[:8], "big", signed=True)
        # A holder that lost its network must not keep the lock for the two hours TCP would.
        for setting in ("idle = 20", "interval = 5", "count = 3"):
            session.execute(text(f"SET tcp_keepalives_{setting}"))
        deadline = time.monotonic() + timeout
        while not session.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}):
            if time.monotonic() >= deadline:
                raise PromotionLocked(
                    f"promotion of {project} is locked by another process (Postgres at {masked(url)}): "
                    "wait for it and run again; pg_locks names its session"
                )
            time.sleep(POLL_SECONDS)
        yield
