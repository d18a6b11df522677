"""The images of a batch: each looked at once (hash, header, decode), kept as columns, and what is uploaded of them."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from edge.images.decode import Pixels, decode_whole, decode_with_header
from edge.images.header import UnreadableImage
from visionops_assets.common.arrow_columns import AT_ONCE, MadeInPortions, in_order
from visionops_assets.dataset.dataset_task import truth_of
from visionops_assets.dataset.deduplication.image_views import in_a_file
from visionops_assets.dataset.importing.file_listing import ascending
from visionops_assets.dataset.importing.image_columns import Images
from visionops_assets.dataset.importing.image_source import SourceImage, unchanged
from visionops_assets.images.phash import BITS, hashed

_EXAMINED_AT_ONCE = 16
_ROUNDED = 2
# The most that 14 bits can say of 16, as a grey value of 8.
_OF_14_BITS = 64


@dataclass(frozen=True, slots=True)
class Examined:
    """What an image is; `error` says why it cannot be used, and then the rest may be empty."""

    name: str
    sha256: str = ""
    # Its pHash, and how sure it is of the bits, int8 (64,).
    hashed: tuple[int, bytes] = (0, b"")
    format: str = ""
    frames: int = 1
    height: int = 0
    width: int = 0
    size: int = 0
    orientation: int = 1
    error: str | None = None
    # Where it is of one colour throughout: which one.
    blank: str = ""
    # Where it has 16 bits and uses few of them: its brightest grey value, of 255.
    dark: int | None = None


class Looks(NamedTuple):
    """What is kept of N images, as columns: SHA-256, uint8 (N, 32); pHash, uint64 (N,), and how sure it is of its
    bits, int8 (N, 64); height and width in pixels, int32 (N,), of the upright image; size in bytes, int64
    (N,); EXIF's orientation, uint8 (N,); and whether it can be used, bool (N,)."""

    sha256: NDArray[np.uint8]
    phash: NDArray[np.uint64]
    sureties: NDArray[np.int8]
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    size: NDArray[np.int64]
    orientation: NDArray[np.uint8]
    usable: NDArray[np.bool_]

    @classmethod
    def of(cls, count: int) -> "Looks":
        """Room for so many images, not looked at yet."""
        sha256 = np.zeros((count, 32), np.uint8)
        phashes, size = np.zeros(count, np.uint64), np.zeros(count, np.int64)
        sureties = in_a_file(count, BITS)
        height, width = np.zeros(count, np.int32), np.zeros(count, np.int32)
        orientation = np.ones(count, np.uint8)
        return cls(sha256, phashes, sureties, height, width, size, orientation, np.zeros(count, bool))

    def keeping(self, examined: Iterable[Examined]) -> Iterator[Examined]:
        """Keep what there is of each image that comes by, in order."""
        for place, one in enumerate(examined):
            self.usable[place] = one.error is None
            if one.error is None:
                self.sha256[place] = np.frombuffer(bytes.fromhex(one.sha256), np.uint8)
                (self.phash[place], sureties), self.size[place] = one.hashed, one.size
                self.sureties[place] = np.frombuffer(sureties, np.int8)
                self.height[place], self.width[place] = one.height, one.width
                self.orientation[place] = one.orientation
            yield one

    def take(self, places: NDArray[np.int64]) -> "Looks":
        """Those of some images, in this order."""
        return Looks._make(column[places] for column in self)


def examine(
    images: Sequence[SourceImage], threads: int = 2, progress: Callable[[int, int], None] | None = None
) -> Iterator[Examined]:
    """Read and decode each image once, in order, a bounded number at a time."""
    with ThreadPoolExecutor(threads, thread_name_prefix="examine") as pool:
        running: deque[Future[list[Examined]]] = deque()
        done = 0

        def finish() -> Iterator[Examined]:
            nonlocal done
            for one in running.popleft().result():
                done += 1
                yield one
            if progress:
                progress(done, len(images))

        for start in range(0, len(images), _EXAMINED_AT_ONCE):
            running.append(pool.submit(_examine_some, images[start : start + _EXAMINED_AT_ONCE]))
            if len(running) > 2 * threads:
                yield from finish()
        while running:
            yield from finish()


def _examine_some(images: Sequence[SourceImage]) -> list[Examined]:
    return [examine_one(image.name, image.read) for image in images]


def examine_one(name: str, read: Callable[[], bytes]) -> Examined:
    """Examine one image; what is wrong with it is in `error`, never raised."""
    try:
        data = read()
    except OSError as error:
        return Examined(name, error=f"cannot be read: {error.strerror or error}")
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        header, pixels = decode_with_header(data, name, None, 1)
    except UnreadableImage as error:
        return Examined(name, sha256, size=len(data), error=error.reason)
    value, sureties = hashed(pixels)
    return Examined(
        name,
        sha256,
        (value, sureties.tobytes()),
        header.format,
        header.frames,
        header.height,
        header.width,
        len(data),
        header.orientation,
        blank=_one_colour(data, name) if _flat(pixels) else "",
        dark=_brightest_if_dark(pixels) if header.bits > 8 else None,
    )


def _flat(pixels: Pixels) -> bool:
    """Whether all pixels (H, W, 1) are as bright, up to a JPEG's rounding. A few tell nearly all others apart."""
    if abs(pixels.item(0) - pixels.item(-1)) > _ROUNDED:
        return False
    return bool(np.ptp(pixels[::16, ::16]) <= _ROUNDED) and bool(np.ptp(pixels) <= _ROUNDED)


def _brightest_if_dark(pixels: Pixels) -> int | None:
    """The brightest grey value of an image whose camera had at most 14 bits, and stored them as the lowest of 16."""
    brightest = int(pixels.max())
    return brightest if brightest <= _OF_14_BITS else None


def _one_colour(data: bytes, name: str) -> str:
    """The colour of all pixels; empty where there are several that are as bright."""
    pixels = decode_whole(data, name, 3)
    lowest, highest = pixels.min(axis=(0, 1)), pixels.max(axis=(0, 1))
    if (highest - lowest).max() > _ROUNDED:
        return ""
    if highest.max() <= _ROUNDED:
        return "black"
    # Transparent pixels are laid over white.
    return "white or transparent" if lowest.min() == 255 else "of one colour"


@dataclass(frozen=True)
class BatchImages:
    """N images with what they are; `paths` are those in the repository, text (N,)."""

    images: Images
    paths: pa.Array
    looks: Looks

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, places: NDArray[np.int64]) -> "BatchImages":
        """Some of them, in this order."""
        if len(places) == len(self) and ascending(places):
            return self
        paths = self.paths.take(pa.array(places))
        return BatchImages(self.images.take(places), paths, self.looks.take(places))

    def sha256(self, place: int) -> str:
        """The SHA-256 of the image at a place, as hex digits."""
        return str(self.looks.sha256[place].tobytes().hex())

    def ages(self) -> NDArray[np.int64]:
        """The places from the oldest image to the newest; what has no time comes after what has one, by path."""
        by_path = in_order(self.paths)
        if self.images.captured_at is None:
            return by_path
        times = self.images.captured_at
        known = times.is_valid().to_numpy(zero_copy_only=False)
        seconds = times.cast(pa.int64()).fill_null(0).to_numpy() / 1e6
        return by_path[np.lexsort((seconds[by_path], ~known[by_path]))]

    def label_sets(self) -> Iterator[tuple[str, ...]]:
        """The classes of each image, each once."""
        own, drawn = self.images.own, truth_of(("boxes",)).task
        for start in range(0, len(self), AT_ONCE):
            for image in self.images[start : start + AT_ONCE]:
                if own is not None:
                    said = image.extra.get(own.column)
                    yield ("",) if said is None else own.task.classes(said)
                else:
                    yield (image.label or "",) if image.boxes is None else drawn.classes(image.boxes)


def label_sets_of(table: pa.Table) -> Iterator[tuple[str, ...]]:
    """The classes of each row of a manifest, each once."""
    column, task = truth_of(table.column_names)
    for start in range(0, len(table), AT_ONCE):
        for truth in table[column][start : start + AT_ONCE].to_pylist():
            yield task.classes(truth)


def numbers_of(
    sets: Iterator[tuple[str, ...]], count: int, known: dict[tuple[str, ...], int]
) -> NDArray[np.int32]:
    """The number of each of so many sets in `known`, which gets those that it lacks, int32 (N,)."""
    return np.fromiter((known.setdefault(one, len(known)) for one in sets), np.int32, count)


@dataclass(frozen=True, slots=True)
class Upload:
    """An image to be written."""

    path: str
    sha256: str
    size: int
    image: SourceImage = field(repr=False)

    def read(self) -> bytes:
        """Its bytes. Raises `SourceChanged` when they are not those that were audited."""
        return unchanged(self.image, self.sha256)


class Uploads(MadeInPortions[Upload]):
    """The images of a batch, each made into an `Upload` when it is asked for.

    `rows` says in which row of the annotations each image is, int64 (N,).
    """

    def __init__(self, images: Images, annotations: pa.Table, rows: NDArray[np.int64]) -> None:
        self._images, self._annotations, self.rows = images, annotations, rows

    def __len__(self) -> int:
        return len(self.rows)

    def portion(self, start: int, stop: int) -> list[Upload]:
        rows = self._annotations.select(["path", "sha256", "size"]).take(pa.array(self.rows[start:stop]))
        columns = (column.to_pylist() for column in rows.columns)
        return [
            Upload(path, sha256, size, image)
            for image, path, sha256, size in zip(self._images.portion(start, stop), *columns, strict=True)
        ]

    def paths(self) -> Iterator[str]:
        """The paths of all, sorted: row by row."""
        column = self._annotations["path"]
        for start in range(0, len(column), AT_ONCE):
            yield from column[start : start + AT_ONCE].to_pylist()
