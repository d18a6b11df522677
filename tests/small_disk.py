"""A disk with as much room as a test gives it, mounted where only the processes that enter it see it."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_MOUNT = 'mount -t tmpfs -o size=1g,mode=0755 none "$0" && echo ready && exec sleep infinity'
# A user may mount something in a namespace of their own only.
_OWN = () if os.geteuid() == 0 else ("--user", "--map-root-user")
_ENTERED = ("mnt",) if os.geteuid() == 0 else ("user", "mnt")


@dataclass(frozen=True)
class SmallDisk:
    """A disk at `place`, for as long as the process `holder` lives."""

    place: Path
    holder: int

    @property
    def seen(self) -> Path:
        """The same folder, for who did not enter."""
        return Path(f"/proc/{self.holder}/root{self.place}")

    @property
    def used(self) -> int:
        """Bytes that are taken."""
        found = os.statvfs(self.seen)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def leave(self, free: int) -> None:
        """Have so many bytes of room from now on."""
        size = self.used + free
        entering = [
            "nsenter",
            "-t",
            str(self.holder),
            "-m",
            *(["-U", "--preserve-credentials"] if _OWN else []),
        ]
        subprocess.run([*entering, "mount", "-o", f"remount,size={size}", str(self.place)], check=True)

    def __call__(self) -> None:
        """Enter, from a process of one thread."""
        libc = ctypes.CDLL(None, use_errno=True)
        for kind in _ENTERED:
            with open(f"/proc/{self.holder}/ns/{kind}", "rb") as namespace:  # noqa: PTH123
                if libc.setns(namespace.fileno(), 0):
                    raise OSError(ctypes.get_errno(), f"{kind} namespace: {os.strerror(ctypes.get_errno())}")


@contextmanager
def small_disk(place: Path) -> Iterator[SmallDisk]:
    """A disk, large at first, at an empty folder. Raises PermissionError where nothing may be mounted."""
    holder = subprocess.Popen(
        ["unshare", "--mount", *_OWN, "sh", "-c", _MOUNT, str(place)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None and holder.stderr is not None
        if holder.stdout.readline() != "ready\n":
            raise PermissionError(f"nothing may be mounted here: {holder.stderr.read()}")
        yield SmallDisk(place, holder.pid)
    finally:
        holder.kill()
        holder.communicate()
