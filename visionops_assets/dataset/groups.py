"""Groups as numbers: samples are of one group where their numbers are equal."""

import hashlib
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from visionops_assets.common.findings import Finding, findings_table
from visionops_assets.dataset.importing.compact_columns import decoded
from visionops_assets.dataset.importing.plain_text import key_of

_AT_ONCE = 4096
_HEX = re.compile("[0-9a-f]{64}")


def group_keys(sha256: NDArray[np.uint8], groups: pa.Array | pa.ChunkedArray | None) -> NDArray[np.uint8]:
    """32 bytes for each sample's group, uint8 (N, 32), equal where the groups are: an image without a group is its
    own, named by its SHA-256 (N, 32)."""
    if groups is None:
        return sha256
    keys = sha256.copy()
    for start in range(0, len(groups), _AT_ONCE):
        for place, group in enumerate(groups[start : start + _AT_ONCE].to_pylist(), start):
            if group is not None:
                keys[place] = np.frombuffer(_key(group), np.uint8)
    return keys


def _key(group: str) -> bytes:
    # A near duplicate's group is the SHA-256 of its original, in hex digits; any other text cannot be one.
    if _HEX.fullmatch(group):
        return bytes.fromhex(group)
    return hashlib.sha256(b"group\0" + group.encode()).digest()


def check_group_names(groups: pa.Array | None, others: pa.Table) -> pd.DataFrame:
    """No group of a batch is on `main` under a name that says the same (`0` and `0.0`): images of one part would be on
    two sides (else WARN)."""
    if groups is None or not len(others):
        return findings_table([])
    mine = {decoded(name) for name in pc.unique(groups.drop_null()).to_pylist()}
    theirs = set(pc.unique(others["group"].combine_chunks().drop_null()).to_pylist())
    by_value: dict[str, str] = {}
    for name in sorted(theirs):
        if not _HEX.fullmatch(name):
            by_value.setdefault(key_of(name) or name, name)
    return findings_table(
        Finding(
            "groups whole",
            f"group {name}",
            f"is called {by_value[value]!r} on main",
            "if they are one part, its images are on two sides; call it as main does",
            "WARN",
        )
        for name in sorted(mine - theirs)
        if (value := key_of(name) or name) in by_value
    )
