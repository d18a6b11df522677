"""What a process does outside of itself, counted: files, requests, commits. It can be ended before each of them."""

import itertools
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
# Their order and number are the operating system's.
_OTHERS = ("-wal", "-shm", "-journal", ".lock", ".pyc")


@dataclass(frozen=True)
class Effect:
    """One change: its number from 1, what kind it is of, and what it is about."""

    number: int
    kind: str
    about: str


@dataclass(frozen=True)
class Ended:
    """Let a process send itself a signal before its effect of this number, counted on files below `root`, on all that
    it sends over HTTP, and on each commit of a database. With none it is only counted. `trace` tells them.

    A file that it opens to write is there, and empty, when SIGKILL comes: the worst that a kill leaves of it.
    """

    root: Path
    trace: Path
    number: int = 0
    sent: signal.Signals = signal.SIGKILL

    def __call__(self) -> None:
        from sqlalchemy import Engine, event

        counted, process = itertools.count(1), os.getpid()
        trace = os.open(self.trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.set_inheritable(trace, False)
        here = f"{self.root}{os.sep}"

        def happens(kind: str, about: str, flags: int = 0) -> None:
            if os.getpid() != process:
                return
            number = next(counted)
            os.write(trace, f"{number}\t{kind}\t{about!r}\n".encode(errors="replace"))
            if number != self.number:
                return
            if self.sent == signal.SIGKILL and flags & os.O_CREAT:
                _emptied(about, flags)
            os.kill(process, self.sent)

        def heard(name: str, arguments: Sequence[object]) -> None:
            if name == "http.client.send":
                happens("request", "")
            elif name == "open":
                path, _, flags = arguments
                if isinstance(flags, int) and flags & _WRITES and _below(path, here):
                    happens("open", os.fsdecode(path), flags)  # type: ignore[arg-type]
            elif name in _CHANGES and any(_below(each, here) for each in arguments):
                happens(name.removeprefix("os."), str(arguments[0]))

        sys.addaudithook(heard)
        event.listen(
            Engine, "commit", lambda connection: happens("commit", str(connection.engine.url.database))
        )


def effects(trace: Path) -> list[Effect]:
    """What was counted."""
    found = [line.split("\t") for line in trace.read_text().splitlines()]
    return [Effect(int(number), kind, about) for number, kind, about in found]


def _below(path: object, here: str) -> bool:
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    name = str(Path(os.fsdecode(path)).absolute())
    return name.startswith(here) and not name.endswith(_OTHERS)


def _emptied(path: str, flags: int) -> None:
    """Create the file as the process would have."""
    os.close(os.open(path, flags & ~os.O_EXCL, 0o600))
