"""Progress on long work, for a terminal; silent where nobody looks."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bars(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """A callable that hears (stage, done, of) and draws one bar a stage on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    ) as bars:
        stages: dict[str, object] = {}

        def hear(stage: str, done: int, of: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(f"{title}: {stage}", total=of)
            bars.update(stages[stage], completed=done, total=of)  # type: ignore[arg-type]

        yield hear
