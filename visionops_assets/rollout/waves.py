"""Which devices try a candidate, and when: by their buckets, never nobody, and never all before the last wave.

A bucket is a number below a million that is drawn by lot from the rollout and the device's name (`edge.formats`), so
devices that nobody knows yet fall on a side, too.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visionops_assets.config.rollout_rules import check_waves

ALL_PPM = 1_000_000
# Where n devices did well, at most about 3/n fail: so much larger is the next wave at most.
MOST_TIMES = 10


def wave_sizes(devices: int, shares: Sequence[float]) -> list[int]:
    """How many devices of so many have the candidate after each wave: at least one, each wave more than the one before
    and at most `MOST_TIMES` as many, all but one at most before the last. Raises `BadWaves`."""
    check_waves(shares)
    if devices < 1:
        return []
    sizes: list[int] = []
    for share in shares[:-1]:
        wanted = min(int(np.ceil(share * devices)), devices - 1)
        sizes += _steps(sizes[-1] if sizes else 0, wanted)
    return sizes + _steps(sizes[-1] if sizes else 0, devices)


def _steps(before: int, wanted: int) -> list[int]:
    """From one size to another, in as many waves as it takes; none where it is no step."""
    found = []
    while wanted > before > 0 and wanted > MOST_TIMES * before:
        before *= MOST_TIMES
        found.append(before)
    return [*found, wanted] if wanted > before else found


def ppm_of(buckets: ArrayLike, size: int) -> int:
    """The bound of buckets below which lie the first `size` of these devices; of all, everybody's.

    Two devices may have one bucket: then more are below, yet not all of a group of several before its last wave.
    """
    found: NDArray[np.int64] = np.sort(np.asarray(buckets, np.int64))
    if size >= len(found):
        return ALL_PPM
    bound = int(found[size - 1]) + 1
    return int(found[-1]) if bound > found[-1] > found[0] else bound
