"""Real signals to real processes: a command ends, says what it kept and what goes on, and the next call goes on."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from homes import Home

from resources.home import ROOT
from resources.lakefs.connection import LakeFSConnection
from resources.models.model_versions import Models
from tests import processes
from tests.operations_table import require_told
from tests.world import write_batch
from visionops import interruption
from visionops_assets.common import run_tags
from visionops_assets.training.training_task import EpochReporter

pytestmark = pytest.mark.slow

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@dataclass(frozen=True)
class Reached:
    """Tells by a file that a method was called for the given time, and then goes on, or stays there for ever.

    `deaf`, no exception ends it, as in a library's bare `except`.
    """

    owner: type
    name: str
    marker: Path
    number: int = 1
    stays: bool = True
    deaf: bool = False
    grace: float = interruption.GRACE_SECONDS

    def __call__(self) -> None:
        interruption.GRACE_SECONDS = self.grace
        original, calls = getattr(self.owner, self.name), list[int]()

        def reached(*arguments: object, **options: object) -> object:
            calls.append(1)
            if len(calls) == self.number:
                self.marker.touch()
                while self.stays:
                    self._stay()
            return original(*arguments, **options)

        setattr(self.owner, self.name, reached)

    def _stay(self) -> None:
        try:
            time.sleep(processes.WITHIN)
        except BaseException:
            if not self.deaf:
                raise


def until(condition: Callable[[], bool], running: processes.Running) -> None:
    """Wait until something is so; the process must not end before."""
    while not condition():
        assert running.child.is_alive(), running.said
        time.sleep(0.005)


def last_line(ended: processes.Ended, sent: signal.Signals) -> str:
    """The one line of an interrupted command."""
    assert ended.code == CODES[sent], ended.said
    lines = ended.said.splitlines()
    assert "Traceback" not in ended.said and "error:" not in ended.said, ended.said
    assert [line for line in lines if f"interrupted ({sent.name})" in line] == lines[-1:], ended.said
    if sent == signal.SIGINT:
        require_told("Ctrl-C, SIGTERM or a closed terminal", lines[-1])
    return lines[-1]


def newest_run(home: Home) -> dg.DagsterRun:
    with dg.DagsterInstance.from_config(str(home.root / "home" / "dagster")) as instance:
        return instance.get_runs(limit=1)[0]


def test_a_training_ends_at_the_next_batch_and_the_next_tick_goes_on(
    new_home: Callable[[], Home], undisturbed: tuple[str, int]
) -> None:
    home = new_home()
    marker = home.root / "reached"
    running = home.start("tick", before=Reached(EpochReporter, "on_train_batch_end", marker, 20))
    until(marker.exists, running)
    running.send(signal.SIGINT)
    assert "`visionops tick` goes on" in last_line(running.ended(), signal.SIGINT)
    run = newest_run(home)
    assert run.status == dg.DagsterRunStatus.CANCELED
    assert run.tags[run_tags.OUTCOME] == run_tags.INTERRUPTED
    again = home.visionops("tick")
    assert again.code == 0 and "promoted" in again.said, again.said
    assert newest_run(home).tags[run_tags.ATTEMPT] == "1"
    assert home.champion() == undisturbed


def test_an_upload_whose_threads_hang_is_ended_and_importing_again_publishes(
    new_home: Callable[[], Home], tmp_path: Path
) -> None:
    home, source = new_home(), write_batch(tmp_path / "week", 30, 2)
    command = ("import", "shapes", str(source), "--batch", "week-02")
    running = home.start(*command, before=Reached(LakeFSConnection, "send", tmp_path / "reached", 2))
    until((tmp_path / "reached").exists, running)
    running.send(signal.SIGTERM)
    line = last_line(running.ended(), signal.SIGTERM)
    assert f"week-02 is published whole or not at all; `visionops {' '.join(command)}` goes on" in line
    again = home.visionops(*command)
    assert again.code == 0 and "30 images published" in again.said


@pytest.mark.stated
def test_a_second_ctrl_c_ends_at_once_what_the_first_cannot_and_no_attempt_is_counted(
    new_home: Callable[[], Home], undisturbed: tuple[str, int]
) -> None:
    home = new_home()
    marker = home.root / "reached"
    deaf = Reached(Models, "create_version", marker, deaf=True, grace=processes.WITHIN)
    running = home.start("tick", before=deaf)
    until(marker.exists, running)
    while running.child.is_alive():
        running.send(signal.SIGINT)
        running.child.join(0.05)
    last_line(running.ended(), signal.SIGINT)
    assert newest_run(home).status == dg.DagsterRunStatus.CANCELED
    again = home.visionops("tick")
    assert again.code == 0 and "promoted" in again.said, again.said
    assert newest_run(home).tags[run_tags.ATTEMPT] == "1"
    assert home.champion() == undisturbed


SELF = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
MOMENTS = {
    "the first import": f"""
import sys
class Finder:
    def find_spec(self, name, *rest):
        if name == "visionops.interruption":
            {SELF}
sys.meta_path.insert(0, Finder())
""",
    "a callback of the garbage collector": f"""
from visionops import bootstrap
class Object:
    def __del__(self):
        {SELF}
def prepare():
    made = Object()
    del made
    while True:
        pass
bootstrap.prepare = prepare
""",
    "the end of a library": f"""
import atexit
from visionops import bootstrap
def end():
    {SELF}
bootstrap.prepare = lambda: atexit.register(end)
""",
}


@pytest.mark.parametrize(("moment", "code"), zip(MOMENTS, (143, 143, 0), strict=True))
def test_where_nothing_can_be_raised_a_signal_ends_the_command_without_a_traceback(
    moment: str, code: int
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", f"{MOMENTS[moment]}\nfrom visionops.__main__ import main\nmain()", "--help"],
        capture_output=True,
        text=True,
        timeout=processes.WITHIN,
    )
    assert ran.returncode == code and "Traceback" not in ran.stderr, ran.stderr
    if code:
        assert "interrupted (SIGTERM)" in ran.stderr and ran.stderr.endswith("goes on\n"), ran.stderr
    else:
        assert "Commands" in ran.stdout and not ran.stderr, "it was over, and had said all"


def test_a_signal_while_a_connection_is_closed_writes_no_traceback() -> None:
    """SQLAlchemy logs what is raised there, and goes on to raise it."""
    code = (
        "import sqlalchemy, logging\n"
        "from visionops import interruption\n"
        "engine = sqlalchemy.create_engine('sqlite://', poolclass=sqlalchemy.NullPool)\n"
        "connection = engine.connect()\n"
        "def close(_):\n"
        "    try: interruption._raise(15, None)\n"
        "    finally: interruption._state.raised = False\n"
        "engine.dialect.do_close = close\n"
        "try: connection.close()\n"
        "except interruption.Interrupted: print('interrupted')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert (done.stdout, done.stderr) == ("interrupted\n", "")
