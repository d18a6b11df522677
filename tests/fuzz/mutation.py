"""Inputs that somebody else might make: good ones, altered by a generator of fixed seed; those that fail are kept."""

import copy
import random
import resource
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil

KEPT = Path(__file__).parents[2] / ".fuzz"
# Of processor time, for an input.
MOST_SECONDS = 10.0
Within = Callable[[random.Random], bytes]
ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 7, 10**30, 1.5, -0.0, 1e308, float("nan"), float("inf"), "", " ", "nan", "1e999", "\0",
    "../../a", "/etc/passwd", "a\nb", "\ud800", "x" * 5000, [], {}, [None], [[]], {"a": None}, [1, 2], [1, 2, 3, 4],
    [10**400] * 4, ["nan"] * 4, "0.png", "1.png/", "http://a/0.png", "data:image/png;base64,AAAA",
)  # fmt: skip
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


def many(
    seed: int, count: int, seeds: Sequence[bytes], words: Sequence[bytes] = (), within: Within | None = None
) -> Iterator[bytes]:
    """So many altered inputs, the same for the same seed; every second is altered `within`, if that can be done: who
    alters a file by intent passes the checks that bytes altered at random do not."""
    generator = random.Random(seed)
    for number in range(count):
        if within is not None and number % 2:
            yield within(generator)
        else:
            yield mutated(generator, seeds, words)


def altered_json(generator: random.Random, content: Any) -> Any:
    """A copy of JSON in which a few values are others, are away, or have another key."""
    content = copy.deepcopy(content)
    for _ in range(1 << generator.randrange(3)):
        slots = list(_slots(content))
        if not slots:
            break
        container, key = generator.choice(slots)
        match generator.randrange(4):
            case 0 | 1:
                container[key] = copy.deepcopy(generator.choice(ODD_VALUES))
            case 2:
                other, at = generator.choice(slots)
                container[key] = copy.deepcopy(other[at])
            case 3:
                del container[key]
    return content


def _slots(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _slots(value[key])


def altered_xml(generator: random.Random, content: bytes) -> bytes:
    """XML in which a few elements say something else, are away or there twice."""
    root = ElementTree.fromstring(content)
    for _ in range(1 << generator.randrange(3)):
        parents = [each for each in root.iter() if len(each)]
        if not parents:
            break
        parent = generator.choice(parents)
        element = generator.choice(list(parent))
        said = str(generator.choice(ODD_VALUES))
        # What no XML may have does not come as far.
        said = "".join(each for each in said if each.isprintable() and each.isascii())
        match generator.randrange(4):
            case 0:
                element.text = said
            case 1:
                element.set(generator.choice([*element.attrib, "name"]), said)
            case 2:
                parent.remove(element)
            case 3:
                parent.insert(0, copy.deepcopy(element))
    return ElementTree.tostring(root)


def behind_its_footer(content: bytes) -> Within:
    """A Parquet file altered but for the end, which says where its footer begins."""
    return lambda generator: mutated(generator, [content[:-8]]) + content[-8:]


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
    """Have `hold` see every input; how many there were. The first that it fails on, or that takes this thread more
    processor time than any may, is kept and named."""
    number = -1
    for number, data in enumerate(inputs):
        with kept(data, f"{kind}-{number}"):
            begun = time.thread_time()
            hold(data)
            assert time.thread_time() - begun < MOST_SECONDS, "takes too long"
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
    """The most bytes that this process had, and that any of its children had."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    own, ended = (resource.getrusage(each).ru_maxrss << 10 for each in whose)
    return own, max([ended, *(_peak(child.pid) for child in psutil.Process().children(recursive=True))])


def _peak(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        # It ended, and counts among those.
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
