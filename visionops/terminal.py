"""What commands print: safe for a terminal, where names and messages of others move no cursor and set no colour;
and what long work and runs in this process are at, as one line that is drawn anew, elsewhere as a line now and
then.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TextIO

from resources.escaping import LONGEST_NAME, one_line, visible, without_secrets
from visionops_assets.common.progress import watched

if TYPE_CHECKING:
    import dagster as dg

EVERY_SECONDS = 30.0
# So many columns also show a bar and for how long the phase has been going on.
_WIDE_COLUMNS = 100
PHASES = {
    "incoming_batch": "importing the batch",
    "manifest": "reading the dataset version",
    "challenger": "training",
    "evaluation": "evaluating",
    "champion": "carrying out the verdict",
    "make_again": "making the version again",
}
# As a training says each epoch: in Dagster's log, and in the process that makes a version again.
_EPOCH = re.compile(r"epoch (\d+) of (\d+): (loss [\d.naif]+)(.*)")
_wanted: ContextVar[bool] = ContextVar("progress_wanted", default=False)
HearProgress = Callable[["dg.EventLogEntry"], None]


class EscapingStream:
    """A stream of text on which control characters, and what no encoding can hold, are shown and not sent, and secrets
    neither."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def rich_proxied_file(self) -> TextIO:
        """Where Rich writes what it draws, by its own name for it."""
        return self._stream

    def write(self, text: str) -> int:
        """Write a text; its lines stay lines."""
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(
            visible(without_secrets(text)).encode(encoding, "backslashreplace").decode(encoding)
        )
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write texts."""
        for text in lines:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        # Who found the bytes below could write past this.
        if name in ("buffer", "raw", "detach"):
            raise AttributeError(name)
        return getattr(self._stream, name)


def escape_output() -> None:
    """Have everything escaped that this process prints from now on."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, EscapingStream):
            setattr(sys, name, EscapingStream(stream))


def say_version() -> None:
    """Print which VisionOps this is."""
    print(f"visionops {version('visionops')}")


@dataclass(frozen=True)
class Doing:
    """A phase of some work, what is to be said of it, and how much is done of how much: 0 where nobody knows."""

    phase: str
    said: str = ""
    done: float = 0.0
    of: float = 0.0

    def sentence(self) -> str:
        """In words."""
        return one_line(f"{self.phase}, {self.said}" if self.said else self.phase, LONGEST_NAME)


@dataclass(frozen=True)
class ProgressLine:
    """`show` is to be called with what is being done, `say` with what is to stay, above it."""

    show: Callable[[Doing], None] = lambda doing: None
    say: Callable[[str], None] = lambda text: None


@contextmanager
def shown_line(about: str, *, wanted: bool = True, short_is_silent: bool = False) -> Iterator[ProgressLine]:
    """Show on standard error what is being done; not `wanted`, nothing at all.

    Outside a terminal each phase is told and then a line now and then, or with `short_is_silent` only these.
    """
    if not wanted:
        yield ProgressLine()
        return
    # Dagster gives a step's standard error to its compute log; a person looks at the one of before.
    with os.fdopen(os.dup(2), "w") as stream:
        shown = _drawn(stream, about) if stream.isatty() else _now_and_then(stream, about, short_is_silent)
        with shown as line:
            yield line


@contextmanager
def progress_line(about: str, wanted: bool = True) -> Iterator[Callable[[str, int, int], None]]:
    """A callable that hears (stage, done, of), of work that is often short."""
    with shown_line(about, wanted=wanted, short_is_silent=True) as line:
        yield lambda stage, done, of: line.show(Doing(stage, f"{done:,} of {of:,}", done, of))


@contextmanager
def _drawn(stream: TextIO, about: str) -> Iterator[ProgressLine]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    console = Console(file=stream)
    # In a narrow terminal the words give way, not the numbers.
    column = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    words = TextColumn("{task.description}", table_column=column, markup=False)
    columns: list[ProgressColumn] = [words, TaskProgressColumn(), TimeRemainingColumn()]
    if console.width >= _WIDE_COLUMNS:
        columns[1:1] = [BarColumn(bar_width=10)]
        columns[3:3] = [TimeElapsedColumn()]
    with Progress(*columns, console=console, transient=True, expand=True) as bars:
        # A second Ctrl-C ends the process at once, and would leave it hidden.
        bars.console.show_cursor(True)
        task, phase = bars.add_task(about, total=None), ""

        def show(doing: Doing) -> None:
            nonlocal task, phase
            if doing.phase != phase:
                phase = doing.phase
                bars.remove_task(task)
                task = bars.add_task(about, total=None)
            bars.update(
                task, description=f"{about}: {doing.sentence()}", total=doing.of or None, completed=doing.done
            )

        yield ProgressLine(
            show, lambda text: console.print(visible(text), markup=False, highlight=False, soft_wrap=True)
        )


@contextmanager
def _now_and_then(stream: TextIO, about: str, short_is_silent: bool) -> Iterator[ProgressLine]:
    last, began, first = time.monotonic(), 0.0, Doing("")

    def show(doing: Doing) -> None:
        nonlocal last, began, first
        now = time.monotonic()
        changed = doing.phase != first.phase
        if changed or doing.of != first.of:
            began, first = now, doing
        if (changed and not short_is_silent) or now - last >= EVERY_SECONDS:
            last = now
            print(f"{about}: {doing.sentence()}{_left(first, doing, now - began)}", file=stream, flush=True)

    yield ProgressLine(show, lambda text: print(visible(text), file=stream, flush=True))


def _left(first: Doing, doing: Doing, seconds: float) -> str:
    """Share done and, of what was done in these seconds, time left; nothing where that cannot be told."""
    if not first.done < doing.done <= doing.of:
        return ""
    left = round(seconds * (doing.of - doing.done) / (doing.done - first.done))
    return f" ({doing.done / doing.of:.0%}, {left // 60}:{left % 60:02} left)"


class Follower:
    """Puts together what is told of one phase after the other."""

    def __init__(self, show: Callable[[Doing], None], phase: str = "") -> None:
        self._show, self._phase, self._validated = show, phase, ""

    def enter(self, phase: str) -> None:
        """Another phase begins."""
        self._phase, self._validated = phase, ""
        self._show(Doing(phase))

    def hear(self, doing: str, done: float, of: float) -> None:
        """Something of the phase is so far done; the last epoch's validation still holds."""
        self._show(Doing(self._phase, f"{doing}{self._validated if 'epoch' in doing else ''}", done, of))

    def read(self, text: str) -> bool:
        """Take what a line says of an epoch that ended; False where it says nothing of one."""
        found = _EPOCH.search(text)
        if found is None:
            return False
        epoch, epochs, loss, self._validated = int(found[1]), int(found[2]), found[3], found[4]
        self.hear(f"epoch {epoch} of {epochs}, {loss}", epoch, epochs)
        return True


@contextmanager
def shown_progress(wanted: bool = True) -> Iterator[None]:
    """Show what runs of the block do, on standard error."""
    before = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(before)


@contextmanager
def progress_of(about: str) -> Iterator[HearProgress]:
    """What is to hear the events of one run, where somebody wants to see them."""
    if not _wanted.get():
        yield lambda entry: None
        return
    with shown_line(about) as line:
        follower = Follower(line.show)

        def hear(entry: "dg.EventLogEntry") -> None:
            event = entry.dagster_event
            if event is not None and event.event_type_value == "STEP_START" and event.step_key is not None:
                asset = event.step_key.partition("__")[2] or event.step_key
                # A check is a moment between two phases.
                if asset in PHASES:
                    follower.enter(PHASES[asset])
            else:
                follower.read(entry.user_message or "")

        with watched(follower.hear):
            yield hear
