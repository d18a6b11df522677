"""Which process runs a run, told so that no clock matters: one that is set anew makes no living process a dead one.

A pid alone is given to another process some time, and a time of the wall means another one once the clock is set.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil

# Hidden in the UI, as all tags of this prefix are.
TAG = ".dagster/visionops/process"
_noted: set[str] = set()
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class RunProcess:
    """A process by its number, the start of the machine that it belongs to, and when after that it began."""

    boot: str
    pid: int
    began: str

    @classmethod
    def of(cls, pid: int) -> "RunProcess | None":
        """The process that has this pid now; None where none has, or it has ended and is not collected yet."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return cls(_boot(), pid, _began(process))
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            return None

    @classmethod
    def noted(cls, run: dg.DagsterRun) -> "RunProcess | None":
        """The process that noted itself on a run; None where none did. A tag that a re-execution took over is none."""
        whose, _, rest = run.tags.get(TAG, "").partition(" ")
        parts = rest.split(" ")
        if whose != run.run_id or len(parts) != 3 or not parts[1].isdigit():
            return None
        return cls(parts[0], int(parts[1]), parts[2])

    def is_alive(self) -> bool:
        """Whether this very process is there."""
        return RunProcess.of(self.pid) == self

    def is_of_this_boot(self) -> bool:
        """Whether the machine was not started anew since."""
        return self.boot == _boot()


def note_process(instance: dg.DagsterInstance, run_id: str) -> None:
    """Note on a run that this process runs it; once."""
    if run_id in _noted:
        return
    _noted.add(run_id)
    if tags := process_tags(run_id):
        instance.add_run_tags(run_id, tags)


def process_tags(run_id: str) -> dict[str, str]:
    """The tags that note this process on a run."""
    here = RunProcess.of(os.getpid())
    return {} if here is None else {TAG: f"{run_id} {here.boot} {here.pid} {here.began}"}


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        # Elsewhere than on Linux, where processes know when they began whatever becomes of the clock.
        return "unknown"


def _began(process: psutil.Process) -> str:
    """In ticks since the machine's start on Linux, else when its clock showed it."""
    try:
        # The name in brackets may hold anything, blanks and brackets too.
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return f"{process.create_time():.2f}"
