"""What long work is at: one line in a terminal that is drawn anew, elsewhere a line now and then."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from resources.escaping import LONGEST_NAME, one_line, visible

EVERY_SECONDS = 30.0
# So many columns also show a bar and for how long the phase has been going on.
_WIDE_COLUMNS = 100


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
class Line:
    """`show` is to be called with what is being done, `say` with what is to stay, above it."""

    show: Callable[[Doing], None] = lambda doing: None
    say: Callable[[str], None] = lambda text: None


@contextmanager
def shown_line(about: str, *, wanted: bool = True, short_is_silent: bool = False) -> Iterator[Line]:
    """Show on standard error what is being done; not `wanted`, nothing at all.

    Outside a terminal each phase is told and then a line now and then, or with `short_is_silent` only these.
    """
    if not wanted:
        yield Line()
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
def _drawn(stream: TextIO, about: str) -> Iterator[Line]:
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

        yield Line(
            show, lambda text: console.print(visible(text), markup=False, highlight=False, soft_wrap=True)
        )


@contextmanager
def _now_and_then(stream: TextIO, about: str, short_is_silent: bool) -> Iterator[Line]:
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

    yield Line(show, lambda text: print(visible(text), file=stream, flush=True))


def _left(first: Doing, doing: Doing, seconds: float) -> str:
    """Share done and, of what was done in these seconds, time left; nothing where that cannot be told."""
    if not first.done < doing.done <= doing.of:
        return ""
    left = round(seconds * (doing.of - doing.done) / (doing.done - first.done))
    return f" ({doing.done / doing.of:.0%}, {left // 60}:{left % 60:02} left)"
