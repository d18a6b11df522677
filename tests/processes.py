"""Child processes that can be killed, and that start without importing anything anew.

A module of a command costs seconds to import. `context` forks each child from a server that has imported
`tests/preloaded.py` and opened nothing: no database, no thread, no file.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

context: ForkServerContext = multiprocessing.get_context("forkserver")
# The server finds modules by the environment alone.
os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
context.set_forkserver_preload(["tests.preloaded"])

WITHIN = 300


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, negative for a signal, and all it printed."""

    code: int
    said: str


@dataclass(frozen=True)
class Dying:
    """Lets a process kill itself when it calls a function for the given time, before anything is done.

    Only calls count of which an argument begins with `about`.
    """

    owner: type
    name: str
    number: int = 1
    about: str = ""

    def __call__(self) -> None:
        original, calls = getattr(self.owner, self.name), list[int]()

        def dying(*arguments: object, **options: object) -> object:
            if any(str(argument).startswith(self.about) for argument in arguments):
                calls.append(1)
            if len(calls) == self.number:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        setattr(self.owner, self.name, dying)


@dataclass(frozen=True)
class Running:
    """A command that runs in a child."""

    child: ForkServerProcess
    said_to: Path

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.said_to.read_text() if self.said_to.exists() else ""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.child.pid is not None
        os.kill(self.child.pid, number)

    def ended(self) -> Ended:
        """Wait for its end."""
        self.child.join(WITHIN)
        assert self.child.exitcode is not None, f"{self.child.name} ran for {WITHIN} s"
        return Ended(self.child.exitcode, self.said)


def start(
    target: Callable[..., None], *arguments: object, environment: Mapping[str, str], said: Path
) -> Running:
    """Call `target` in a child with this environment; what it prints goes to a file."""
    child = context.Process(
        target=_in_environment, args=(dict(environment), said, target, arguments), name=target.__name__
    )
    child.start()
    return Running(child, said)


def run(target: Callable[..., None], *arguments: object, environment: Mapping[str, str], said: Path) -> Ended:
    """The same, to its end."""
    return start(target, *arguments, environment=environment, said=said).ended()


def start_visionops(
    *arguments: str, environment: Mapping[str, str], said: Path, before: Callable[[], None] | None = None
) -> Running:
    """Start the command line in a child with this environment. `before` runs there first."""
    return start(_command, arguments, before, environment=environment, said=said)


def visionops(
    *arguments: str, environment: Mapping[str, str], said: Path, before: Callable[[], None] | None = None
) -> Ended:
    """The same, to its end."""
    return start_visionops(*arguments, environment=environment, said=said, before=before).ended()


def _in_environment(
    environment: dict[str, str], said: Path, target: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    target(*arguments)


def _command(arguments: tuple[str, ...], before: Callable[[], None] | None) -> None:
    from visionops.__main__ import main

    sys.argv = ["visionops", *arguments]
    if before is not None:
        before()
    main()
