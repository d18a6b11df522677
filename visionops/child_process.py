"""Long-running processes that a command starts, watches, and never leaves behind."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from resources import home
from visionops import interruption
from visionops.process_guard import Guard, guarded

# Of them all together, within the seconds that a command has to end.
STOP_WITHIN_SECONDS = 2.5
LOG_LIMIT = 20 << 20
LOG_TAIL_LINES = 15


@dataclass(frozen=True)
class Child:
    """A process in a group of its own, and where it writes what it says."""

    name: str
    log: Path
    process: "subprocess.Popen[bytes]"

    def check(self) -> None:
        """Raise `RuntimeError`, with the end of its log, if the process has ended."""
        status = self.process.poll()
        if status is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            raise RuntimeError(f"{self.name} stopped with status {status}; the end of {self.log}:\n{tail}")

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
        """Raise `RuntimeError`, with the end of its log, for the first process that has ended."""
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
