"""What is odd in a JPEG but no damage is read, pixel for pixel; damage is refused."""

import random
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from edge.images.decode import decode, decode_whole
from edge.images.decode_pool import probe
from edge.images.header import UnreadableImage
from edge.images.jpeg_segments import normalised
from tests.dataset.conftest import encode

KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "grey": {"grey": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 4},
    "turned": {"orientation": 6},
}
JUNK = [b"\0", b"\0" * 40, b"abc", b"\xff\0\0\x10", b"\x07" * 300]


def noise(grey: bool = False, orientation: int = 1, **options) -> bytes:
    """A JPEG of many coefficients, 48 x 64 pixels as stored."""
    pixels = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(pixels).convert("L" if grey else "RGB")
    return encode(image, "JPEG", quality=92, exif=exif, **options)


def segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Place and marker of each segment up to the end, coded pixels being part of their scan."""
    place = 2
    while (marker := data[place + 1]) != 0xD9:
        yield place, marker
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
        if marker == 0xDA:
            after = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL).search(data, place)
            assert after is not None
            place = after.start()
    yield place, marker


def same(odd: bytes, data: bytes) -> None:
    for channels in (1, 3):
        assert np.array_equal(decode_whole(odd, "a", channels), decode_whole(data, "a", channels))
        assert np.array_equal(decode(odd, "a", 20, 20, channels), decode(data, "a", 20, 20, channels))
    assert probe(odd, "a")[:4] == probe(data, "a")[:4]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "progressive"])
@pytest.mark.parametrize("parameters", [(0, 0, 0), (0, 63, 1), (1, 5, 0x21)])
def test_odd_parameters_of_a_sequential_scan_change_no_pixel(kind, parameters):
    data = noise(**KINDS[kind])
    odd = bytearray(data)
    for place, marker in segments(data):
        if marker == 0xDA:
            at = place + 5 + 2 * data[place + 4]
            odd[at : at + 3] = bytes(parameters)
    same(bytes(odd), data)


@pytest.mark.slow
@pytest.mark.parametrize("junk", JUNK, ids=len)
@pytest.mark.parametrize("kind", KINDS)
def test_stray_bytes_before_any_segment_change_no_pixel(kind, junk):
    data = noise(**KINDS[kind])
    first_scan = next(place for place, marker in segments(data) if marker == 0xDA)
    places = [place for place, _ in segments(data)]
    for place in places:
        # Bytes after coded pixels may be pixels that a damaged scan lost, unless these are few or all the same.
        short = len(junk) < 8 and data[place + 1] == 0xD9
        if place <= first_scan or len(set(junk)) == 1 or short:
            same(data[:place] + junk + data[place:], data)
    everywhere = data
    for place in reversed([place for place in places if place <= first_scan]):
        everywhere = everywhere[:place] + junk + everywhere[place:]
    same(everywhere, data)


def test_padding_after_every_scan_changes_no_pixel():
    data = padded = noise(progressive=True)
    places = [place for place, _ in segments(data)]
    first_scan = next(place for place, marker in segments(data) if marker == 0xDA)
    for place in reversed([place for place in places if place > first_scan]):
        padded = padded[:place] + b"\0" * 64 + padded[place:]
    same(padded, data)


def test_an_odd_revision_of_jfif_and_a_broken_colour_profile_change_no_pixel():
    data = noise()
    same(data.replace(b"JFIF\0\1", b"JFIF\0\x09"), data)
    same(data[:2] + b"\xff\xe2\0\x12ICC_PROFILE\0\3\1ab" + data[2:], data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_scan_is_refused_where_the_decoder_sees_it(kind):
    """Bytes that a damaged scan leaves over are no padding: what comes of them is not the image."""
    data = noise(**KINDS[kind])
    scan = next(place for place, marker in segments(data) if marker == 0xDA)
    chance, unseen = random.Random(1), 0
    for _ in range(60):
        damaged = bytearray(data)
        damaged[chance.randrange(scan + 20, len(data) // 2)] ^= 1 << chance.randrange(8)
        try:
            simplejpeg.decode_jpeg(bytes(damaged))
        except ValueError:
            with pytest.raises(UnreadableImage, match="truncated or corrupt JPEG"):
                decode_whole(bytes(damaged), "a", 3)
        else:
            unseen += 1
    assert unseen < 60


def test_a_scan_that_was_cut_is_refused_with_an_end_put_behind_it():
    data = noise()
    with pytest.raises(UnreadableImage, match="truncated or corrupt JPEG"):
        decode_whole(data[: len(data) * 2 // 3] + b"\xff\xd9", "a", 3)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_as_it_should_be_is_left_as_it_is(kind):
    data = noise(**KINDS[kind])
    assert normalised(data) is data
    assert (
        normalised(data + b"\xff\xd8 what a phone puts behind it")
        == data + b"\xff\xd8 what a phone puts behind it"
    )


def test_no_bytes_upset_it():
    data = noise(progressive=True)
    chance = random.Random(2)
    for _ in range(500):
        odd = bytearray(data[: chance.randrange(2, len(data))])
        for _ in range(chance.randrange(4)):
            odd[chance.randrange(len(odd))] = chance.randrange(256)
        assert len(normalised(bytes(odd))) <= len(odd)
