"""Signals at random moments, from the first import to the last thread.

Half of them to the command as it is installed; half to one in a process that has imported all, so that they come while
it does something.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from homes import Home
from verbs import VERBS, Verb, marked

from resources.models.registry import ModelRegistry
from tests import processes
from visionops import interruption
from visionops.__main__ import _end_before_it_began
from visionops_assets.common import run_tags

pytestmark = pytest.mark.slow

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
# Python's own start hears SIGINT with a traceback, and dies of SIGTERM; nobody can tell it otherwise.
BY_PYTHON = {-signal.SIGINT, -signal.SIGTERM, 1}
# Of the time that a command takes to import all that it needs.
PYTHON_STARTS = 1 / 30


@dataclass(frozen=True)
class Leads:
    """Leads a session of its own, and tells by a file that it hears signals from now on."""

    begun: Path

    def __call__(self) -> None:
        os.setsid()
        for number in CODES:
            signal.signal(number, _end_before_it_began)
        self.begun.touch()


@dataclass(frozen=True)
class Waits:
    """Tells by a file that a lock is asked for."""

    marker: Path

    def __call__(self) -> None:
        from filelock import FileLock

        original = FileLock.acquire

        def acquire(lock: FileLock, *arguments: object, **options: object) -> object:
            self.marker.touch()
            return original(lock, *arguments, **options)  # type: ignore[arg-type]

        FileLock.acquire = acquire  # type: ignore[assignment, method-assign]


class Command:
    """A command in a session of its own, as at a terminal: the one that is installed, or one that imports nothing."""

    def __init__(self, verb: Verb, home: Home, *, installed: bool) -> None:
        self.home, self.said_to, self.installed = home, home.root / "said", installed
        if not installed:
            begun = home.root / "begun"
            begun.unlink(missing_ok=True)
            self.running = home.start(*verb.inputs(home), before=Leads(begun))
            self.pid = self.running.child.pid or 0
            while not begun.exists():
                assert self.running.child.is_alive(), self.said
                time.sleep(0.001)
            return
        with self.said_to.open("wb") as file:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "visionops", *verb.inputs(home)],
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                env=home.environment,
                start_new_session=True,
            )
        self.pid = self.child.pid

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.said_to.read_text()

    def ended(self, within: float) -> int | None:
        """Its exit code, None where it has not ended after so many seconds."""
        if not self.installed:
            self.running.child.join(within)
            return self.running.child.exitcode
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(within)
        return self.child.returncode

    def send(self, sent: signal.Signals) -> None:
        """As a terminal does, to all that was started; as a service does, to the command alone."""
        (os.killpg if sent == signal.SIGINT else os.kill)(self.pid, sent)


@contextlib.contextmanager
def command(verb: Verb, home: Home, *, installed: bool) -> Iterator[Command]:
    started = Command(verb, home, installed=installed)
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.ended(processes.WITHIN)


def to_the_end(verb: Verb, home: Home, *, installed: bool = False) -> float:
    """Run it to its end, or until it serves: how long that took."""
    began = time.monotonic()
    with command(verb, home, installed=installed) as started:
        while (code := started.ended(0.01)) is None and not (verb.serves and "answers at" in started.said):
            assert time.monotonic() - began < processes.WITHIN
        assert verb.serves or code in verb.again, started.said
    return time.monotonic() - began


@pytest.fixture(scope="module")
def importing(new_home: Callable[[], Home]) -> float:
    """Seconds that a command as it is installed takes, nearly all of them for what it imports."""
    return to_the_end(Verb("status shapes"), new_home(), installed=True)


def interrupted(
    verb: Verb, home: Home, moment: float, sent: signal.Signals, *, twice: bool, importing: float | None
) -> bool:
    """Send a signal after so many seconds, or two; False where the command had ended by then.

    `importing`, it is to be the command as it is installed, which takes so long for its imports.
    """
    with command(verb, home, installed=importing is not None) as started:
        code = started.ended(moment)
        if code is not None:
            assert code in verb.again, started.said
            return False
        started.send(sent)
        if twice and started.ended(2 * interruption.SAME_SECONDS) is None:
            started.send(sent)
        code, told = started.ended(processes.WITHIN), started.said
        if importing is not None and moment < importing * PYTHON_STARTS and code in BY_PYTHON:
            return True
        assert "Traceback" not in told and "error:" not in told and "Exception ignored" not in told, told
        # It had all done, and was only clearing up.
        if code in verb.again and f"({sent.name})" not in told:
            return True
        assert code == CODES[sent], (code, told)
        assert [line for line in told.splitlines() if f"interrupted ({sent.name})" in line] == [
            told.splitlines()[-1]
        ], told
        assert told.rstrip().endswith("goes on"), told
    return True


def holds(home: Home, project: str | None) -> None:
    """Nothing is half published, no run is under way, and none of those that were interrupted counted."""
    import dagster as dg

    if project is not None:
        home.champion(project)
    with dg.DagsterInstance.from_config(str(home.folder / "dagster")) as instance:
        for run in instance.get_runs():
            assert run.is_finished, run.status
            assert run.status != dg.DagsterRunStatus.FAILURE or run_tags.OUTCOME in run.tags
            assert run.tags.get(run_tags.ATTEMPT, "1") == "1"


@pytest.mark.parametrize("verb", marked("import"))
def test_a_command_may_be_ended_at_any_moment_and_goes_on(
    verb: Verb, home_of: Callable[[Verb], Home], importing: float, count: Callable[[int, int], int]
) -> None:
    generator = random.Random(f"signals to {verb.line}")
    took = to_the_end(verb, home_of(verb))
    home, ended = home_of(verb), 0
    for number in range(count(2, 6)):
        # Every other time as it is installed, with its imports.
        installed = number % 2 == 0
        # A half of them where little time is spent, and most is begun.
        moment = (took + installed * importing) * generator.random() ** generator.choice((1, 2))
        sent, twice = generator.choice((signal.SIGINT, signal.SIGTERM)), generator.random() < 0.25
        if not interrupted(verb, home, moment, sent, twice=twice, importing=importing if installed else None):
            ended += 1
            if ended == 3:
                break
    to_the_end(verb, home)
    promoted = verb.grown or verb.name == "tick"
    holds(verb.left(home), verb.project if promoted else None)


def test_ctrl_c_at_a_terminal_reaches_all_that_a_run_started_and_one_line_is_said(
    home_of: Callable[[Verb], Home],
) -> None:
    verb = VERBS[0]
    home = home_of(verb)
    with command(verb, home, installed=True) as started:
        while "training" not in started.said:
            assert started.ended(0.01) is None, started.said
        started.send(signal.SIGINT)
        assert started.ended(processes.WITHIN) == 130
    lines = started.said.splitlines()
    assert "Traceback" not in started.said and "interrupted (SIGINT)" in lines[-1], lines


@pytest.mark.stated
@pytest.mark.parametrize("verb", [Verb("rollback shapes --why tried", grown=True)])
def test_a_command_that_waits_for_another_ends_and_has_done_nothing(
    verb: Verb, home_of: Callable[[Verb], Home], tmp_path: Path
) -> None:
    home = home_of(verb)
    before, waits = home.champion(), tmp_path / "waits"
    registry = ModelRegistry(tracking_uri=f"sqlite:///{home.root / 'home' / 'mlflow' / 'mlflow.db'}")
    with registry.lock("shapes"):
        running = home.start(*verb.inputs(home), before=Waits(waits))
        while not waits.exists():
            assert running.child.is_alive(), running.said
            time.sleep(0.01)
        running.send(signal.SIGINT)
        ended = running.ended()
    assert ended.code == 130 and ended.said.splitlines()[-1].endswith("goes on"), ended.said
    assert home.champion() == before
