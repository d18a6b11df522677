"""A process that ends what a command started once the command is gone, however it went: nothing survives a kill -9.

It holds the end of a pipe whose other end the command alone has, and the locks that it was given: whoever waits for
them finds nothing of the command alive. What the command starts has a mark in its environment, which whatever that
starts inherits, in any group and session and with any parent.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from resources import home

MARK = "_VISIONOPS_STARTED_BY"
# Of these, at most twenty are for the embedded lakeFS.
LEAVE_WITHIN_SECONDS = 4.0
_KILL_WITHIN_SECONDS = 4.0
_LOOK_EVERY_SECONDS = 0.05


@dataclass
class Guard:
    """The guard of this process; `mark` is what the environment of each child has to have."""

    process: "subprocess.Popen[str]"
    mark: dict[str, str] = field(default_factory=dict)

    def note_group(self, leader: int) -> None:
        """End this process group too, marked or not."""
        self._tell(group=leader)

    def note_lakefs(self, data: Path) -> None:
        """Stop the embedded lakeFS of a folder too, unless somebody else uses it."""
        self._tell(lakefs=str(data))

    def _tell(self, **what: object) -> None:
        assert self.process.stdin is not None
        # A guard that somebody ended does not end the command.
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(what) + "\n")
            self.process.stdin.flush()


@contextlib.contextmanager
def guarded(locks: Sequence[int] = ()) -> Iterator[Guard]:
    """Give the guard of this process, who inherits open files that hold locks; it leaves at the end of the block."""
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        [sys.executable, "-m", "visionops.process_guard", mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=tuple(locks),
        text=True,
        cwd=home.ROOT,
        start_new_session=True,
    ) as process:
        # `Popen` closes the pipe and waits.
        yield Guard(process, {MARK: mark})


def main(mark: str) -> None:
    """Wait for the end of the command, then end what it left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups, folders = list[int](), list[Path]()
    for line in sys.stdin:
        told = json.loads(line)
        if "group" in told:
            groups.append(told["group"])
        if "lakefs" in told:
            folders.append(Path(told["lakefs"]))
    _end(mark, groups)
    from resources.lakefs_connection import stop_embedded

    for folder in folders:
        # It leaves by itself after some minutes.
        with contextlib.suppress(RuntimeError, OSError, psutil.Error):
            stop_embedded(folder)


def _end(mark: str, groups: Sequence[int]) -> None:
    """Interrupt what is left, which lets runs say that they were; kill what does not leave."""
    for sent, within in ((signal.SIGINT, LEAVE_WITHIN_SECONDS), (signal.SIGKILL, _KILL_WITHIN_SECONDS)):
        deadline = time.monotonic() + within
        left = _left(mark, groups)
        _send(sent, left)
        while left and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_SECONDS)
            left = _left(mark, groups)
            if sent == signal.SIGKILL:
                # What was being started meanwhile.
                _send(sent, left)


def _left(mark: str, groups: Sequence[int]) -> list[psutil.Process]:
    """What still runs of the command, but for a lakeFS, which others may use."""
    return [process for process in psutil.process_iter() if _is_left(process, mark, groups)]


def _is_left(process: psutil.Process, mark: str, groups: Sequence[int]) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if os.getpgid(process.pid) in groups:
            return True
        return process.environ().get(MARK) == mark and "lakefs_local" not in process.cmdline()
    return False


def _send(number: signal.Signals, processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


if __name__ == "__main__":
    main(sys.argv[1])
