"""How long work takes."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Seconds(NamedTuple):
    """Medians. Of single-threaded work on a busy machine `cpu` counts."""

    wall: float
    cpu: float


def seconds(work: Callable[[], object], repeats: int = 1) -> Seconds:
    """Do the work and time it."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Seconds(statistics.median(walls), statistics.median(cpus))
