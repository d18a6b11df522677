"""Long-running processes that a command starts, watches, and never leaves behind: a guard ends them once the
command is gone, however it went, so nothing survives a kill -9.

The guard holds the end of a pipe whose other end the command alone has, and the locks that it was given: whoever
waits for them finds nothing of the command alive. What the command starts has a mark in its environment, which
whatever that starts inherits, in any group and session and with any parent.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from resources import home
from resources.error_family import Unavailable
from visionops import interruption

MARK = "_VISIONOPS_STARTED_BY"
# Of these, at most twenty are for the embedded lakeFS.
LEAVE_WITHIN_SECONDS = 4.0
_KILL_WITHIN_SECONDS = 4.0
_LOOK_EVERY_SECONDS = 0.05
# Of them all together, within the seconds that a command has to end.
STOP_WITHIN_SECONDS = 2.5
LOG_LIMIT = 20 << 20
LOG_TAIL_LINES = 15


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
        [sys.executable, "-m", "visionops.child_process", mark],
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
    _end_what_is_left(mark, groups)
    from resources.lakefs.connection import stop_embedded

    for folder in folders:
        # It leaves by itself after some minutes.
        with contextlib.suppress(RuntimeError, Unavailable, OSError, psutil.Error):
            stop_embedded(folder)


def _end_what_is_left(mark: str, groups: Sequence[int]) -> None:
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


@dataclass(frozen=True)
class Child:
    """A process in a group of its own, and where it writes what it says."""

    name: str
    log: Path
    process: "subprocess.Popen[bytes]"

    def check(self) -> None:
        """Raise `Unavailable`, with the end of its log, if the process has ended."""
        status = self.process.poll()
        if status is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            raise Unavailable(f"{self.name} stopped with status {status}; the end of {self.log}:\n{tail}")

    def interrupt(self) -> None:
        """Ask the whole group to stop."""
        self._signal(signal.SIGINT)

    def end(self, deadline: float) -> None:
        """Wait for the process, then kill whatever of its group did not stop with it. `deadline` is monotonic."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()
        self.process.wait()

    def kill(self) -> None:
        """End the whole group at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, sent: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, sent)


@dataclass
class Children:
    """The processes that were started, in order, and who ends them where this one is killed."""

    guard: Guard
    started: list[Child] = field(default_factory=list)

    def start(
        self, name: str, command_line: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        """Start a process that runs in the repository's folder with `environment` on top of this one's."""
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        # A signal between the start and the note of it would leave the process behind.
        with interruption.deferred(), open(log, "ab", opener=_private) as output:
            process = subprocess.Popen(
                command_line,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=home.ROOT,
                env={**os.environ, **environment, **self.guard.mark},
                start_new_session=True,
            )
            self.started.append(Child(name, log, process))
            self.guard.note_group(process.pid)

    def kill(self) -> None:
        """End all of them at once, with all that they started."""
        for child in self.started:
            child.kill()

    def check(self) -> None:
        """Raise `Unavailable`, with the end of its log, for the first process that has ended."""
        for child in self.started:
            child.check()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def children(guard: Guard | None = None) -> Iterator[Children]:
    """Processes that are all stopped at the end, together, whatever ends the block: by a second Ctrl-C at once.

    Where this process is killed, its guard ends them.
    """
    if guard is None:
        with guarded() as own, children(own) as found:
            yield found
        return
    found = Children(guard)
    with interruption.ending(found.kill):
        try:
            yield found
        finally:
            for child in found.started:
                child.interrupt()
            deadline = time.monotonic() + STOP_WITHIN_SECONDS
            for child in found.started:
                child.end(deadline)


if __name__ == "__main__":
    main(sys.argv[1])
