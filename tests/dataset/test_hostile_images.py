"""Images that somebody made to do harm: refused by name, and nothing but their own request notices."""

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image, ImageOps

from edge.images.bounds import ImageLimits, image_limits
from edge.images.decode import decode, decode_whole
from edge.images.decode_pool import probe
from edge.images.header import PLAIN_PIXELS, UnreadableImage, look
from tests.dataset.conftest import encode

LIMITS = ImageLimits()


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> Image.Image:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(*chunks: bytes) -> bytes:
    data = encode(noise(8, 8), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def tiff_of(*entries: tuple[int, int, int, bytes], pixels: bytes = b"\0" * 64) -> bytes:
    """A little-endian TIFF of one directory; a value longer than four bytes lies behind it."""
    directory, behind = struct.pack("<H", len(entries)), b""
    start = 8 + len(pixels)
    after = start + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in sorted(entries):
        field = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", after + len(behind))
        behind += value if len(value) > 4 else b""
        directory += struct.pack("<HHI", tag, kind, count) + field
    return b"II*\0" + struct.pack("<I", start) + pixels + directory + struct.pack("<I", 0) + behind


def tiff_of_directories(number: int) -> bytes:
    entries = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    entries += [(277, 3, 1, 1), (278, 3, 1, 8), (279, 4, 1, 64)]
    size = 2 + 12 * len(entries) + 4
    parts = [b"II*\0", struct.pack("<I", 72), b"\0" * 64]
    for place in range(number):
        following = 72 + (place + 1) * size if place + 1 < number else 0
        body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        parts.append(struct.pack("<H", len(entries)) + body + struct.pack("<I", following))
    return b"".join(parts)


def gif_of_frames(number: int) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff" + frame * number + b";"


def scans_of(jpeg: bytes, times: int) -> bytes:
    """A progressive JPEG whose last scan stands there so many times more."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * times + b"\xff\xd9"


def progressive(side: int = 64) -> bytes:
    return encode(noise(side, side), "JPEG", progressive=True)


def webp_claiming(width: int, height: int) -> bytes:
    body = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14 | 1 << 28) + b"\0" * 64
    return b"RIFF" + struct.pack("<I", len(body) + 12) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body


def busy(side: int) -> bytes:
    """A WebP that takes as long as it can."""
    return encode(noise(side, side), "WEBP", lossless=True, quality=0, method=0)


def png_claiming(width: int, height: int, depth: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 6, 0, 0, 0))


REFUSED = {
    "pixels of a PNG": (png_claiming(60_000, 60_000, 8), "VISIONOPS_IMAGE_MIB"),
    "pixels of a WebP": (webp_claiming(9400, 9400), "claims 9400×9400 pixels, 338 MiB"),
    "pixels of a GIF": (b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + gif_of_frames(1)[10:], "VISIONOPS_IMAGE_MIB"),
    "pixels of a PPM": (b"P6 60000 60000 255\n" + b"\0" * 100, "VISIONOPS_IMAGE_MIB"),
    "depth": (png_claiming(7000, 7000, 16), "374 MiB"),
    "scans": (scans_of(progressive(), 200), "100 scans of VISIONOPS_IMAGE_SCANS"),
    "frames of a GIF": (gif_of_frames(1001), "1,000 frames of VISIONOPS_IMAGE_FRAMES"),
    "frames of a PNG": (png_with(chunk(b"acTL", struct.pack(">II", 5000, 0))), "VISIONOPS_IMAGE_FRAMES"),
    "directories": (tiff_of_directories(1001), "1,000 directories of VISIONOPS_IMAGE_DIRECTORIES"),
    "entries": (b"II*\0" + struct.pack("<IH", 8, 5000) + b"\0" * 60_000, "entries of a directory"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_asks_for_too_much_is_refused_by_name_limit_and_setting(what):
    data, said = REFUSED[what]
    for refuse in (lambda: probe(data, "in/a.bin"), lambda: decode(data, "in/a.bin", 8, 8, 3)):
        with pytest.raises(UnreadableImage, match=r"^in/a\.bin: ") as refused:
            refuse()
        assert said in str(refused.value), refused.value
        assert "\n" not in str(refused.value)


def test_what_is_just_within_the_limits_is_read():
    assert probe(gif_of_frames(1000), "a").frames == 1000
    assert probe(tiff_of_directories(1000), "a").frames == 1000
    ordinary = progressive().count(b"\xff\xda")
    assert probe(scans_of(progressive(), 100 - ordinary), "a")[:3] == ("JPEG", 64, 64)
    # What follows the image's end is none of its scans.
    assert decode_whole(progressive() + b"\xff\xda" * 500, "a", 3).shape == (64, 64, 3)


POISON = {
    "a type that its tag cannot have": tiff_of(
        (256, 2, 2, b"8\0"), (257, 3, 1, b"\x08\0"), (258, 3, 1, b"\x08\0"), (262, 3, 1, b"\1\0"),
        (273, 4, 1, struct.pack("<I", 8)), (279, 4, 1, struct.pack("<I", 64)),
    ),
    "text for strips": tiff_of(
        (256, 3, 1, b"\x08\0"), (257, 3, 1, b"\x08\0"), (258, 3, 1, b"\x08\0"), (262, 3, 1, b"\1\0"),
        (273, 2, 4, b"abc\0"), (278, 2, 3, b"ab\0"), (279, 4, 1, struct.pack("<I", 64)),
    ),
    "no bits": tiff_of((256, 3, 1, b"\x08\0"), (257, 3, 1, b"\x08\0"), (258, 12, 1, struct.pack("<d", 1e300))),
    "a BMP of nothing": b"BM" + b"\xff" * 60,
    "a PPM of text": b"P6 8 8 99999999999999999999999\n" + b"\0" * 192,
    "a GIF without a frame": b"GIF89a" + b"\xff" * 7,
}  # fmt: skip


@pytest.mark.parametrize("what", POISON)
def test_whatever_a_decoder_raises_is_an_unreadable_image(what):
    for attempt in (lambda: probe(POISON[what], "a"), lambda: decode_whole(POISON[what], "a", 3)):
        try:
            attempt()
        except UnreadableImage as refused:
            assert refused.path == "a" and "\n" not in refused.reason


def test_an_exception_of_any_kind_in_this_process_is_an_unreadable_image_too(monkeypatch):
    def poisoned(*_: object) -> None:
        raise TypeError("a tuple is no int\nat all")

    monkeypatch.setattr("imagecodecs.png_decode", poisoned)
    with pytest.raises(UnreadableImage, match=r"^a: cannot be decoded: a tuple is no int at all$"):
        decode_whole(encode(noise(8, 8), "PNG"), "a", 3)


def test_a_decoder_has_so_much_processor_time_and_the_next_image_is_read(monkeypatch: pytest.MonkeyPatch):
    # On a busy machine the wall's limit, a backstop, would come first.
    monkeypatch.setattr("edge.images.bounds.WALL_TIMES_CPU", 1000)
    slow = busy(3000)
    with pytest.raises(UnreadableImage, match=r"0\.05 s of processor time.*raise VISIONOPS_IMAGE_SECONDS"):
        decode_whole(slow, "a", 3, LIMITS.within(0.05))
    assert decode_whole(encode(noise(8, 8), "WEBP", lossless=True), "b", 3, LIMITS).shape == (8, 8, 3)


def test_a_decoder_has_so_much_memory_and_this_process_takes_none():
    before = psutil.Process().memory_info().rss
    small = ImageLimits(memory=32 << 20)
    # It claims as much as there may be; WebP's own decoder holds it four times.
    data = encode(Image.new("RGBA", (2890, 2890)), "WEBP", lossless=True)
    with pytest.raises(UnreadableImage):
        decode_whole(data, "a", 3, small)
    assert psutil.Process().memory_info().rss - before < 64 << 20


def test_a_worker_that_is_killed_is_replaced():
    data = encode(noise(16, 16), "TIFF")
    expected = decode_whole(data, "a", 3)
    for child in psutil.Process().children():
        if "decode_worker" in " ".join(child.cmdline()):
            child.kill()
            child.wait(10)
    assert np.array_equal(decode_whole(data, "a", 3), expected)


def test_workers_know_nothing_of_the_environment_and_give_way(monkeypatch):
    decode_whole(encode(noise(16, 16), "TIFF"), "a", 3)
    found = [child for child in psutil.Process().children() if "decode_worker" in " ".join(child.cmdline())]
    assert found
    for child in found:
        assert child.nice() > psutil.Process().nice()
        assert not {name for name in child.environ() if name.startswith(("AWS", "VISIONOPS", "LAKEFS"))}


def test_workers_end_with_their_process_however_it_ends(tmp_path: Path):
    script = (
        "import sys, os, signal\n"
        "from edge.images.decode import decode_whole\n"
        f"decode_whole(open({str(tmp_path / 'a.tif')!r}, 'rb').read(), 'a', 3)\n"
        "import psutil\n"
        "print(*[child.pid for child in psutil.Process().children()], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    (tmp_path / "a.tif").write_bytes(encode(noise(8, 8), "TIFF"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    pids = [int(pid) for pid in done.stdout.split()]
    assert pids, done.stderr
    until = time.monotonic() + 30
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_forked_child_decodes_by_workers_of_its_own():
    data = encode(noise(16, 16), "TIFF")
    expected = decode_whole(data, "a", 3)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            same = np.array_equal(decode_whole(data, "a", 3), expected)
            os.write(writing, b"1" if same else b"0")
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.read(reading, 1) == b"1"
    assert np.array_equal(decode_whole(data, "a", 3), expected)


def plain(data: bytes) -> bool:
    found = look(data, "a", LIMITS)
    return found is not None and found.plain


def test_the_same_image_is_the_same_in_the_process_and_in_a_worker(monkeypatch):
    for format_name in ("PNG", "JPEG"):
        data = encode(noise(70, 90), format_name)
        here = [decode_whole(data, "a", 1), decode_whole(data, "a", 3), decode(data, "a", 21, 20, 3, "fit")]
        monkeypatch.setattr("edge.images.header.PLAIN_PIXELS", 0)
        assert not plain(data)
        there = [decode_whole(data, "a", 1), decode_whole(data, "a", 3), decode(data, "a", 21, 20, 3, "fit")]
        monkeypatch.undo()
        for one, other in zip(here, there, strict=True):
            assert np.array_equal(one, other)


MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16")
SAVED = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("1", "L", "RGB", "CMYK", "YCbCr"),
    "GIF": ("1", "L", "P", "RGB"),
    "BMP": ("1", "L", "P", "RGB"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"),
    "PPM": ("1", "L", "RGB"),
}


@pytest.mark.parametrize(
    ("format_name", "mode", "side"),
    [
        pytest.param(name, mode, side, marks=[] if side == 33 or mode == "RGB" else [pytest.mark.stated])
        for name, modes in SAVED.items()
        for mode in modes
        for side in (33, 1100)
    ],
)
def test_pixels_are_those_of_plain_pillow(format_name: str, mode: str, side: int):
    smooth = np.asarray(noise(9, 7).resize((side, side + 1), Image.Resampling.BICUBIC))
    image = Image.fromarray(smooth)
    if mode == "I;16":
        image = Image.fromarray(smooth[..., 0].astype(np.uint16) * 257 + smooth[..., 1])
    elif mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(smooth[..., 2]))
    else:
        image = image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if format_name in ("PNG", "JPEG", "WEBP", "TIFF") else {}
    data = encode(image, format_name, **options)
    with Image.open(io.BytesIO(data)) as stored:
        opened = ImageOps.exif_transpose(stored)
        if opened.mode.startswith("I"):
            grey = ((np.asarray(opened).astype(np.uint32) + 128) // 257).astype(np.uint8)
            expected = np.repeat(grey[..., None], 3, axis=2)
        elif "A" in opened.mode:
            pixels = np.asarray(opened.convert("RGBA")).astype(np.uint32)
            alpha = pixels[..., 3:]
            expected = ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
        else:
            expected = np.asarray(opened.convert("RGB"))
    assert np.array_equal(decode_whole(data, "a", 3), expected)


def test_what_stays_in_the_process_is_small_and_without_oddities():
    side = int(PLAIN_PIXELS**0.5)
    assert plain(encode(Image.new("RGB", (side, side)), "JPEG"))
    assert plain(encode(Image.new("RGB", (side, side)), "PNG"))
    assert plain(progressive())
    assert not plain(encode(Image.new("RGB", (side + 1, side + 1)), "JPEG"))
    assert not plain(encode(Image.new("RGB", (side + 1, side + 1)), "PNG"))
    assert not plain(encode(Image.new("CMYK", (8, 8)), "JPEG"))
    text = zlib.compress(b"\0" * (8 << 20))
    assert not plain(png_with(*[chunk(b"zTXt", b"a\0\0" + text)] * 3))
    assert not plain(png_with(*[chunk(b"tEXt", b"a\0")] * 1001))
    for format_name in ("GIF", "BMP", "WEBP", "TIFF", "PPM"):
        assert look(encode(noise(8, 8), format_name), "a", LIMITS) is None


def test_compressed_text_that_unpacks_to_gigabytes_takes_none():
    text = zlib.compress(b"\0" * (7 << 20))
    data = png_with(*[chunk(b"zTXt", b"a%d\0\0" % number + text) for number in range(500)])
    started = time.process_time()
    try:
        assert decode_whole(data, "a", 3, LIMITS.within(0.5)).shape == (8, 8, 3)
    except UnreadableImage as refused:
        assert "VISIONOPS_IMAGE" in refused.reason
    assert time.process_time() - started < 2


def test_limits_are_settings(monkeypatch):
    image_limits.cache_clear()
    monkeypatch.setenv("VISIONOPS_IMAGE_FRAMES", "3")
    try:
        with pytest.raises(UnreadableImage, match="the 3 frames of VISIONOPS_IMAGE_FRAMES"):
            decode_whole(gif_of_frames(4), "a", 3)
        image_limits.cache_clear()
        monkeypatch.setenv("VISIONOPS_IMAGE_FRAMES", "many")
        with pytest.raises(ValueError, match="VISIONOPS_IMAGE_FRAMES is 'many'"):
            image_limits()
    finally:
        image_limits.cache_clear()
