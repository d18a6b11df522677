"""Altered pickles are data or refused: nothing runs, nothing grows."""

import contextlib
import pickle
import pickletools
from collections.abc import Callable

import numpy as np
from mutation import all_hold, bounded_memory, many

from visionops_assets.dataset.importing.formats.arrays import PickleRefused, read_pickle

PLAIN = {
    "labels": [3, 0, 7, 1 << 40],
    b"names": ["a", b"b", "ü"],
    "data": np.arange(24, dtype=np.uint8).reshape(4, 6),
    "real": np.array([[0.5, -1.0]], np.float32),
    "none": None,
    7: (1, 2, 3, 4, True),
}
SEEDS = [pickle.dumps(PLAIN, protocol) for protocol in range(6)]
WORDS = [
    *(opcode.code.encode("latin1") for opcode in pickletools.opcodes),
    b"cnumpy\nndarray\n", b"cos\nsystem\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"h\x00", b"tR", b"tb",
]  # fmt: skip


def read_or_refused(data: bytes) -> None:
    with contextlib.suppress(PickleRefused):
        assert isinstance(read_pickle(data), dict)


def test_altered_pickles_are_read_or_refused(count: Callable[[int, int], int]):
    with bounded_memory(1 << 30):
        assert all_hold("pickle", many(3, count(400, 100_000), SEEDS, WORDS), read_or_refused)
