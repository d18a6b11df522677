"""Pickles of strangers are read as data: numbers, text and arrays come out as they went in, nothing else does."""

import contextlib
import pickle
import pickletools
import random
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from visionops_assets.dataset.importing.formats.arrays import PickleRefused, read_pickle

PLAIN = {
    "labels": [3, 0, -7, 1 << 40],
    b"names": ["a", b"b", "ü"],
    "data": np.arange(24, dtype=np.uint8).reshape(4, 6),
    "real": np.array([[0.5, -1.0]], np.float32),
    "turned": np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
    "one": np.int64(5),
    "nothing": None,
    "is": True,
    7: (1, 2, 3, 4),
}


@pytest.mark.parametrize("protocol", range(6))
def test_what_a_data_set_holds_comes_out_as_it_went_in(protocol: int):
    # Python 3 has the oldest protocols ask for more.
    plain = {key: value for key, value in PLAIN.items() if protocol > 2 or not isinstance(value, np.generic)}
    found = read_pickle(pickle.dumps(plain, protocol))
    assert found.keys() == plain.keys()
    for key, value in plain.items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(found[key], value) and found[key].dtype == value.dtype
        else:
            assert found[key] == value


def calling(name: str, *given: bytes) -> bytes:
    return b"\x80\x02}U\x04datac" + name.replace(".", "\n", 1).encode() + b"\n(" + b"".join(given) + b"tRs."


TEXT = b"U\x01O"
POINTER = b"(K\x01t" + TEXT + b"U\x08" + b"\x41" * 8


class Ran:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize(
    "data",
    [
        calling("numpy.ndarray", POINTER),
        calling("numpy.dtype", TEXT, b"K\x00", b"K\x01"),
        calling("builtins.eval", b"U\x011"),
        calling("os.system", b"U\x04true"),
        calling("numpy.core.multiarray.scalar", b"K\x01", b"K\x01"),
        pickle.dumps({"data": np.array([object], object)}),
        pickle.dumps({"data": np.array([(1, 2)], "i4,i4")}),
        pickle.dumps({"data": {1, 2}}),
        pickle.dumps({"data": 1.5}),
        pickle.dumps({"data": 1 << 70}),
        pickle.dumps({("a", "b"): 1}),
        pickle.dumps([1]),
        pickle.dumps({"a": 1})[:-1],
        b"\x80\x02}U\x01aP1\ns.",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60),
        b"\x80\x02\x8b" + struct.pack("<i", 1 << 30),
        b"",
        b"no pickle",
    ],
)
def test_everything_else_is_refused(data: bytes):
    with pytest.raises(PickleRefused) as refused:
        read_pickle(data)
    assert "\n" not in str(refused.value)


def test_nothing_runs(tmp_path: Path):
    for protocol in range(6):
        with pytest.raises(PickleRefused, match="a data set does not need"):
            read_pickle(pickle.dumps({"data": Ran(tmp_path / "trace")}, protocol))
    assert not (tmp_path / "trace").exists()


def test_one_text_named_a_million_times_takes_no_more_memory_than_itself():
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x00"
    encode = b"c_codecs\nencode\nq\x01"
    again = b"h\x01h\x00U\x06latin1\x86R"
    data = b"\x80\x02}U\x01a(" + text + encode + again * 20_000 + b"lsX\x00."
    tracemalloc.start()
    with pytest.raises(PickleRefused, match="more bytes than it has"):
        read_pickle(data)
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()


def test_an_array_is_as_large_as_its_bytes():
    content = pickle.dumps({"data": np.zeros((3, 5), np.uint8)}, 2)
    for old, new in ((b"K\x03K\x05", b"K\x04K\x05"), (b"K\x03K\x05", b"J\xff\xff\xff\xffK\x05")):
        assert old in content
        with pytest.raises(PickleRefused, match="it has an array"):
            read_pickle(content.replace(old, new))


def test_mutated_pickles_are_read_or_refused_and_take_no_time():
    generator = random.Random(0)
    seeds = [pickle.dumps({k: v for k, v in PLAIN.items() if k != "one"}, protocol) for protocol in range(6)]
    opcodes = [ord(opcode.code) for opcode in pickletools.opcodes]
    started = time.process_time()
    for _ in range(1000):
        data = bytearray(generator.choice(seeds))
        for _ in range(generator.randint(1, 6)):
            place = generator.randrange(len(data))
            match generator.randrange(4):
                case 0:
                    data[place] = generator.choice(opcodes)
                case 1:
                    data[place] = generator.randrange(256)
                case 2:
                    del data[place : place + generator.randint(1, 9)]
                case 3:
                    other = generator.choice(seeds)
                    start = generator.randrange(len(other))
                    data[place:place] = other[start : start + generator.randint(1, 40)]
        with contextlib.suppress(PickleRefused):
            assert isinstance(read_pickle(bytes(data)), dict)
    assert time.process_time() - started < 60
