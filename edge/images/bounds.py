"""How much a stranger's bytes may ask for before they are refused: the bounds of an image, each a setting in the
environment, and processes of our own that such bytes may end, started without secrets and held to what they may
take.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edge import EdgeError

MEMORY = "VISIONOPS_IMAGE_MIB"
SCANS = "VISIONOPS_IMAGE_SCANS"
FRAMES = "VISIONOPS_IMAGE_FRAMES"
DIRECTORIES = "VISIONOPS_IMAGE_DIRECTORIES"
SECONDS = "VISIONOPS_IMAGE_SECONDS"
WORKERS = "VISIONOPS_IMAGE_WORKERS"

# A machine that is busy gives a decoder less than its time; only one that sleeps takes longer than this.
WALL_TIMES_CPU = 10
# Found by the process; nothing else of the environment is, which holds secrets.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
# A process that does one thing at a time: threads and pools of memory would only take from what it may have.
_OF_ITS_OWN = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


class BoundInvalid(EdgeError, ValueError):
    """A bound has a value that it does not take; the message names the variable and what was expected."""


@dataclass(frozen=True)
class ImageLimits:
    """The most that one image may have: `memory` in bytes once decoded, `scans` of a progressive JPEG, `frames` of an
    animation, `directories` of a TIFF and entries of each, and `seconds` of processor time to decode it.
    """

    memory: int = 256 << 20
    scans: int = 100
    frames: int = 1000
    directories: int = 1000
    seconds: float = 10.0
    seconds_setting: str = SECONDS

    @property
    def worker_memory(self) -> int:
        """What a worker may take in all: decoders hold an image up to three times."""
        return 3 * self.memory + (64 << 20)

    @property
    def wall_seconds(self) -> float:
        """How long a decoder is waited for by the clock."""
        return self.seconds * WALL_TIMES_CPU

    def within(self, seconds: float, setting: str = SECONDS) -> ImageLimits:
        """The same with another deadline, and how it is set."""
        return replace(self, seconds=seconds, seconds_setting=setting)


@functools.cache
def image_limits() -> ImageLimits:
    """The limits of this process, read from the environment once. Raises `BoundInvalid` naming a setting."""
    return ImageLimits(
        memory=int(_number(MEMORY, ImageLimits.memory >> 20, 1)) << 20,
        scans=int(_number(SCANS, ImageLimits.scans, 1)),
        frames=int(_number(FRAMES, ImageLimits.frames, 1)),
        directories=int(_number(DIRECTORIES, ImageLimits.directories, 1)),
        seconds=_number(SECONDS, ImageLimits.seconds, 0.01),
    )


@functools.cache
def image_workers() -> int:
    """How many workers decode what does not stay in this process. Raises `BoundInvalid` naming the setting."""
    return int(_number(WORKERS, min(4, max(2, os.cpu_count() or 1)), 1))


def _number(name: str, default: float, least: float) -> float:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        # As Python reads it, 1_0 is 10.
        found = float("nan") if "_" in text else float(text)
    except ValueError:
        found = float("nan")
    if not least <= found < 1e9:
        raise BoundInvalid(f"{name} is {text[:40]!r}: it takes a number of at least {least:g}")
    return found


def start_process(code: str, handle: int, own: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Run Python code in a process that has this handle, the modules of this one, and `own` as its environment."""
    environment = {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        **_OF_ITS_OWN,
        **own,
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
    }
    return subprocess.Popen(
        [sys.executable, "-c", code],
        pass_fds=(handle,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


def hold_process_to(limits: Mapping[int, int], *, for_good: bool = True) -> None:
    """Hold this process to limits of `resource.RLIMIT_…`, or to its own where these are less. Raises OSError.

    Those that are not `for_good` it may set anew, which it does for its next task.
    """
    import resource

    for what, most in limits.items():
        _, hard = resource.getrlimit(what)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least if for_good else hard))


def limit_of_memory(size: int) -> dict[int, int]:
    """The limit under which this process may have so many bytes in memory in all; none where the system does not say
    what it has."""
    import resource

    addresses, resident = memory_pages()
    return {resource.RLIMIT_AS: addresses - resident + size} if addresses else {}


def memory_pages() -> tuple[int, int]:
    """Bytes of this process's address space, and of what of it is in memory; 0 where the system does not say."""
    try:
        addresses, resident, *_ = Path("/proc/self/statm").read_text().split()
    except OSError:
        return 0, 0
    page = os.sysconf("SC_PAGE_SIZE")
    return int(addresses) * page, int(resident) * page
