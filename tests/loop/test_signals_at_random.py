"""Signals at random moments, from the first import to the last thread, to the command as it is installed."""

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

from resources.model_registry import ModelRegistry
from tests import processes
from visionops import interruption
from visionops_assets import run_tags

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
# Python's own start hears SIGINT with a traceback, and dies of SIGTERM; nobody can tell it otherwise.
BY_PYTHON = {-signal.SIGINT, -signal.SIGTERM, 1}


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


@contextlib.contextmanager
def command(verb: Verb, home: Home) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    said = home.root / "said"
    with said.open("wb") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "visionops", *verb.inputs(home)],
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            env=home.environment,
            start_new_session=True,
        )
    try:
        yield child, said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def to_the_end(verb: Verb, home: Home) -> float:
    """Run it to its end, or until it serves: how long that took."""
    began = time.monotonic()
    with command(verb, home) as (child, said):
        while child.poll() is None and not (verb.serves and "answers at" in said.read_text()):
            assert time.monotonic() - began < processes.WITHIN
            time.sleep(0.01)
        assert verb.serves or child.returncode in verb.again, said.read_text()
    return time.monotonic() - began


def send(leader: int, sent: signal.Signals) -> None:
    """As a terminal does, to all that was started; as a service does, to the command alone."""
    (os.killpg if sent == signal.SIGINT else os.kill)(leader, sent)


def interrupted(verb: Verb, home: Home, moment: float, sent: signal.Signals, twice: bool) -> bool:
    """Send a signal after so many seconds, or two; False where the command had ended by then."""
    with command(verb, home) as (child, said):
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(moment)
            assert child.returncode in verb.again, said.read_text()
            return False
        send(child.pid, sent)
        if twice:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(2 * interruption.SAME_SECONDS)
            if child.poll() is None:
                send(child.pid, sent)
        code, told = child.wait(processes.WITHIN), said.read_text()
        if moment < 0.1 and code in BY_PYTHON:
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


@pytest.mark.parametrize("verb", marked("tick", "import"))
def test_a_command_may_be_ended_at_any_moment_and_goes_on(
    verb: Verb, home_of: Callable[[Verb], Home], count: Callable[[int, int], int]
) -> None:
    generator = random.Random(f"signals to {verb.line}")
    took = to_the_end(verb, home_of(verb))
    home, ended = home_of(verb), 0
    for _ in range(count(1, 8)):
        # A half of them where little time is spent, and most is begun.
        moment = took * generator.random() ** generator.choice((1, 2))
        sent = generator.choice((signal.SIGINT, signal.SIGTERM))
        if not interrupted(verb, home, moment, sent, twice=generator.random() < 0.25):
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
    with command(verb, home) as (child, said):
        while "training" not in said.read_text():
            assert child.poll() is None, said.read_text()
            time.sleep(0.01)
        send(child.pid, signal.SIGINT)
        assert child.wait(processes.WITHIN) == 130
    lines = said.read_text().splitlines()
    assert "Traceback" not in said.read_text() and "interrupted (SIGINT)" in lines[-1], lines


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
