"""Long-running processes that a command starts, watches, and never leaves behind."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from resources import home

STOP_WITHIN_SECONDS = 20
LOG_LIMIT = 20 << 20
LOG_TAIL_LINES = 15
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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

    def end(self) -> None:
        """Wait for the process, then kill whatever of its group did not stop with it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_WITHIN_SECONDS)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, sent: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, sent)


@dataclass
class Children:
    """The processes that were started, in order."""

    started: list[Child] = field(default_factory=list)

    def start(
        self, name: str, command_line: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        """Start a process that runs in the repository's folder with `environment` on top of this one's."""
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        # A signal between the start and the note of it would leave the process behind.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    command_line,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    cwd=home.ROOT,
                    env={**os.environ, **environment},
                    start_new_session=True,
                    preexec_fn=_hear_signals,
                )
            self.started.append(Child(name, log, process))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def check(self) -> None:
        """Raise `RuntimeError`, with the end of its log, for the first process that has ended."""
        for child in self.started:
            child.check()


@contextlib.contextmanager
def children() -> Iterator[Children]:
    """Processes that are all stopped at the end, together, whatever ends the block.

    From then on the signals that ended it are ignored: a second Ctrl-C must not leave half of them behind.
    """
    found = Children()
    try:
        yield found
    finally:
        for ignored in ENDING:
            signal.signal(ignored, signal.SIG_IGN)
        for child in found.started:
            child.interrupt()
        for child in found.started:
            child.end()


def interrupt_on_termination() -> None:
    """Make SIGTERM and a closed terminal do what Ctrl-C does, also where a shell made this process ignore it."""
    for sent in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sent, signal.default_int_handler)
    # Under nohup it is ignored, and meant to be.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def _hear_signals() -> None:
    """Started from a shell's background job, SIGINT would be ignored, and by every grandchild too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
