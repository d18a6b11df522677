"""PNG as a device reads it, without libpng: the same pixels bit for bit, and the same files refused."""

import struct
import sys
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edge.images import decode as decoder
from edge.images.bounds import ImageLimits
from edge.images.decode import Pixels, Target, decode_here, decode_whole, header_here
from edge.images.header import UnreadableImage

imagecodecs = pytest.importorskip("imagecodecs")

KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8)]
KINDS += [(4, 8), (4, 16), (6, 8), (6, 16)]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
Parts = list[tuple[bytes, bytes]]


def read(data: bytes, *, fast: bool, target: Target | None = None) -> Pixels | None:
    """The pixels in colour, or None for a file that is refused."""
    with pytest.MonkeyPatch.context() as patch:
        if not fast:
            patch.setattr(decoder, "imagecodecs", None)
        try:
            return decode_here(data, "x", header_here(data, "x", ImageLimits()), target, 3)
        except UnreadableImage:
            return None


def alike(data: bytes, target: Target | None = None) -> bool:
    """Whether both read the same, or both refuse."""
    ours, theirs = read(data, fast=True, target=target), read(data, fast=False, target=target)
    if ours is None or theirs is None:
        return ours is theirs
    return bool(np.array_equal(ours, theirs))


def file_of(parts: Parts) -> bytes:
    """A PNG of these parts, whose checks are right."""
    written = (
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def rows_of(
    generator: np.random.Generator, sides: tuple[int, int], bits: int, interlace: int, most: int
) -> bytes:
    """Random rows, each with one of the filters; few values where `most` is small."""
    width, height = sides
    rows = b""
    for left, top, across, down in ADAM7 if interlace else ((0, 0, 1, 1),):
        columns = (width - left + across - 1) // across
        for _ in range((height - top + down - 1) // down if columns > 0 else 0):
            length = (columns * bits + 7) // 8
            rows += bytes([generator.integers(5)])
            rows += generator.integers(0, most, length, dtype=np.uint8).tobytes()
    return rows


def parts_of(generator: np.random.Generator, colour: int, bits: int, sides: tuple[int, int]) -> Parts:
    """A random PNG of a kind: with and without a transparent colour, an interlace, a palette that ends early."""
    interlace, most = int(generator.integers(2)), int(generator.choice([4, 256]))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *sides, bits, colour, 0, 0, interlace))]
    transparent = bool(generator.integers(2))
    if colour == 3:
        colours = int(generator.integers(1, (1 << bits) + 1))
        parts.append((b"PLTE", generator.bytes(3 * colours)))
        if transparent:
            parts.append((b"tRNS", generator.bytes(int(generator.integers(1, colours + 1)))))
    elif colour in (0, 2) and transparent:
        # Also with more bits than the pixels have.
        key = generator.integers(0, most, CHANNELS[colour]) | generator.choice([0, 0x0300])
        parts.append((b"tRNS", key.astype(">u2").tobytes()))
    compressed = zlib.compress(rows_of(generator, sides, bits * CHANNELS[colour], interlace, most))
    cut = int(generator.integers(1, len(compressed)))
    return [*parts, (b"IDAT", compressed[:cut]), (b"IDAT", compressed[cut:]), (b"IEND", b"")]


@pytest.mark.parametrize(("colour", "bits"), KINDS)
def test_every_kind_of_png_bit_for_bit(colour: int, bits: int, count: Callable[[int, int], int]) -> None:
    generator = np.random.default_rng(100 * colour + bits)
    for _ in range(count(24, 600)):
        sides = (int(generator.integers(1, 20)), int(generator.integers(1, 20)))
        data = file_of(parts_of(generator, colour, bits, sides))
        assert read(data, fast=True) is not None
        assert alike(data), data
        assert alike(data, Target(7, 5, "fit")), data


def test_damaged_files_take_no_references_of_the_process() -> None:
    """A decoder gave back a None too often with each of these: after some ten thousand the process was dead."""
    rows = rows_of(np.random.default_rng(0), (11, 9), 24, 0, 4)
    checked = zlib.compress(rows)[:-1] + b"?"
    data = file_of(
        [(b"IHDR", struct.pack(">IIBBBBB", 11, 9, 8, 2, 0, 0, 0)), (b"IDAT", checked), (b"IEND", b"")]
    )
    before = sys.getrefcount(None)
    for _ in range(2_000):
        assert read(data, fast=True) is None
    assert sys.getrefcount(None) > before - 1_000


def test_sixteen_bits_in_colour_are_rounded_and_not_cut() -> None:
    values = np.array(
        [[[0, 127, 128], [257, 32768, 65278]], [[65407, 65535, 255], [256, 384, 385]]], np.uint16
    )
    for pixels in (values, np.concatenate([values, np.full((2, 2, 1), 65535, np.uint16)], axis=2)):
        found = read(bytes(imagecodecs.png_encode(pixels)), fast=False)
        assert found is not None and found.tolist() == np.rint(values / 257).astype(int).tolist()


def altered(generator: np.random.Generator, parts: Parts) -> bytes:
    """A PNG that somebody damaged, or made to mislead: most with checks that are right."""
    place = int(generator.integers(len(parts)))
    name, content = parts[place]
    match int(generator.integers(7)):
        case 0:
            data = bytearray(file_of(parts))
            data[int(generator.integers(8, len(data)))] ^= 1 << int(generator.integers(8))
            return bytes(data)
        case 1:
            return file_of(parts)[: int(generator.integers(9, len(file_of(parts))))]
        case 2 if content:
            wrong = bytearray(content)
            wrong[int(generator.integers(len(wrong)))] = int(generator.integers(256))
            parts[place] = (name, bytes(wrong))
        case 3:
            # Not within a checksum alone, without which libpng reads some.
            parts[place] = (name, content[: max(0, len(content) - int(generator.integers(5, 60)))])
        case 4:
            del parts[place]
        case 5:
            parts.insert(int(generator.integers(len(parts) + 1)), (name, content))
        case _:
            foreign = bytes(int(each) for each in generator.choice(list(b"abXYtZ"), 4))
            parts.insert(int(generator.integers(1, len(parts) + 1)), (foreign, generator.bytes(9)))
    return file_of(parts)


@pytest.mark.parametrize("split", range(6))
@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("sides", [(11, 9), (80, 90)])
def test_a_checksum_of_the_pixels_that_stands_in_two_parts(
    split: int, wrong: bool, sides: tuple[int, int]
) -> None:
    """libpng has all rows by the end of the first part, and does not mind what the second one says."""
    generator = np.random.default_rng(3)
    compressed = zlib.compress(rows_of(generator, sides, 8, 0, 256))
    if wrong:
        compressed = compressed[:-1] + bytes([compressed[-1] ^ 1])
    cut = len(compressed) - split
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", *sides, 8, 0, 0, 0, 0)),
        (b"IDAT", compressed[:cut]),
        (b"IDAT", compressed[cut:]),
        (b"IEND", b""),
    ]
    assert alike(file_of(parts))


def damaged_files(many: int) -> Iterator[bytes]:
    generator = np.random.default_rng(5)
    for _ in range(many):
        colour, bits = KINDS[int(generator.integers(len(KINDS)))]
        yield altered(generator, parts_of(generator, colour, bits, (11, 9)))


def test_altered_files_are_read_alike_or_refused_alike(
    count: Callable[[int, int], int], capfd: pytest.CaptureFixture[str]
) -> None:
    refused = 0
    for data in damaged_files(count(600, 20_000)):
        assert alike(data), data
        refused += read(data, fast=False) is None
    assert refused > count(100, 5_000)


def test_pixels_that_go_on_for_gigabytes_are_read_where_it_may_be_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind the pixels of an 8×8 image stands what takes long to unpack: its size says nothing odd."""
    from edge.images.header import look

    stream = zlib.compressobj(9)
    endless = b"".join([*(stream.compress(bytes(1 << 20)) for _ in range(300)), stream.flush()])
    header = (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    data = file_of([header, (b"IDAT", endless), (b"IEND", b"")])
    found = look(data, "x", ImageLimits())
    assert found is not None and not found.plain
    # By the clock, a busy machine would need more than ten times that.
    monkeypatch.setattr("edge.images.bounds.WALL_TIMES_CPU", 1000)
    with pytest.raises(UnreadableImage, match="processor time"):
        decode_whole(data, "x", 3, ImageLimits().within(0.02))
