"""What a run in this process is doing: one line in a terminal that is drawn anew, elsewhere a line now and then.

It hears the run's events and what its steps log; nothing is asked of a training.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import dagster as dg

EVERY_SECONDS = 30.0
PHASES = {
    "incoming_batch": "importing the batch",
    "manifest": "reading the dataset version",
    "challenger": "training",
    "evaluation": "judging",
    "champion": "promoting",
    "make_again": "making the version again",
}
# As `visionops_assets.training.challenge` says each epoch.
_EPOCH = re.compile(r"epoch (\d+) of (\d+): (loss .+)")
_wanted: ContextVar[bool] = ContextVar("progress_wanted", default=False)
Hear = Callable[["dg.EventLogEntry"], None]


@dataclass(frozen=True)
class Doing:
    """A phase of a run, and of a training how far it is and what the last epoch achieved."""

    phase: str
    epoch: int = 0
    epochs: int = 0
    achieved: str = ""

    def sentence(self) -> str:
        """In words."""
        if not self.epochs:
            return self.phase
        return f"{self.phase}, epoch {self.epoch} of {self.epochs}, {self.achieved}"


def doing(entry: "dg.EventLogEntry") -> Doing | None:
    """What an event or a logged line says of where its run is; None for the others."""
    event = entry.dagster_event
    if event is not None and event.event_type_value == "STEP_START" and event.step_key is not None:
        asset = event.step_key.partition("__")[2] or event.step_key
        # A check is a moment between two phases.
        return Doing(PHASES[asset]) if asset in PHASES else None
    found = _EPOCH.search(entry.user_message or "")
    return Doing(PHASES["challenger"], int(found[1]), int(found[2]), found[3]) if found else None


@contextmanager
def shown_progress(wanted: bool = True) -> Iterator[None]:
    """Show what runs of the block do, on standard error."""
    before = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(before)


@contextmanager
def progress_of(about: str) -> Iterator[Hear]:
    """What is to hear the events of one run, where somebody wants to see them."""
    if not _wanted.get():
        yield lambda entry: None
        return
    # Dagster gives a step's standard error to its compute log; a person looks at the one of before.
    with (
        os.fdopen(os.dup(2), "w") as stream,
        (_drawn if stream.isatty() else _now_and_then)(stream, about) as show,
    ):

        def hear(entry: "dg.EventLogEntry") -> None:
            found = doing(entry)
            if found is not None:
                show(found)

        yield hear


@contextmanager
def _drawn(stream: TextIO, about: str) -> Iterator[Callable[[Doing], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    # In a narrow terminal the words give way, not the numbers.
    words = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
    columns = (
        words,
        BarColumn(bar_width=10),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=stream), transient=True, expand=True) as bars:
        # A second Ctrl-C ends the process at once, and would leave it hidden.
        bars.console.show_cursor(True)
        task, phase = bars.add_task(about, total=None), ""

        def show(found: Doing) -> None:
            nonlocal task, phase
            if found.phase != phase:
                phase = found.phase
                bars.remove_task(task)
                task = bars.add_task(about, total=None)
            said = f"{about}: {found.sentence()}"
            bars.update(task, description=said, total=found.epochs or None, completed=found.epoch)

        yield show


@contextmanager
def _now_and_then(stream: TextIO, about: str) -> Iterator[Callable[[Doing], None]]:
    phase, last = "", 0.0

    def show(found: Doing) -> None:
        nonlocal phase, last
        now = time.monotonic()
        if found.phase != phase or now - last >= EVERY_SECONDS:
            phase, last = found.phase, now
            print(f"{about}: {found.sentence()}", file=stream, flush=True)

    yield show
