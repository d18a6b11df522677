"""A process that has more open files than `select` can count."""

import contextlib
import os
import resource
from collections.abc import Iterator

SELECTABLE = 1024


@contextlib.contextmanager
def more_than_selectable() -> Iterator[None]:
    """Have each file that is opened inside the block get a descriptor above 1,023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4 * SELECTABLE, hard), hard))
    opened = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while opened[-1] < SELECTABLE:
            opened.append(os.dup(opened[0]))
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
