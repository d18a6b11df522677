"""Memory for tables as long as a batch: where Arrow takes it from, and that it is given back."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa


@contextmanager
def from_the_system() -> Iterator[None]:
    """Let Arrow take what it needs from the system and give it back.

    Its own pool takes several times as much, and keeps it. All threads of the process are concerned.
    """
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def give_back() -> None:
    """Give the system what a stage has freed, before the next one takes more: by itself it stays in pieces."""
    pa.system_memory_pool().release_unused()
