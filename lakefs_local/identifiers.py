"""Ids for imports and hook runs: 20 letters and digits, of which a later one sorts before an earlier one."""

import secrets
import time

_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_TIME_BITS, _RANDOM_BITS = 65, 35


def new_id() -> str:
    """A new id, unique and sorted newest first."""
    number = ((1 << _TIME_BITS) - 1 - time.time_ns()) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return "".join(_DIGITS[number >> shift & 31] for shift in range(95, -1, -5))
