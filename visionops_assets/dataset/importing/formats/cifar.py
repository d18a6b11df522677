"""CIFAR-10 and CIFAR-100, python and binary versions (www.cs.toronto.edu/~kriz/cifar.html).

The test images are the holdout; of CIFAR-100 the fine labels are the labels, the coarse ones a column `coarse`.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visionops_assets.dataset.importing.file_listing import Listing
from visionops_assets.dataset.importing.formats.arrays import NumberedImages, PickleRefused, read_pickle
from visionops_assets.dataset.importing.image_columns import Gathering, ImageRecord
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.plain_text import read_text
from visionops_assets.dataset.importing.source_files import SourceFile
from visionops_assets.dataset.importing.statements import Made, Stated

NAME = "cifar"

_MARKERS = ("batches.meta", "batches.meta.txt", "meta", "fine_label_names.txt", "coarse_label_names.txt")

_PIXELS = 3 * 32 * 32
_MOST_CLASSES, _LONGEST_NAME = 100_000, 1024


class _Part(NamedTuple):
    name: str
    split: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    coarse: NDArray[np.int64] | None


def recognises(listing: Listing) -> str | None:
    """Whether there are the names of its classes and its batches."""
    home = _home(listing)
    return None if home is None else "names of classes and batches of CIFAR are there"


def read(listing: Listing, stated: Stated) -> Made:
    """Every image, named `<file>/<number>.png`. Raises `SourceError` naming a file that is not as it should be."""
    home = _home(listing)
    if home is None:
        raise SourceError(
            f"{listing.root}: holds no CIFAR data set (batches.meta or meta, with data_batch_1 or train)"
        )
    names, coarse_names = _class_names(listing, home)
    parts = {part.name: part for part in _parts(listing, home)}
    # Stored as three planes, red first.
    pixels = {name: part.pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for name, part in parts.items()}
    images = Gathering(NumberedImages(pixels))
    for part in parts.values():
        if part.labels.max(initial=0) >= len(names):
            raise SourceError(
                f"{listing.root / home / part.name}: has label {part.labels.max()}, but there are {len(names)} classes"
            )
        if part.coarse is not None and part.coarse.max(initial=0) >= len(coarse_names):
            raise SourceError(
                f"{listing.root / home / part.name}: has coarse label {part.coarse.max()}, but there are "
                f"{len(coarse_names)} names"
            )
        for number, label in enumerate(part.labels):
            extra = {"coarse": coarse_names[part.coarse[number]]} if part.coarse is not None else {}
            images.add(
                f"{part.name}/{number:05}.png", ImageRecord(names[label], split=part.split, extra=extra)
            )
    read = {file.path for file, _ in _files(listing, home)}
    read |= {name for name in listing.others if _last(name) in _MARKERS}
    return Made(images.images().by_name(), read=read, images_in_files=True)


def _home(listing: Listing) -> str | None:
    """The folder in which it lies."""
    found = [name for name in listing.others if _last(name) in _MARKERS]
    found.sort(key=lambda name: _MARKERS.index(_last(name)))
    homes = (name.removesuffix(_last(name)) for name in found)
    return next((home for home in homes if any(_files(listing, home))), None)


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _files(listing: Listing, home: str) -> Iterator[tuple[SourceFile, str]]:
    there = {name.removeprefix(home) for name in listing.others if name.startswith(home)}
    for pattern, split in (("data_batch_*", "train"), ("train", "train"), ("train.bin", "train")):
        named = sorted(name for name in there if "/" not in name and fnmatchcase(name, pattern))
        yield from ((listing.file(home + name), split) for name in named)
    for name in ("test_batch", "test_batch.bin", "test", "test.bin"):
        if name in there:
            yield listing.file(home + name), "holdout"


def _class_names(listing: Listing, home: str) -> tuple[list[str], list[str]]:
    there = {_last(name) for name in listing.others if name == home + _last(name)}

    def names_in(name: str) -> list[str]:
        file = listing.file(home + name)
        return _names(file, read_text(file).split())

    if "batches.meta.txt" in there:
        return names_in("batches.meta.txt"), []
    if "fine_label_names.txt" in there:
        coarse = "coarse_label_names.txt"
        return names_in("fine_label_names.txt"), names_in(coarse) if coarse in there else []
    file = listing.file(home + ("batches.meta" if "batches.meta" in there else "meta"))
    meta = _unpickle(file)
    names = _names(file, meta.get("label_names", meta.get("fine_label_names", [])))
    if not names:
        raise SourceError(f"{file}: names no classes")
    return names, _names(file, meta.get("coarse_label_names", []))


def _parts(listing: Listing, home: str) -> Iterator[_Part]:
    fine_and_coarse = f"{home}fine_label_names.txt" in set(listing.others)
    for file, split in _files(listing, home):
        name = file.name.removesuffix(".bin")
        if file.suffix == ".bin":
            yield _Part(name, split, *_binary(file, fine_and_coarse))
        else:
            yield _Part(name, split, *_python(file))


def _binary(
    path: SourceFile, fine_and_coarse: bool
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64] | None]:
    labels = 2 if fine_and_coarse else 1
    # Not mapped: one that is cut off meanwhile would end this process.
    content = path.read_bytes()
    if not content or len(content) % (labels + _PIXELS):
        raise SourceError(
            f"{path}: is {len(content):,} bytes, no whole number of images of {labels + _PIXELS}; is it complete?"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, labels + _PIXELS)
    coarse = rows[:, 0].astype(np.int64) if fine_and_coarse else None
    return rows[:, labels:], rows[:, labels - 1].astype(np.int64), coarse


def _python(path: SourceFile) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64] | None]:
    content = _unpickle(path)
    pixels = content.get("data")
    if not isinstance(pixels, np.ndarray) or pixels.dtype.kind not in "iu" or pixels.shape[1:] != (_PIXELS,):
        raise SourceError(f"{path}: is no batch of CIFAR images with labels")
    if pixels.min(initial=0) < 0 or pixels.max(initial=0) > 255:
        raise SourceError(f"{path}: has pixels from {pixels.min()} to {pixels.max()}, expected 0 to 255")
    labels = _numbers(path, content.get("labels", content.get("fine_labels")), len(pixels))
    coarse = content.get("coarse_labels")
    return (
        pixels.astype(np.uint8, copy=False),
        labels,
        None if coarse is None else _numbers(path, coarse, len(pixels)),
    )


def _unpickle(path: SourceFile) -> Mapping[str, Any]:
    try:
        content = read_pickle(path.read_bytes())
    except PickleRefused as error:
        raise SourceError(
            f"{path}: is not read: {error}; the binary archives of the same images are no pickles"
        ) from error
    return {_text(key): value for key, value in content.items()}


def _numbers(path: SourceFile, found: Any, expected: int) -> NDArray[np.int64]:
    """A list, or row, of so many labels."""
    if isinstance(found, np.ndarray) and found.ndim == 1 and found.dtype.kind in "iu":
        found = found.tolist()
    if (
        not isinstance(found, list)
        or len(found) != expected
        or not all(type(each) is int and 0 <= each < _MOST_CLASSES for each in found)
    ):
        raise SourceError(f"{path}: is no batch of CIFAR images with labels")
    return np.asarray(found, np.int64)


def _names(path: SourceFile, found: Any) -> list[str]:
    if (
        not isinstance(found, list)
        or len(found) > _MOST_CLASSES
        or not all(isinstance(each, str | bytes) and len(each) <= _LONGEST_NAME for each in found)
    ):
        raise SourceError(f"{path}: does not name its classes in a list of short texts")
    return [_text(each) for each in found]


def _text(value: bytes | str) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
