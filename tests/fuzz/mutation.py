"""Inputs that somebody else might make: good ones, altered by a generator of fixed seed; those that fail are kept."""

import random
import resource
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

KEPT = Path(__file__).parents[2] / ".fuzz"
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(generator: random.Random, seeds: Sequence[bytes], words: Sequence[bytes] = ()) -> bytes:
    """One of the seeds, altered in a few places; `words` are what such inputs are made of."""
    data = bytearray(generator.choice(seeds))
    for _ in range(1 << generator.randrange(5)):
        if not data:
            break
        # Headers are where numbers have a meaning.
        end = len(data) if generator.random() < 0.5 else min(len(data), 200)
        place = generator.randrange(end)
        match generator.randrange(8):
            case 0:
                data[place] ^= 1 << generator.randrange(8)
            case 1:
                data[place] = generator.randrange(256)
            case 2:
                number = generator.choice(_NUMBERS)
                form = generator.choice(("<I", ">I", "<H", ">H"))
                limit = 0xFFFFFFFF if form[1] == "I" else 0xFFFF
                packed = struct.pack(form, number & limit)
                data[place : place + len(packed)] = packed
            case 3:
                del data[place : place + generator.randint(1, 64)]
            case 4:
                data[place:place] = data[place : place + generator.randint(1, 64)] * generator.randint(1, 8)
            case 5:
                other = generator.choice(seeds)
                start = generator.randrange(len(other))
                data[place : place + 32] = other[start : start + generator.randint(1, 64)]
            case 6:
                del data[max(1, place) :]
            case 7:
                data[place:place] = generator.choice(words) if words else generator.randbytes(8)
    return bytes(data)


def many(seed: int, count: int, seeds: Sequence[bytes], words: Sequence[bytes] = ()) -> Iterator[bytes]:
    """So many altered inputs, the same for the same seed."""
    generator = random.Random(seed)
    return (mutated(generator, seeds, words) for _ in range(count))


@contextmanager
def kept(data: bytes, name: str) -> Iterator[None]:
    """Keep an input that fails, and say where."""
    try:
        yield
    except BaseException as error:
        KEPT.mkdir(exist_ok=True)
        file = KEPT / name
        file.write_bytes(data)
        raise AssertionError(f"{type(error).__name__}: {error}; the input is kept: {file}") from error


def all_hold(kind: str, inputs: Iterator[bytes], hold: Callable[[bytes], object]) -> int:
    """Have `hold` see every input; how many there were. The first that it fails on is kept and named."""
    number = -1
    for number, data in enumerate(inputs):
        with kept(data, f"{kind}-{number}"):
            hold(data)
    return number + 1


@contextmanager
def bounded_memory(grows: int) -> Iterator[None]:
    """Holds that neither this process nor a worker of it needs more than so many bytes; what was needed before does
    not count."""
    before = _needed()
    yield
    after = _needed()
    assert after[0] < before[0] + grows
    assert after[1] < max(before[1] + 1, grows)


def _needed() -> tuple[int, int]:
    """The most bytes that this process had, and that any of its children that ended had."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    own, children = (resource.getrusage(each).ru_maxrss << 10 for each in whose)
    return own, children
