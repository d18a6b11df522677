"""Grey images at hand, of which pairs are looked at: as many as may be held at once."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edge.images.decode import Pixels
from visionops_assets.dataset.views import Load

# Newer, older.
Pair = tuple[int, int]


class ImagesAtHand:
    """Grey images, the last used ones kept, up to so many `bytes` and `images`."""

    def __init__(self, pixels: NDArray[np.int64], load: Load, most_bytes: int, most_images: int) -> None:
        """`pixels` is the size of each image, which `load` gives as (number, uint8 (H, W, 1))."""
        self._sizes, self._load = pixels, load
        self._most_bytes, self._most_images = most_bytes, most_images
        self._pixels: OrderedDict[int, Pixels | None] = OrderedDict()
        self._bytes = 0

    def pairs(self, pairs: Sequence[Pair]) -> Iterator[Pair]:
        """The pairs in order, the images of each at hand."""
        for some in self._portions(pairs):
            self.prepare([one for pair in some for one in pair])
            yield from some

    def prepare(self, numbers: Sequence[int]) -> None:
        """Have all of these at hand, at least until the next call."""
        wanted = set(numbers)
        for number in [one for one in self._pixels if one not in wanted]:
            if self._bytes <= self._most_bytes and len(self._pixels) <= self._most_images:
                break
            dropped = self._pixels.pop(number)
            self._bytes -= 0 if dropped is None else dropped.nbytes
        missing = sorted(wanted - self._pixels.keys())
        self._pixels.update(dict.fromkeys(missing))
        if missing:
            for number, loaded in self._load(missing):
                self._pixels[number] = loaded
                self._bytes += loaded.nbytes

    def beside(self, numbers: Sequence[int], others: Sequence[int]) -> list[int]:
        """As many of others, in order, as may be at hand together with these."""
        room = self._most_bytes - sum(self._sizes[number] for number in numbers)
        places = np.cumsum(self._sizes[list(others)]) if others else np.zeros(0)
        return list(others[: int(np.searchsorted(places, room, side="right"))])

    def grey(self, number: int) -> Pixels | None:
        """An image at hand, (H, W), or None if it could not be loaded."""
        self._pixels.move_to_end(number)
        pixels = self._pixels[number]
        return None if pixels is None else pixels[..., 0]

    def _portions(self, pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
        """The pairs in order, each portion of as many images as may be at hand, or one pair."""
        portion: list[Pair] = []
        images: set[int] = set()
        total = 0
        for pair in pairs:
            more = sum(self._sizes[one] for one in set(pair) - images)
            if portion and (total + more > self._most_bytes or len(images) > self._most_images - 2):
                yield portion
                portion, images, total = [], set(), 0
                more = sum(self._sizes[one] for one in pair)
            portion.append(pair)
            images |= set(pair)
            total += more
        if portion:
            yield portion
