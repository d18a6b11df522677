"""Which pairs of images are looked at: those whose pHashes agree where the newer image is sure of its bits.

Encoding again turns bits whose frequency is near the median of all, of which a plain image has many; a bit far from it
stays. Of an older image only the bits are kept, so they are weighed by the square of the newer one's sureties: of
copies at most 8% of the weight differs, 12% where one is tiny. Of two new images the sureties themselves must
correlate too. All counts are whole numbers that float32 holds exactly, hence the same pairs on every machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from visionops_assets.images.phash import BITS, PhashIndex

# Of the weight, what may differ; of images of fewer pixels than `_TINY` the second.
_DIFFERENT, _DIFFERENT_WHERE_TINY = 0.08, 0.12
_TINY = 20 * 20
# Times the median of an image's sureties that one counts at most.
_TIMES_THE_USUAL = 3
# What the sureties of copies correlate at least by; those of tiny ones the second.
_ALIKE, _ALIKE_WHERE_TINY = 0.92, 0.75
# Images that are compared with one another at once, and up to how many pairs all are.
_ROWS, _COLUMNS = 256, 512
_COMPARED_AT_MOST = 20_000_000_000
# Images that agree in the bits that weigh most are one kind, of so many images, told by so many bits of so many new
# images; what is compared with the kinds at once; and which share of all pairs is worth a look by kind.
_OF_A_KIND, _MOST_BITS, _WEIGHED, _AT_ONCE, _LEFT_AT_MOST = 64, 12, 1 << 12, 1 << 20, 0.3
# One pair of so many is worth a look of its own.
FEW = 50
_PAIRS_AT_ONCE = 1 << 14


@dataclass
class Block:
    """Images `newer` (N,), `older` (M,), and which pairs are proposed, the first being the newer: `maybe` (N, M)."""

    newer: NDArray[np.int64]
    older: NDArray[np.int64]
    maybe: NDArray[np.bool_]


class Pairs(NamedTuple):
    """Pairs that are proposed, each of a `newer` and an `older` image, (P,)."""

    newer: NDArray[np.int64]
    older: NDArray[np.int64]


@dataclass(frozen=True)
class Hashes:
    """pHashes (N,) of images from oldest to newest, those from `first_new` on new; the sureties of these, int8; and
    the pixels that each has."""

    phashes: NDArray[np.uint64]
    sureties: NDArray[np.int8]
    pixels: NDArray[np.int64]
    first_new: int

    def proposed(self) -> Iterator[Block | Pairs]:
        """Every pair that is proposed and whose newer image is new, once: as blocks where they are many.

        Up to some ten thousand millions of pairs in all they are compared with one another; beyond, an index finds
        those of which at most 8 bits differ, which may leave out a copy of a plain image.
        """
        count = len(self.phashes)
        too_many = (count - self.first_new) * count > _COMPARED_AT_MOST
        few: list[Pairs] = []
        held = 0
        for found in self._indexed() if too_many else self._compared():
            if isinstance(found, Block):
                yield found
                continue
            few.append(found)
            held += len(found.newer)
            if held >= _PAIRS_AT_ONCE:
                yield Pairs(*map(np.concatenate, zip(*few, strict=True)))
                few, held = [], 0
        if few:
            yield Pairs(*map(np.concatenate, zip(*few, strict=True)))

    def _compared(self) -> Iterator[Block | Pairs]:
        count = len(self.phashes)
        if self.first_new == count:
            return
        kinds = _Kinds.of(self)
        for start in range(self.first_new, count, kinds.at_once):
            newer = np.arange(start, min(start + kinds.at_once, count))
            weighed = self._weighed(newer)
            may = kinds.may_be_near(*weighed)
            if may.sum(axis=0) @ kinds.sizes <= _LEFT_AT_MOST * len(newer) * count:
                for kind in np.flatnonzero(may.any(axis=0)).tolist():
                    yield from self._compared_with(newer, kinds.members(kind), weighed, may[:, kind])
            else:
                yield from self._compared_with(newer, np.arange(count), weighed, np.ones(len(newer), bool))

    def _compared_with(
        self,
        newer: NDArray[np.int64],
        others: NDArray[np.int64],
        weighed: tuple[NDArray[np.float32], NDArray[np.float32]],
        chosen: NDArray[np.bool_],
    ) -> Iterator[Block | Pairs]:
        """The pairs of those of the new images that are chosen, (N,), and of others (M,) that are older."""
        chosen_rows = np.flatnonzero(chosen)
        for first in range(0, len(chosen_rows), _ROWS):
            here = chosen_rows[first : first + _ROWS]
            some, of_some = newer[here], (weighed[0][here], weighed[1][here])
            last = int(np.searchsorted(others, some[-1]))
            for place in range(0, last, _COLUMNS):
                older = others[place : min(place + _COLUMNS, last)]
                near = self._near(some, older, of_some)
                # Of a flat array numpy finds a few faster.
                if np.count_nonzero(near) * FEW < near.size:
                    rows, columns = np.divmod(np.flatnonzero(near), len(older))
                    pairs = self._alike(some[rows], older[columns])
                    if len(pairs.newer):
                        yield pairs
                    continue
                self._keep_alike(some, older, near)
                if near.any():
                    yield Block(some, older, near)

    def _weighed(self, newer: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The bits of new images by their weight, and the sum of the weights."""
        sureties = self.sureties[newer - self.first_new].astype(np.float32)
        # A few strong frequencies do not decide alone.
        most = _TIMES_THE_USUAL * np.median(np.abs(sureties[:, 1:]), axis=1, keepdims=True)
        weights = np.minimum(np.abs(sureties), most) ** 2
        # An image that shows nothing is sure of all its bits alike.
        weights[~weights.any(axis=1)] = 1
        return weights * _signs(self.phashes[newer]), weights.sum(axis=1)

    def _near(
        self,
        newer: NDArray[np.int64],
        older: NDArray[np.int64],
        weighed: tuple[NDArray[np.float32], NDArray[np.float32]],
    ) -> NDArray[np.bool_]:
        weights, total = weighed
        agreed = weights @ _signs(self.phashes[older]).T
        near: NDArray[np.bool_] = agreed >= ((1 - 2 * _DIFFERENT) * total)[:, None]
        tiny = self._tiny(newer), self._tiny(older)
        if tiny[0].any() or tiny[1].any():
            also = agreed >= ((1 - 2 * _DIFFERENT_WHERE_TINY) * total)[:, None]
            near |= also & (tiny[0][:, None] | tiny[1])
        return near

    def _tiny(self, images: NDArray[np.int64]) -> NDArray[np.bool_]:
        return self.pixels[images] < _TINY

    def _alike(self, newer: NDArray[np.int64], older: NDArray[np.int64]) -> Pairs:
        """Those of pairs (P,) of which the second is older, and of whose new images the sureties correlate."""
        earlier = older < newer
        newer, older = newer[earlier], older[earlier]
        alike = np.ones(len(newer), bool)
        new = np.flatnonzero(older >= self.first_new)
        a, b = self._sureties(newer[new]), self._sureties(older[new])
        squares = np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b)
        tiny = self._tiny(newer[new]) | self._tiny(older[new])
        alike[new] = np.einsum("ij,ij->i", a, b) >= _least(tiny) * np.sqrt(squares)
        return Pairs(newer[alike], older[alike])

    def _keep_alike(
        self, newer: NDArray[np.int64], older: NDArray[np.int64], near: NDArray[np.bool_]
    ) -> None:
        """Take from `near` (N, M) the pairs out that are no such: for where there are many, as in a scene."""
        if older[-1] >= newer[0]:
            near &= older < newer[:, None]
        first = int(np.searchsorted(older, self.first_new))
        if first == len(older):
            return
        a, b = self._sureties(newer), self._sureties(older[first:])
        squares = np.outer(np.einsum("ij,ij->i", a, a), np.einsum("ij,ij->i", b, b))
        tiny = self._tiny(newer)[:, None] | self._tiny(older[first:])
        least: NDArray[np.float32] = _least(tiny if tiny.any() else tiny[:1, :1])
        near[:, first:] &= a @ b.T >= least * np.sqrt(squares)

    def _sureties(self, images: NDArray[np.int64]) -> NDArray[np.float32]:
        return self.sureties[images - self.first_new].astype(np.float32)

    def _indexed(self) -> Iterator[Block | Pairs]:
        first = self.first_new
        for part in PhashIndex(self.phashes).near(self.phashes[first:]):
            chosen = part.match < part.query + first
            newer, row = np.unique(part.query[chosen] + first, return_inverse=True)
            older, column = np.unique(part.match[chosen], return_inverse=True)
            for start in range(0, len(newer), _ROWS):
                here = (row >= start) & (row < start + _ROWS)
                yield _arranged(newer[start : start + _ROWS], older, row[here] - start, column[here])


@dataclass(frozen=True)
class _Kinds:
    """Images by the bits that weigh most, K kinds: which bits, as 1 and -1 float32 (K, bits), and the images of each
    kind by number. Whatever the other bits are, images of a kind whose bits differ by too much are not near."""

    bits: NDArray[np.int64]
    signs: NDArray[np.float32]
    order: NDArray[np.int32]
    sizes: NDArray[np.int64]
    different: float

    @classmethod
    def of(cls, hashes: Hashes) -> "_Kinds":
        """The kinds of all images, by the bits that weigh most in some new ones."""
        count = len(hashes.phashes)
        some = np.arange(hashes.first_new, count)[:: max(1, (count - hashes.first_new) // _WEIGHED)]
        weights, total = hashes._weighed(some)
        number = int(np.clip(np.log2(max(1, count / _OF_A_KIND)), 0, _MOST_BITS))
        bits = np.argsort(-np.mean(np.abs(weights) / total[:, None], axis=0), kind="stable")[:number]
        keys = np.zeros(count, np.uint16)
        for bit in bits.tolist():
            keys = keys << np.uint16(1) | (hashes.phashes >> np.uint64(BITS - 1 - bit) & np.uint64(1)).astype(
                np.uint16
            )
        kinds, sizes = np.unique(keys, return_counts=True)
        order = np.argsort(keys, kind="stable").astype(np.int32)
        signs = (kinds[:, None] >> np.arange(number)[::-1].astype(np.uint16) & 1).astype(np.float32) * 2 - 1
        tiny = bool((hashes.pixels < _TINY).any())
        return cls(bits, signs, order, sizes, _DIFFERENT_WHERE_TINY if tiny else _DIFFERENT)

    @property
    def at_once(self) -> int:
        """How many new images are looked at together."""
        return max(_ROWS, _AT_ONCE // len(self.sizes))

    def members(self, kind: int) -> NDArray[np.int64]:
        """The images of a kind, in order."""
        end = int(self.sizes[: kind + 1].sum())
        return self.order[end - int(self.sizes[kind]) : end].astype(np.int64)

    def may_be_near(self, weights: NDArray[np.float32], total: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which kinds (K,) new images (N,) may be near to, by what `Hashes._weighed` says of them, (N, K)."""
        own = weights[:, self.bits]
        agreed_at_most = (total - np.abs(own).sum(axis=1))[:, None] + own @ self.signs.T
        return np.asarray(agreed_at_most >= ((1 - 2 * self.different) * total)[:, None])


def _arranged(
    newer: NDArray[np.int64], older: NDArray[np.int64], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> Block | Pairs:
    """Pairs, given by their places in `newer` and `older`, as a block if they are many of all that these make."""
    if len(rows) * FEW < len(newer) * len(older):
        return Pairs(newer[rows], older[columns])
    maybe = np.zeros((len(newer), len(older)), bool)
    maybe[rows, columns] = True
    return Block(newer, older, maybe)


def _least(tiny: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What the sureties of copies correlate by at least."""
    return np.where(tiny, _ALIKE_WHERE_TINY, _ALIKE).astype(np.float32)


def _signs(phashes: NDArray[np.uint64]) -> NDArray[np.float32]:
    """The bits of pHashes (N,) as 1 and -1, highest first, (N, 64)."""
    bits = np.unpackbits(phashes.astype(">u8").view(np.uint8).reshape(-1, BITS // 8), axis=1)
    return bits.astype(np.float32) * 2 - 1
