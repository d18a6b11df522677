"""MNIST's IDX files (also Fashion-MNIST, KMNIST), plain or gzipped; its test images are the holdout."""

import gzip
import math
import struct
import zlib
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from resources.machine_errors import machine_error
from visionops_assets.dataset.importing.file_listing import Listing
from visionops_assets.dataset.importing.formats.arrays import NumberedImages
from visionops_assets.dataset.importing.image_columns import Gathering, ImageRecord
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.source_files import (
    TIMES,
    SourceFile,
    size_of,
    source_limits,
    too_much,
)
from visionops_assets.dataset.importing.statements import Made, Stated

NAME = "mnist"

_PARTS = (("train", "train"), ("t10k", "holdout"), ("test", "holdout"))


def recognises(listing: Listing) -> str | None:
    """Whether there are IDX files of images."""
    found = _pairs(listing)
    return f"{found[0][2].name} has images of MNIST" if found else None


def read(listing: Listing, stated: Stated) -> Made:
    """Every image, named `<part>/<number>.png`, with its number as label. Raises `SourceError`."""
    parts: dict[str, NDArray[np.uint8]] = {}
    images, read = Gathering(NumberedImages(parts)), set[str]()
    for part, split, image_file, label_file in _pairs(listing):
        parts[part], labels = _idx(image_file, 3)[..., None], _idx(label_file, 1)
        if len(parts[part]) != len(labels):
            raise SourceError(
                f"{image_file} has {len(parts[part])} images, but {label_file} {len(labels)} labels"
            )
        for number, label in enumerate(labels):
            images.add(f"{part}/{number:05}.png", ImageRecord(str(label), split=split))
        read |= {file.path for file in (image_file, label_file)}
    return Made(images.images().by_name(), read=read, images_in_files=True)


def _pairs(listing: Listing) -> list[tuple[str, str, SourceFile, SourceFile]]:
    found = []
    there = set(listing.others)
    candidates = sorted(name for name in there if "idx3-ubyte" in name)
    for part, split in _PARTS:
        pattern = f"{part}-images*idx3-ubyte*"
        for name in candidates:
            if not fnmatchcase(name.rpartition("/")[2], pattern):
                continue
            image_file = listing.file(name)
            label_name = image_file.name.replace("images", "labels").replace("idx3", "idx1")
            beside = image_file.beside(label_name).path
            label = next((path for path in _plain_or_zipped(beside) if path in there), None)
            if label is None:
                raise SourceError(f"{image_file}: its labels {label_name} are not beside it")
            found.append((part, split, image_file, listing.file(label)))
            break
    return found


def _plain_or_zipped(path: str) -> tuple[str, str]:
    plain = path.removesuffix(".gz")
    return plain, f"{plain}.gz"


def _idx(path: SourceFile, dimensions: int) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes (yann.lecun.com/exdb/mnist): magic, sizes as big-endian uint32, values; of a packed
    one no more is unpacked than its header says."""
    header, limits = 4 + 4 * dimensions, source_limits()
    with path.open() as raw:
        size = size_of(raw)
        stream = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
        try:
            head = stream.read(header)
            if len(head) < header or head[:4] != bytes([0, 0, 8, dimensions]):
                raise SourceError(f"{path}: is no IDX file of bytes in {dimensions} dimensions")
            shape = struct.unpack(f">{dimensions}I", head[4:])
            promised = math.prod(shape)
            if promised > limits.in_memory(size) or shape[0] > limits.rows(size):
                has = f"says that it has {' × '.join(map(str, shape))} values, which is not believed of {size:,} bytes"
                raise too_much(path, has, TIMES)
            if shape[0] and not promised:
                raise SourceError(f"{path}: has images without pixels")
            data = stream.read(promised + 1)
        except (OSError, EOFError, zlib.error) as error:
            why = machine_error(error) or "it is cut off or damaged"
            raise SourceError(f"{path}: cannot be read: {why}; is it complete?") from error
    if len(data) != promised:
        held = "more" if len(data) > promised else f"{len(data):,} values"
        raise SourceError(f"{path}: holds {held}, its header says {shape}; is it complete?")
    return np.frombuffer(data, np.uint8).reshape(shape)
