"""Grey images (H, W): a part, what is done to copies, and which are found to be copies."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from visionops_assets.dataset.deduplication.image_views import Loaded
from visionops_assets.dataset.deduplication.near_duplicates import find_near_duplicates
from visionops_assets.images.phash import hashed, phash

Grey = NDArray[np.uint8]


def part(side: int) -> Image.Image:
    """A part as a camera without noise sees it."""
    seen = Image.new("L", (128, 128), 70)
    drawing = ImageDraw.Draw(seen)
    drawing.ellipse([20, 20, 108, 108], fill=170)
    drawing.ellipse([48, 48, 80, 80], fill=60)
    drawing.rectangle([60, 5, 68, 30], fill=200)
    return seen.filter(ImageFilter.GaussianBlur(1.2)).resize((side, side))


def encoded(image: Grey, kind: str, quality: int) -> Grey:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, quality=quality)
    return np.asarray(Image.open(buffer).convert("L"))


def resized(image: Grey, scale: float, how: Image.Resampling = Image.Resampling.LANCZOS) -> Grey:
    height, width = (round(side * scale) for side in image.shape)
    return np.asarray(Image.fromarray(image).resize((width, height), how))


def brighter(image: Grey, factor: float) -> Grey:
    return (image * factor).clip(0, 255).astype(np.uint8)


def near_duplicates(
    images: Sequence[Grey],
    first_new: int = 0,
    given: bool = True,
    loaded: list[int] | None = None,
    tables: Mapping[int, NDArray[np.float64]] = MappingProxyType({}),
) -> set[tuple[int, int]]:
    """What is found, as (newer, older), the sureties `given` or not; images that are loaded are added to `loaded`.
    `tables` are those of the images' files, by number."""
    hashes = [hashed(image[..., None]) for image in images]

    def load(numbers: Sequence[int]) -> Iterator[Loaded]:
        if loaded is not None:
            loaded.extend(numbers)
        return (Loaded(number, images[number][..., None], tables.get(number)) for number in numbers)

    pairs = find_near_duplicates(
        np.array([value for value, _ in hashes], np.uint64),
        np.stack([np.frombuffer(number.to_bytes(32), np.uint8) for number in range(len(images))]),
        [image.size for image in images],
        first_new,
        load,
        np.stack([sureties for _, sureties in hashes])[first_new:] if given else None,
    )
    return {(one.newer, one.older) for one in pairs}


def manifest_of(images: Sequence[Grey], held: Sequence[int]) -> pd.DataFrame:
    """The rows that a manifest has of images, some `held` out; their paths are their numbers."""
    return pd.DataFrame(
        {
            "path": [str(number) for number in range(len(images))],
            "sha256": [f"{number:064x}" for number in range(len(images))],
            "phash": [f"{phash(image[..., None]):016x}" for image in images],
            "height": [image.shape[0] for image in images],
            "width": [image.shape[1] for image in images],
            "split": ["holdout" if number in held else "train" for number in range(len(images))],
            "excluded": False,
        }
    )


def images_of(images: Sequence[Grey]) -> Callable[[Sequence[str]], Iterator[tuple[str, Grey]]]:
    """The images by the digests of `manifest_of`."""
    return lambda digests: ((digest, images[int(digest, 16)][..., None]) for digest in digests)
