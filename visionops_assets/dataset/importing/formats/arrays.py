"""Arrays: of pickles that somebody else made, read as data (nothing in them is imported, called or given an
address); and as PNG files whose bytes depend on the pixels alone.

A pickle is a program. Here its instructions are followed by a machine that knows dicts, lists, tuples, text, bytes,
whole numbers and NumPy's numeric arrays, and refuses every other one by its name.
"""

import pickletools
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resources.error_family import Invalid

MOST_BYTES = 1 << 30
# CIFAR-100 has 50,000 images, each with a name and two labels.
_MOST_INSTRUCTIONS = 5_000_000
_MOST_DIMENSIONS = 8
_DTYPE = re.compile(r"[<>=|]?[biuf](1|2|4|8)")
_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
_STORED = 65_535


class PickleRefused(Invalid):
    """A pickle that holds what no data set needs, or that is cut off."""


class _Mark:
    pass


class _Named:
    """What a pickle asks to import, by name; never imported."""

    def __init__(self, module: str, name: str) -> None:
        self.name = f"{module}.{name}"


class _DType:
    def __init__(self, text: str) -> None:
        if not _DTYPE.fullmatch(text):
            raise PickleRefused(f"it has an array of {text[:20]!r}, which are no numbers")
        self.text = text

    def ordered(self, state: Any) -> None:
        """Take the byte order from what NumPy says of the type."""
        order = _text(state[1]) if isinstance(state, tuple) and len(state) >= 2 else ""
        if order not in tuple("<>|="):
            raise PickleRefused("its array has an unknown order of bytes")
        self.text = order + self.text.lstrip("<>=|")


class _Array:
    """An array before and after it is filled."""

    def __init__(self) -> None:
        self.filled: NDArray[Any] | None = None

    def fill(self, shape: Any, dtype: Any, is_fortran: Any, content: Any) -> None:
        """Fill it, where the bytes are as many as the shape says."""
        if not isinstance(dtype, _DType) or not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS:
            raise PickleRefused("it has an array without shape or type")
        kind = np.dtype(dtype.text)
        if not all(type(side) is int and side >= 0 for side in shape) or not isinstance(content, bytes):
            raise PickleRefused("it has an array without shape or content")
        expected = kind.itemsize
        for side in shape:
            expected *= side
        if expected != len(content):
            raise PickleRefused(f"it has an array of {len(content):,} bytes whose shape says {expected:,}")
        self.filled = np.frombuffer(content, kind).reshape(shape, order="F" if is_fortran else "C")


def read_pickle(data: bytes) -> dict[Any, Any]:
    """The dict of a pickle: texts and bytes are its keys, numeric arrays whole. Raises `PickleRefused`."""
    if len(data) > MOST_BYTES:
        raise PickleRefused(f"it has more than {MOST_BYTES >> 30} GiB")
    try:
        found = _Machine(len(data)).run(data)
    except PickleRefused:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise PickleRefused("it is cut off or no pickle") from error
    if not isinstance(found, dict):
        raise PickleRefused("it holds no dict")
    return {key: value.filled if isinstance(value, _Array) else value for key, value in found.items()}


class _Machine:
    """A pickle's stack and memo. Of text it makes no more than so many `bytes`: one may be named again and again."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._do: dict[str, Callable[[Any], None]] = {
            **dict.fromkeys(("PROTO", "FRAME"), lambda _: None),
            **dict.fromkeys(
                (
                    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING",
                    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "UNICODE",
                    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
                ),
                self._push,
            ),
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._put),
            **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda place: self._push(self._memo[place])),
            "BYTEARRAY8": lambda content: self._push(bytes(content)),
            "MEMOIZE": lambda _: self._put(len(self._memo)),
            "NONE": lambda _: self._push(None),
            "NEWTRUE": lambda _: self._push(True),
            "NEWFALSE": lambda _: self._push(False),
            "MARK": lambda _: self._push(_Mark()),
            "EMPTY_DICT": lambda _: self._push({}),
            "EMPTY_LIST": lambda _: self._push([]),
            "EMPTY_TUPLE": lambda _: self._push(()),
            "DICT": lambda _: self._push(_pairs(self._marked())),
            "LIST": lambda _: self._push(self._marked()),
            "TUPLE": lambda _: self._push(tuple(self._marked())),
            "TUPLE1": lambda _: self._push(tuple(self._pop(1))),
            "TUPLE2": lambda _: self._push(tuple(self._pop(2))),
            "TUPLE3": lambda _: self._push(tuple(self._pop(3))),
            "APPEND": lambda _: self._extend(self._pop(1)),
            "APPENDS": lambda _: self._extend(self._marked()),
            "SETITEM": lambda _: self._update(self._pop(2)),
            "SETITEMS": lambda _: self._update(self._marked()),
            "GLOBAL": lambda told: self._push(_Named(*told.split(" ", 1))),
            "STACK_GLOBAL": lambda _: self._push(_Named(*map(_text, self._pop(2)))),
            "REDUCE": lambda _: self._push(self._made(*self._pop(2))),
            "BUILD": lambda _: self._build(*self._pop(1)),
        }  # fmt: skip

    def run(self, data: bytes) -> Any:
        """What it comes to."""
        for number, (instruction, argument, _) in enumerate(pickletools.genops(data)):
            if instruction.name == "STOP":
                return self._stack.pop()
            if number > _MOST_INSTRUCTIONS:
                raise PickleRefused(f"it has more than {_MOST_INSTRUCTIONS:,} instructions")
            do = self._do.get(instruction.name)
            if do is None:
                raise PickleRefused(f"it asks for {instruction.name}, which a data set does not need")
            do(argument)
        raise PickleRefused("it is cut off")

    def _push(self, value: Any) -> None:
        if type(value) is int and not -(1 << 63) <= value < 1 << 64:
            raise PickleRefused("it has a number of more than 64 bits")
        self._stack.append(value)

    def _put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _pop(self, number: int) -> list[Any]:
        if len(self._stack) < number:
            raise PickleRefused("it takes what it never gave")
        taken = self._stack[-number:]
        del self._stack[-number:]
        return taken

    def _marked(self) -> list[Any]:
        taken: list[Any] = []
        while not isinstance(value := self._stack.pop(), _Mark):
            taken.append(value)
        return taken[::-1]

    def _extend(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise PickleRefused("it adds to what is no list")
        self._stack[-1].extend(values)

    def _update(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not dict:
            raise PickleRefused("it adds to what is no dict")
        self._stack[-1].update(_pairs(values))

    def _build(self, state: Any) -> None:
        made = self._stack[-1]
        if isinstance(made, _DType):
            made.ordered(state)
        elif isinstance(made, _Array) and isinstance(state, tuple) and len(state) == 5:
            made.fill(*state[1:4], self._bytes(state[4]))
        else:
            raise PickleRefused("it asks for objects, which a data set does not need")

    def _made(self, called: Any, given: Any) -> Any:
        name = called.name if isinstance(called, _Named) else "what has no name"
        if not isinstance(given, tuple):
            raise PickleRefused("it calls without arguments")
        if name in [f"{module}._reconstruct" for module in _ARRAYS]:
            return _Array()
        if name in ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer") and len(given) == 4:
            content, dtype, shape, order = given
            array = _Array()
            array.fill(shape, dtype, _text(order) == "F", self._bytes(content))
            return array
        if name == "numpy.dtype":
            return _DType(_text(given[0]))
        if name in [f"{module}.scalar" for module in _ARRAYS] and len(given) == 2:
            array = _Array()
            array.fill((), given[0], False, self._bytes(given[1]))
            assert array.filled is not None
            return array.filled.item()
        if name == "_codecs.encode" and len(given) == 2 and _text(given[1]) in ("latin1", "latin-1"):
            return self._bytes(given[0])
        raise PickleRefused(f"it asks for {name[:80]}, which a data set does not need")

    def _bytes(self, content: Any) -> bytes:
        """Bytes, which Python 2 and old protocols write as text."""
        if isinstance(content, bytes):
            return content
        self._left -= len(_text(content))
        if self._left < 0:
            raise PickleRefused("it makes more bytes than it has")
        return bytes(content, "latin1")


def _pairs(values: list[Any]) -> dict[Any, Any]:
    keys = values[::2]
    if len(values) % 2 or not all(isinstance(key, str | bytes | int) for key in keys):
        raise PickleRefused("it has a dict whose keys are neither text nor numbers")
    return dict(zip(keys, values[1::2], strict=True))


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise PickleRefused("it has something else where text should be")
    return value


def png_of(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 (H, W, 1 or 3) as PNG.

    Uncompressed: a compressor's output changes with its version, and with it the image's identity. It also
    decodes faster, and small images gain little from compression.
    """
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    raw = rows.tobytes()
    blocks = [raw[start : start + _STORED] for start in range(0, len(raw), _STORED)]
    deflated = b"".join(
        struct.pack("<BHH", number == len(blocks) - 1, len(block), len(block) ^ 0xFFFF) + block
        for number, block in enumerate(blocks)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    content = b"\x78\x01" + deflated + struct.pack(">I", zlib.adler32(raw))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", content) + _chunk(b"IEND", b"")


@dataclass(frozen=True, slots=True)
class NumberedImages:
    """Makes the image of a name `<part>/<number>.png` when called, of parts uint8 (N, H, W, 1 or 3)."""

    parts: Mapping[str, NDArray[np.uint8]]

    def __call__(self, name: str) -> bytes:
        part, _, number = name.removesuffix(".png").rpartition("/")
        return png_of(self.parts[part][int(number)])


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
