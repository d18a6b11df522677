"""What images are compared by, fine details where they have any, else what they show at a small size; and grey
images at hand, of which pairs are looked at: as many as may be held at once.
"""

import mmap
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.images.decode import Pixels
from visionops_assets.dataset.deduplication import exposures, forensics, similarity


class Loaded(NamedTuple):
    """A grey image, uint8 (H, W, 1), by its number, and the table (64,) of its file, if it has one."""

    number: int
    pixels: Pixels
    table: NDArray[np.float64] | None = None


Load = Callable[[Sequence[int]], Iterator[Loaded]]

# Levels that a pair may be compared on, by the side in pixels: details on the larger, miniatures on the others.
LEVELS = (*similarity.DETAIL_LEVELS, *similarity.MINIATURE_SIDES)
NO_LEVEL, UNSEEN = 0, 255

# Qualities by which the table of one image may be taken for another's; and the first number of tables that are none of
# the IJG's, each so far from the next.
_TABLES_ALIKE, _OWN_TABLES = 2, 300
_PAIRS_AT_ONCE = 1 << 9
# Newer, older.
Pair = tuple[int, int]


def in_a_file(rows: int, values: int) -> NDArray[np.int8]:
    """Zeros, int8 (rows, values), in a file without a name, which goes with the process, killed or not."""
    if not rows:
        return np.zeros((rows, values), np.int8)
    with tempfile.TemporaryFile(prefix="visionops-views-") as file:
        # Plain, since every part of a `memmap` is made at some cost.
        return np.asarray(np.memmap(file, np.int8, "w+", shape=(rows, values)))


def _let_go(values: NDArray[np.int8]) -> None:
    """Let the system take the memory of an array in a file, of which it keeps what is written."""
    if isinstance(values.base, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
        values.base._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


class Views:
    """The views of images by number and level, made when they are first asked for."""

    def __init__(self, pixels: Sequence[int] | NDArray[np.int64], load: Load, at_once: int) -> None:
        """`pixels` is the size of each image, `at_once` that of those that are loaded together."""
        self._load, self._at_once = load, at_once
        self._pixels = np.asarray(pixels, np.int64)
        # Of each image the largest level of either kind that it has.
        self._details, self._miniature = (np.full(len(self._pixels), UNSEEN, np.uint8) for _ in range(2))
        # Images stand in the order in which they were looked at, so that a few take few pages.
        self._places = np.zeros(len(self._pixels), np.int32)
        self._known = 0
        # How each is stored; the number of its file's table, whatever is left of it in the pixels, 0 for none.
        self._stored, self._table = (np.zeros(len(self._pixels), np.uint16) for _ in range(2))
        self._tables: dict[int, NDArray[np.float64]] = dict(enumerate(forensics.ijg_tables(), start=1))
        self._numbers = {table.tobytes(): number for number, table in self._tables.items()}
        self._vectors: dict[int, NDArray[np.int8]] = {}
        self._lengths: dict[int, NDArray[np.float32]] = {}

    def prepare(self, numbers: NDArray[np.int64]) -> None:
        """Look at those that were not looked at yet; what `load` leaves out has no views."""
        missing = np.unique(numbers[self._details[numbers] == UNSEEN])
        for some in portions(missing, self._pixels, self._at_once):
            part = some.tolist()
            self._details[part] = self._miniature[part] = NO_LEVEL
            for number, pixels, table in self._load(part):
                self._places[number], self._known = self._known, self._known + 1
                fine, small = (of(pixels[..., 0]) for of in (similarity.details_of, similarity.miniatures_of))
                for level, vector in (fine | small).items():
                    self._keep(self._known - 1, level, vector)
                self._stored[number] = exposures.stored_as(pixels[..., 0])
                if table is not None and (of_file := self._number_of(table)):
                    self._table[number] = of_file
                    if self._stored[number] != forensics.PLAIN:
                        self._stored[number] = of_file
                self._details[number] = max(fine, default=NO_LEVEL)
                self._miniature[number] = max(small, default=NO_LEVEL)
            for vectors in self._vectors.values():
                _let_go(vectors)

    def levels(self, ones: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The level that images are compared on, of the shape that both broadcast to."""
        fine = np.minimum(self._details[ones], self._details[others])
        return np.where(fine == NO_LEVEL, self.shared_miniature(ones, others), fine)

    def shared_miniature(self, ones: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The largest miniature that both have, of the shape that both broadcast to."""
        return np.minimum(self._miniature[ones], self._miniature[others])

    def may_be_made_over(
        self, ones: NDArray[np.int64], others: NDArray[np.int64], level: int
    ) -> NDArray[np.bool_]:
        """Whether either of images compared on a level may be the other quantised or resized, of the shape that both
        broadcast to: they differ in size or table. Encoded by its own table again a JPEG stays as it is."""
        one, other = self._stored[ones], self._stored[others]
        apart = np.abs(one.astype(np.int32) - other) > _TABLES_ALIKE
        # Small images show their table less surely, and none that there is none.
        sure = (one != forensics.UNKNOWN) & (
            (one != forensics.NO_TABLE) | (level in similarity.DETAIL_LEVELS)
        )
        differ: NDArray[np.bool_] = self._pixels[ones] != self._pixels[others]
        differ |= apart | ((one != forensics.PLAIN) & ~sure)
        return differ

    def show_their_table(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which images (N,) were quantised by a table that is known."""
        stored = self._stored[numbers]
        return ~np.isin(stored, (forensics.NO_TABLE, forensics.PLAIN, forensics.UNKNOWN))

    def stored_as(self, number: int) -> int:
        """How an image that was looked at is stored, as `exposures.stored_as`, or by which table of its file."""
        return int(self._stored[number])

    def table(self, number: int) -> NDArray[np.float64] | None:
        """The table (64,) that an image shows that it was quantised by, if it is known."""
        return self._tables.get(self.stored_as(number))

    def table_of_file(self, number: int) -> NDArray[np.float64] | None:
        """The table (64,) of an image's file, though so fine that its pixels may not show it."""
        return self._tables.get(int(self._table[number]))

    def by_one_table(self, one: int, other: int) -> bool:
        """Whether two images were quantised by the same table, and it is known: by their pixels or their files."""
        if self._table[one] and self._table[one] == self._table[other]:
            return True
        return self.stored_as(one) == self.stored_as(other) and exposures.has_table(self.stored_as(one))

    def differ_in_size(self, one: int, other: int) -> bool:
        """Whether two images have different numbers of pixels."""
        return bool(self._pixels[one] != self._pixels[other])

    def correlation(self, ones: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
        """The correlation of pairs (P,) of images that have a level, at the largest miniature that both have."""
        sides = self.shared_miniature(ones, others)
        # Where only details show, there is nothing coarser.
        sides = np.where(sides == NO_LEVEL, min(similarity.DETAIL_LEVELS), sides)
        found = np.empty(len(ones))
        for side in np.unique(sides).tolist():
            here = sides == side
            found[here] = self.likeness(ones[here], others[here], side)
        return np.minimum(found, 1.0)

    def likeness(self, ones: NDArray[np.int64], others: NDArray[np.int64], level: int) -> NDArray[np.float32]:
        """The correlation of pairs (P,) on a level that both have."""
        found = np.empty(len(ones), np.float32)
        for start in range(0, len(ones), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            a, b = self._whole(ones[part], level), self._whole(others[part], level)
            found[part] = np.einsum("ij,ij->i", a, b)
        return found / (self._length(ones, level) * self._length(others, level))

    def likeness_of_two(self, one: int, other: int) -> float:
        """The correlation of two images on the level that they are compared on."""
        ones, others = np.array([one]), np.array([other])
        return float(self.likeness(ones, others, int(self.levels(ones, others)[0]))[0])

    def likeness_of_all(
        self, ones: NDArray[np.int64], others: NDArray[np.int64], level: int
    ) -> NDArray[np.float32]:
        """The correlation of each of images (N,) with each of others (M,) on a level that all have, (N, M)."""
        products = self._whole(ones, level) @ self._whole(others, level).T
        products /= np.outer(self._length(ones, level), self._length(others, level))
        return products

    def differences(
        self, ones: NDArray[np.int64], others: NDArray[np.int64], level: int
    ) -> NDArray[np.float64]:
        """How far the miniatures of pairs (P,) are apart, (P,)."""
        found = np.empty(len(ones))
        for start in range(0, len(ones), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            a, b = (self._kept(numbers[part], level) for numbers in (ones, others))
            found[part] = similarity.miniature_differences(a, b)
        return found

    def unit(self, numbers: NDArray[np.int64], level: int) -> NDArray[np.float32]:
        """The views of images as vectors of length 1, (N, values)."""
        return self._whole(numbers, level) / self._length(numbers, level)[:, None]

    def _whole(self, numbers: NDArray[np.int64], level: int) -> NDArray[np.float32]:
        """The views of images as whole numbers, (N, values), of which float32 holds every sum of products."""
        return self._kept(numbers, level).astype(np.float32)

    def _kept(self, numbers: NDArray[np.int64], level: int) -> NDArray[np.int8]:
        vectors = self._vectors[level]
        found = vectors[self._places[numbers]]
        _let_go(vectors)
        return found

    def _length(self, numbers: NDArray[np.int64], level: int) -> NDArray[np.float32]:
        return self._lengths[level][self._places[numbers]]

    def _number_of(self, table: NDArray[np.float64]) -> int:
        """By which number a table is known; 0 where there are too many."""
        key = table.tobytes()
        if key not in self._numbers:
            number = _OWN_TABLES + (len(self._numbers) - len(forensics.ijg_tables())) * (_TABLES_ALIKE + 1)
            if number > np.iinfo(np.uint16).max:
                return 0
            self._numbers[key], self._tables[number] = number, table
        return self._numbers[key]

    def _keep(self, place: int, level: int, vector: NDArray[np.int8]) -> None:
        if level not in self._vectors:
            self._lengths[level] = np.ones(len(self._pixels), np.float32)
            self._vectors[level] = in_a_file(len(self._pixels), len(vector))
        self._vectors[level][place] = vector
        whole = vector.astype(np.float32)
        self._lengths[level][place] = np.sqrt(whole @ whole)


def portions(
    numbers: NDArray[np.int64], pixels: NDArray[np.int64], at_once: int
) -> Iterator[NDArray[np.int64]]:
    """Images in portions of about so many pixels, or one image."""
    portion = np.cumsum(pixels[numbers]) // at_once
    for start in np.flatnonzero(np.diff(portion, prepend=-1)).tolist():
        yield numbers[portion == portion[start]]


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
            for number, loaded, _ in self._load(missing):
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
