"""How far long work is, told to whoever watches it in this process; where nobody does, it costs a comparison."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Seconds between two tellings: an eye sees no more, and no training is slower for it.
EVERY_SECONDS = 0.2
# What is being done, how much of it is done, and of how much.
Hear = Callable[[str, float, float], None]

_watchers: list[Hear] = []
_told = 0.0


@contextmanager
def watched(hear: Hear) -> Iterator[None]:
    """Have `hear` called, now and then, while the block works."""
    _watchers.append(hear)
    try:
        yield
    finally:
        _watchers.remove(hear)


def due() -> bool:
    """Whether somebody watches who has not been told for a moment."""
    return bool(_watchers) and time.monotonic() - _told >= EVERY_SECONDS


def tell(doing: str, done: float, of: float) -> None:
    """Tell those who watch, if it is time to."""
    global _told
    if due():
        _told = time.monotonic()
        for hear in tuple(_watchers):
            hear(doing, done, of)
