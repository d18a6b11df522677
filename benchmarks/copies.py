"""Which copies are found, and which other images are taken for copies, by kind of image and what was done to it.

Of each kind so many images are drawn. Those against each other give the false pairs in a million, each changed image
against all originals the share that is found, with its 95% interval (Clopper and Pearson, 1934). Originals and copies
pass through files, as they do in an import. Seeds are none of those that the limits were set on; images that say
`other` are drawn in a way that no limit was set on.

    python benchmarks/copies.py [--kinds KIND ...] [--changes CHANGE ...] [--images 1000] [--seed 9000]
"""

import argparse
import io
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from scipy.stats import binomtest
from sklearn.datasets import load_digits

from edge.images.decode import Pixels, decode_whole
from visionops.demo.parts import draw_batch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

Random = np.random.Generator
Change = Callable[[Image.Image, Random], bytes]
FILTERS = tuple(Image.Resampling[name] for name in ("BILINEAR", "BICUBIC", "LANCZOS", "BOX", "HAMMING"))


# Images.


def digits(count: int, random: Random, side: int = 8) -> Iterator[Image.Image]:
    """Handwritten digits of 8×8 pixels, all there are at most; larger ones turned and stretched a little each."""
    chosen = random.permutation(len(load_digits().images))
    for number in range(count if side > 8 else min(count, len(chosen))):
        digit = Image.fromarray((load_digits().images[chosen[number % len(chosen)]] * 15).astype(np.uint8))
        if side > 8:
            digit = digit.resize((side, side), Image.Resampling.BICUBIC)
            digit = digit.rotate(random.uniform(-12, 12), Image.Resampling.BICUBIC)
            a, b = random.uniform(-0.1, 0.1, 2)
            digit = digit.transform(
                digit.size,
                Image.Transform.AFFINE,
                (1 + a, b, -b * side / 2, -b, 1 - a, 0),
                Image.Resampling.BICUBIC,
            )
        yield digit


def parts(count: int, random: Random) -> Iterator[Image.Image]:
    """Parts of 64×64 pixels on brushed ground, as in the demo."""
    for picture in draw_batch(count, int(random.integers(1 << 30))):
        yield Image.fromarray(picture.pixels)


def scene(count: int, random: Random, noise: float, side: int = 128) -> Iterator[Image.Image]:
    """A part under a camera that shakes by a pixel, every other one scratched; grey, the noise in grey values."""
    from tests.dataset.grey_images import part

    base = part(side)
    for number in range(count):
        image = base.copy()
        if number % 2:
            x, y = random.integers(side // 4, 3 * side // 4, 2)
            length, angle = random.uniform(side / 16, side / 8), random.uniform(0, np.pi)
            end = (x + length * np.cos(angle), y + length * np.sin(angle))
            ImageDraw.Draw(image).line([(x, y), end], fill=int(random.uniform(20, 60)), width=2)
        x, y = random.integers(-1, 2, 2)
        image = image.transform(image.size, Image.Transform.AFFINE, (1, 0, int(x), 0, 1, int(y)))
        pixels = np.asarray(image, float) * random.uniform(0.97, 1.03)
        yield _image(pixels + random.normal(0, noise, pixels.shape))


def other_scene(
    count: int, random: Random, noise: float, side: int = 160, quality: int | None = None
) -> Iterator[Image.Image]:
    """A cast part in colour, lit from one side, on a bench that does not move: the light flickers by 1%, the noise is a
    camera's (more where it is light); as PNG, or as the camera's JPEG of a quality."""
    rough = _cloud(random, side, 1.6) * 18
    y, x = np.mgrid[0:side, 0:side] / side
    part = ((x - 0.5) ** 2 + (y - 0.45) ** 2 < 0.11) * 1.0 - ((x - 0.45) ** 2 + (y - 0.4) ** 2 < 0.01) * 0.8
    part += (abs(x - 0.7) < 0.05) * (y > 0.5) * 0.7
    tint = np.array([1.0, 0.93, 0.85])
    base = ((60 + 90 * part + rough) * (0.7 + 0.5 * x))[..., None] * tint
    for _ in range(count):
        lit = base * random.uniform(0.99, 1.01)
        strength = noise * np.sqrt(np.maximum(lit, 1) / 100)
        image = _image(lit + random.normal(0, 1, lit.shape) * strength)
        yield image if quality is None else Image.open(io.BytesIO(_saved(image, "JPEG", quality=quality)))


def photographs(count: int, random: Random) -> Iterator[Image.Image]:
    """Synthetic photographs of 96 to 256 pixels a side, in colour: things before clouds of all sizes, and noise."""
    for _ in range(count):
        height, width = random.integers(96, 257, 2)
        size = int(max(height, width))
        channels = [_cloud(random, size, random.uniform(1.2, 2.2)) for _ in range(2)]
        mix = random.uniform(-1, 1, (3, 2)) * 35 + np.array([25, 5])
        pixels = 110 + np.stack([mix[c, 0] * channels[0] + mix[c, 1] * channels[1] for c in range(3)], axis=2)
        image = _image(pixels[:height, :width])
        pen = ImageDraw.Draw(image)
        for _ in range(int(random.integers(2, 9))):
            x, y = random.uniform(0, width), random.uniform(0, height)
            r = random.uniform(0.03, 0.3) * size
            box, fill = (
                (x - r, y - r * random.uniform(0.2, 1), x + r, y + r),
                tuple(random.integers(0, 256, 3).tolist()),
            )
            box = (box[0], min(box[1], box[3]), box[2], max(box[1], box[3]))
            (pen.ellipse if random.random() < 0.5 else pen.rectangle)(box, fill=fill)
        soft = np.asarray(image.filter(ImageFilter.GaussianBlur(random.uniform(0.4, 1.0))), float)
        yield _image(soft + random.normal(0, random.uniform(0.5, 4), soft.shape))


def small_colour(count: int, random: Random, side: int) -> Iterator[Image.Image]:
    """Noisy exposures in colour of three simple things, of few pixels."""
    y, x = np.mgrid[0:side, 0:side] / (side - 1) - 0.5
    things = [abs(y) < 0.2, (x**2 + y**2 < 0.2) & (x**2 + y**2 > 0.05), (abs(x) < 0.12) | (abs(y) < 0.12)]
    for number in range(count):
        tint = np.array([180, 140, 90]) + random.uniform(-5, 5, 3)
        pixels = 50 + things[number % 3][..., None] * tint
        yield _image(pixels + random.normal(0, 10, pixels.shape))


def _cloud(random: Random, side: int, power: float) -> NDArray[np.float64]:
    """Texture of all sizes, its spectrum falling with the frequency to a power; of variance 1, (side, side)."""
    across = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)) * side
    across[0, 0] = np.inf
    made = np.fft.irfft2(np.fft.rfft2(random.normal(size=(side, side))) / across**power, (side, side))
    return np.asarray(made / made.std())


def _image(pixels: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))


KINDS: dict[str, Callable[[int, Random], Iterator[Image.Image]]] = {
    "digits 8": digits,
    "digits 16": partial(digits, side=16),
    "digits 32": partial(digits, side=32),
    "parts": parts,
    "scene σ1": partial(scene, noise=1),
    "scene σ3": partial(scene, noise=3),
    "scene σ3, 40 px": partial(scene, noise=3, side=40),
    "other scene σ1": partial(other_scene, noise=1),
    "other scene σ3": partial(other_scene, noise=3),
    "other scene σ1, JPEG 90": partial(other_scene, noise=1, quality=90),
    "other scene σ3, JPEG 75": partial(other_scene, noise=3, quality=75),
    "photographs": photographs,
    "colour 10": partial(small_colour, side=10),
    "colour 30": partial(small_colour, side=30),
}


# Changes.


def _saved(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def encoded(image: Image.Image, random: Random, kind: str, quality: int) -> bytes:
    return _saved(image, kind, quality=quality)


def resized(image: Image.Image, random: Random, scale: float, quality: int | None = None) -> bytes:
    """By one of the usual filters, and by one that does not average."""
    size = [max(1, round(side * scale)) for side in image.size]
    how = int(random.integers(len(FILTERS) + (scale > 0.6)))
    if how < len(FILTERS):
        image = image.resize((size[0], size[1]), FILTERS[how])
    else:
        by = [one / other for one, other in zip(image.size, size, strict=True)]
        image = image.transform(
            (size[0], size[1]), Image.Transform.AFFINE, (by[0], 0, 0, 0, by[1], 0), Image.Resampling.BILINEAR
        )
    return _saved(image, "PNG") if quality is None else _saved(image, "JPEG", quality=quality)


def cropped(image: Image.Image, random: Random, share: float) -> bytes:
    """So much of each side is gone, from either end."""
    width, height = image.size
    gone = [max(1, round(side * share)) for side in image.size]
    x, y = (int(random.integers(one + 1)) for one in gone)
    return _saved(image.crop((x, y, x + width - gone[0], y + height - gone[1])), "PNG")


def toned(image: Image.Image, random: Random, table: Callable[[float], float]) -> bytes:
    values = [round(min(255.0, max(0.0, table(value)))) for value in range(256)]
    return _saved(image.point(values * len(image.getbands())), "PNG")


def contrasted(image: Image.Image, random: Random, factor: float) -> bytes:
    return _saved(ImageEnhance.Contrast(image).enhance(factor), "PNG")


def greyed(image: Image.Image, random: Random) -> bytes:
    return _saved(image.convert("L"), "PNG")


def turned(image: Image.Image, random: Random, how: Image.Transpose) -> bytes:
    return _saved(image.transpose(how), "PNG")


CHANGES: dict[str, Change] = {
    **{f"JPEG {quality}": partial(encoded, kind="JPEG", quality=quality) for quality in (95, 85, 75, 50, 30)},
    **{f"WebP {quality}": partial(encoded, kind="WEBP", quality=quality) for quality in (90, 80, 50)},
    **{f"resized {scale:g}": partial(resized, scale=scale) for scale in (0.5, 0.7, 0.85, 1.25, 1.5, 2)},
    "resized 0.7, JPEG 85": partial(resized, scale=0.7, quality=85),
    "cropped 2%": partial(cropped, share=0.02),
    "cropped 5%": partial(cropped, share=0.05),
    "brightness 0.7": partial(toned, table=lambda value: value * 0.7),
    "brightness 1.2": partial(toned, table=lambda value: value * 1.2),
    "contrast 0.8": partial(contrasted, factor=0.8),
    "contrast 1.3": partial(contrasted, factor=1.3),
    "gamma 0.7": partial(toned, table=lambda value: 255 * (value / 255) ** 0.7),
    "gamma 1.4": partial(toned, table=lambda value: 255 * (value / 255) ** 1.4),
    "grey": greyed,
    "turned by 90°": partial(turned, how=Image.Transpose.ROTATE_90),
    "mirrored": partial(turned, how=Image.Transpose.FLIP_LEFT_RIGHT),
}


# What is found.


def grey_of(data: bytes) -> Pixels:
    """The pixels that the product sees of a file, (H, W); WebP without a process of its own."""
    if data.startswith(b"RIFF"):
        return np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    return decode_whole(data, "image", 1)[..., 0]


def main() -> None:
    from tests.dataset.grey_images import near_duplicates

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--changes", nargs="*", default=list(CHANGES), choices=list(CHANGES))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=9000)
    given = parser.parse_args()
    print(
        "| images | change | found | of | share | 95% interval | false | false pairs a million | CPU ms an image |"
    )
    print("| --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |")
    for kind in given.kinds:
        seed = [given.seed, zlib.crc32(kind.encode())]
        drawn = list(KINDS[kind](given.images, np.random.default_rng(seed)))
        images = [grey_of(_saved(image, "PNG")) for image in drawn]
        # A camera's JPEG has been through its file already.
        started = time.process_time()
        false, pairs = near_duplicates(images), len(images) * (len(images) - 1) / 2
        each = 1000 * (time.process_time() - started) / len(images)
        low, high = binomtest(len(false), int(pairs)).proportion_ci(method="exact")
        print(
            f"| {kind} | none | | {len(images):,} | | | {len(false)} | {len(false) / pairs * 1e6:.3g} "
            f"({low * 1e6:.2g} to {high * 1e6:.2g}) | {each:.1f} |",
            flush=True,
        )
        alike = {(a, a) for a in range(len(images))} | false | {(b, a) for a, b in false}
        for change in given.changes:
            random = np.random.default_rng([*seed, zlib.crc32(change.encode())])
            copies = [grey_of(CHANGES[change](image, random)) for image in drawn]
            started = time.process_time()
            near = near_duplicates([*images, *copies], len(images))
            each = 1000 * (time.process_time() - started) / len(images)
            across = {(newer - len(images), older) for newer, older in near if older < len(images)}
            found = sum((number, number) in across for number in range(len(images)))
            low, high = binomtest(found, len(images)).proportion_ci(method="exact")
            print(
                f"| {kind} | {change} | {found} | {len(images):,} | {found / len(images):.4f} "
                f"| {low:.4f} to {high:.4f} | {len(across - alike)} | | {each:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
