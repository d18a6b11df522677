"""Randomness as a pure function of (seed, epoch, sample): no state, so no order and no worker matters.

The numbers come from SplitMix64's finaliser (Steele, Lea, Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014) over a chain of counters. Integer arithmetic only: the same bits on every machine and
with every release of numpy, whose own generators promise no stable stream.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    return value ^ (value >> np.uint64(31))


def counter_hash(seed: int, *counters: int | NDArray[np.integer]) -> NDArray[np.uint64]:
    """Return 64 random bits for each combination of counters (arrays broadcast), at least one-dimensional."""
    state = _mix(np.atleast_1d(np.asarray(seed, dtype=np.uint64)) + _GOLDEN)
    for counter in counters:
        # Hashing between counters keeps (1, 2) and (2, 1) apart.
        state = _mix((state ^ np.asarray(counter).astype(np.uint64)) + _GOLDEN)
    return state


def uniform(seed: int, *counters: int | NDArray[np.integer]) -> NDArray[np.float64]:
    """Return numbers in [0, 1), one for each combination of counters."""
    return (counter_hash(seed, *counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """Return the order in which an epoch visits `length` samples."""
    return np.argsort(counter_hash(seed, epoch, np.arange(length)), kind="stable")


def derived_seed(seed: int, purpose: str, number: int = 0) -> int:
    """Return a seed in 0..2**32-1 for one purpose ("initialisation", "epoch" with its number)."""
    text = f"{seed}/{purpose}/{number}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big")
