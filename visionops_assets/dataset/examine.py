"""One look at every image of a batch: hash, header, decode."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.images.decode import Pixels, decode_whole, decode_with_header
from edge.images.header import UnreadableImage
from visionops_assets.dataset.importing.source import SourceImage
from visionops_assets.dataset.views import in_a_file
from visionops_assets.images.phash import BITS, hashed

_AT_ONCE = 16
_ROUNDED = 2


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

        for start in range(0, len(images), _AT_ONCE):
            running.append(pool.submit(_examine_some, images[start : start + _AT_ONCE]))
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
    )


def _flat(pixels: Pixels) -> bool:
    """Whether all pixels (H, W, 1) are as bright, up to a JPEG's rounding. A few tell nearly all others apart."""
    if abs(pixels.item(0) - pixels.item(-1)) > _ROUNDED:
        return False
    return bool(np.ptp(pixels[::16, ::16]) <= _ROUNDED) and bool(np.ptp(pixels) <= _ROUNDED)


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
