import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from edge.images.decode import decode, decode_whole, placement, resize
from edge.images.decode_pool import probe
from edge.images.header import UnreadableImage
from tests.dataset.conftest import encode


def png_header_claiming(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_decodes_to_the_requested_shape(picture, format_name, channels):
    data = encode(Image.fromarray(picture(1)), format_name)
    assert probe(data, "a")[:3] == (format_name, 48, 64)
    pixels = decode(data, "a", 20, 30, channels)
    assert pixels.shape == (20, 30, channels)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    expected = resize(picture(1), 20, 30)
    if channels == 3 and format_name != "GIF":
        assert np.abs(pixels.astype(int) - expected).mean() < 4


def test_lossless_formats_keep_every_pixel(picture):
    for format_name in ("PNG", "BMP", "TIFF", "PPM"):
        data = encode(Image.fromarray(picture(2)), format_name)
        assert np.array_equal(decode_whole(data, "a", 3), picture(2))


def test_jpeg_and_png_agree_with_pillow_bit_for_bit(picture):
    for data in (encode(Image.fromarray(picture(3)), "JPEG"), encode(Image.fromarray(picture(3)), "PNG")):
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(decode_whole(data, "a", 3), np.asarray(image))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_honoured(picture, orientation, format_name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format_name == "WEBP" else {}
    data = encode(Image.fromarray(picture(4)), format_name, exif=exif, **options)
    with Image.open(io.BytesIO(data)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(decode_whole(data, "a", 3), upright)
    assert probe(data, "a")[1:3] == upright.shape[:2]


def test_a_damaged_exif_block_leaves_the_image_as_it_is(picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(picture(4)), "JPEG", exif=exif)
    damaged = data.replace(b"Exif\0\0MM", b"Exif\0\0ZZ").replace(b"Exif\0\0II", b"Exif\0\0ZZ")
    assert damaged != data
    assert decode_whole(damaged, "a", 3).shape == (48, 64, 3)


def test_sixteen_bits_become_eight_over_the_full_range():
    values = np.array([[0, 127, 128, 257], [32768, 65278, 65407, 65535]], np.uint16)
    for format_name in ("PNG", "TIFF"):
        pixels = decode_whole(encode(Image.fromarray(values), format_name), "a", 1)[..., 0]
        assert pixels.tolist() == [[0, 0, 0, 1], [128, 254, 255, 255]] or pixels.tolist() == [
            [round(v / 257) for v in row] for row in values.tolist()
        ]


def test_twelve_bits_of_a_pgm_are_brought_to_their_full_range():
    values = np.array([[0, 2048], [4080, 4095]], ">u2")
    data = b"P5 2 2 4095\n" + values.tobytes()
    assert probe(data, "a.pgm").bits == 16
    assert decode_whole(data, "a.pgm", 1)[..., 0].tolist() == [[0, 128], [254, 255]]


def test_thirty_two_bit_pixels_are_refused():
    data = encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    with pytest.raises(UnreadableImage, match=r"deep\.tiff: has 32-bit pixels.*save it with 8 or 16 bits"):
        decode_whole(data, "deep.tiff", 1)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_laid_over_white(mode):
    image = Image.new(mode, (2, 1), (0,) * len(mode))
    image.putpixel((1, 0), (10,) * (len(mode) - 1) + (255,))
    assert decode_whole(encode(image, "PNG"), "a", 1)[0, :, 0].tolist() == [255, 10]
    assert decode_whole(encode(image, "PNG"), "a", 3)[0, :, 0].tolist() == [255, 10]


def test_palettes_are_expanded_with_their_transparent_entry():
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 90])
    image.putpixel((1, 0), 1)
    assert decode_whole(encode(image, "PNG"), "a", 3)[0].tolist() == [[200, 0, 0], [0, 0, 90]]
    assert decode_whole(encode(image, "PNG", transparency=0), "a", 3)[0].tolist() == [[255] * 3, [0, 0, 90]]
    assert decode_whole(encode(image, "GIF", transparency=0), "a", 3)[0].tolist() == [[255] * 3, [0, 0, 90]]


def test_one_bit_images_become_black_and_white():
    image = Image.fromarray(np.array([[True, False]]))
    assert decode_whole(encode(image, "PNG"), "a", 1)[0, :, 0].tolist() == [255, 0]


def test_cmyk_becomes_rgb(picture):
    data = encode(Image.fromarray(picture(5)).convert("CMYK"), "JPEG", quality=95)
    difference = np.abs(decode_whole(data, "a", 3).astype(int) - picture(5))
    assert difference.mean() < 4


def test_of_an_animation_the_first_frame_counts(picture):
    frames = [Image.fromarray(picture(seed)).quantize(64) for seed in (6, 7)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert probe(data, "a").frames == 2
    assert np.array_equal(decode_whole(data, "a", 3), np.asarray(frames[0].convert("RGB")))
    data = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert probe(data, "a").frames == 2


def test_the_bytes_tell_the_format_and_not_the_name(jpeg):
    assert probe(jpeg(1), "picture.png").format == "JPEG"
    assert decode(jpeg(1), "picture.png", 8, 8, 3).shape == (8, 8, 3)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_truncated_image_is_refused_by_name(format_name, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), format_name)
    with pytest.raises(UnreadableImage, match=r"^batches/a/images/x\.bin: "):
        decode_whole(data[: int(len(data) * share)], "batches/a/images/x.bin", 3)


def test_a_png_without_its_last_chunk_is_truncated(png):
    with pytest.raises(UnreadableImage, match="its end is missing"):
        decode_whole(png(1)[:-6], "a", 3)


def test_padding_after_a_jpeg_is_no_damage(jpeg, picture):
    padded = jpeg(1)[:-2] + b"\0" * 8 + b"\xff\xd9"
    assert np.array_equal(decode_whole(padded, "a", 3), decode_whole(jpeg(1), "a", 3))


def test_empty_and_foreign_bytes_are_refused_by_name():
    with pytest.raises(UnreadableImage, match=r"a\.png: is empty"):
        probe(b"", "a.png")
    with pytest.raises(UnreadableImage, match=r"a\.png: is not an image"):
        probe(b"%!PS-Adobe-3.0 EPSF-3.0", "a.png")


def test_a_decompression_bomb_is_refused_from_its_header():
    with pytest.raises(UnreadableImage, match=r"bomb\.png: claims 50000×50000 pixels"):
        decode_whole(png_header_claiming(50_000, 50_000), "bomb.png", 3)
    with pytest.raises(UnreadableImage, match="has no pixels"):
        probe(png_header_claiming(0, 10), "a")
    bmp = (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHH", 40, 60000, 60000, 1, 24)
        + b"\0" * 24
    )
    with pytest.raises(UnreadableImage):
        probe(bmp, "a.bmp")


def test_writing_into_a_given_buffer(png):
    out = np.zeros((2, 16, 16, 3), np.uint8)
    result = decode(png(1), "a", 16, 16, 3, out=out[1])
    assert np.shares_memory(result, out)
    assert out[1].any() and not out[0].any()


def test_unreadable_image_survives_the_way_between_processes():
    import pickle

    error = pickle.loads(pickle.dumps(UnreadableImage("a.png", "is empty")))
    assert (error.path, error.reason, str(error)) == ("a.png", "is empty", "a.png: is empty")


def test_fit_keeps_the_aspect_ratio_and_pads_with_black(picture):
    white = np.full((10, 40, 3), 255, np.uint8)
    fitted = resize(white, 21, 20, "fit")
    assert fitted.shape == (21, 20, 3)
    assert placement(10, 40, 21, 20, "fit") == (8, 0, 5, 20)
    assert (fitted[8:13] == 255).all()
    assert not fitted[:8].any() and not fitted[13:].any()
    assert np.array_equal(
        resize(picture(1, 24, 24), 12, 12, "fit"), resize(picture(1, 24, 24), 12, 12, "stretch")
    )
    assert resize(np.full((1, 500, 1), 9, np.uint8), 8, 8, "fit").max() == 9


@pytest.mark.parametrize("mode", ["stretch", "fit"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [(101, 203), (450, 337), (64, 64), (31, 500)])
def test_a_large_jpeg_is_reduced_while_decoding_exactly_as_pillows_draft(
    picture, size, orientation, channels, mode
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(picture(8, *size)), "JPEG", exif=exif)
    upright = size if orientation == 1 else size[::-1]
    height, width = upright
    top, left, inner_height, inner_width = placement(height, width, 30, 24, mode)
    inner = inner_height, inner_width
    with Image.open(io.BytesIO(data)) as image:
        wanted = inner[::-1] if orientation == 1 else inner
        drafted = image.draft("L" if channels == 1 else "RGB", wanted)
        assert drafted is not None
        _, box = drafted
        resized = image.resize(wanted, Image.Resampling.BILINEAR, box)
        turned = resized if orientation == 1 else resized.transpose(Image.Transpose.ROTATE_270)
        expected = np.asarray(turned).reshape(*inner, channels)
    decoded = decode(data, "a", 30, 24, channels, mode)
    assert np.array_equal(decoded[top : top + inner[0], left : left + inner[1]], expected)
    whole = resize(decode_whole(data, "a", channels), 30, 24, mode)
    assert np.abs(decoded.astype(int) - whole).mean() < 2
