"""Processes of our own that strangers' bytes may end: started without secrets, held to what they may take."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# Found by the process; nothing else of the environment is, which holds secrets.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
# A process that does one thing at a time: threads and pools of memory would only take from what it may have.
_OF_ITS_OWN = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


def start(code: str, handle: int, own: Mapping[str, str]) -> subprocess.Popen[bytes]:
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


def hold_to(limits: Mapping[int, int], *, for_good: bool = True) -> None:
    """Hold this process to limits of `resource.RLIMIT_…`, or to its own where these are less. Raises OSError.

    Those that are not `for_good` it may set anew, which it does for its next task.
    """
    import resource

    for what, most in limits.items():
        _, hard = resource.getrlimit(what)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least if for_good else hard))


def memory_in_all(size: int) -> dict[int, int]:
    """The limit under which this process may have so many bytes in memory in all; none where the system does not say
    what it has."""
    import resource

    addresses, resident = pages()
    return {resource.RLIMIT_AS: addresses - resident + size} if addresses else {}


def pages() -> tuple[int, int]:
    """Bytes of this process's address space, and of what of it is in memory; 0 where the system does not say."""
    try:
        addresses, resident, *_ = Path("/proc/self/statm").read_text().split()
    except OSError:
        return 0, 0
    page = os.sysconf("SC_PAGE_SIZE")
    return int(addresses) * page, int(resident) * page
