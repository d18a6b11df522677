"""Whether two images are of one exposure: the one, resized and quantised as the other was, is the other.

What encoding takes away it takes from both: quantised by the other's table, an image gives the very coefficients of its
copy, while another exposure of the same scene, whose noise is another, gives some that lie a step beside. The table is
that of the file, else found from the image: one of the hundred of the IJG's `jpeg_set_quality`.

The evidence is the log likelihood ratio, in nats, of the coefficients of one image given the other: made of it, with an
error of rounding, against another exposure, as far from it as its neighbours are. Of two exposures it is above T in at
most exp(−T) of all pairs (Neyman and Pearson, 1933), if they are no nearer than that.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import log_ndtr

from edge.images.decode import Pixels
from visionops_assets.dataset.deduplication.forensics import (
    BLOCK,
    BLOCKS_FOR_THE_TABLE,
    NO_TABLE,
    PLAIN,
    ROUNDED,
    UNKNOWN,
    Blocks,
    blocks_of,
    ijg_tables,
    jpeg_quality,
    jpeg_quality_behind_noise,
    lost_blocks,
    values_of,
)

# Pillow's filters that average when they shrink, and those of other libraries that do not.
_FILTERS = tuple(
    (Image.Resampling[name], averaging)
    for name, averaging in (
        ("BILINEAR", True),
        ("BICUBIC", True),
        ("LANCZOS", True),
        ("BOX", True),
        ("HAMMING", True),
        ("BILINEAR", False),
        ("BICUBIC", False),
    )
)
# The standard deviation of a coefficient of other exposures, before they were resized: both have a noise of 1.
_OTHER = 2**0.5
# A standard deviation of a normal distribution by its median absolute value.
_DEVIATIONS = 1.4826
# Mean square of grey values by which no copy differs.
_FAR = 20.0**2
# Grey values by which decoders differ, and coefficients of a block that may have been rounded either way.
_DECODED_ALIKE, _DOUBTFUL = 2, 4
# Which of those are rounded the other way in each trial, (16, 4), and blocks that are tried at once.
_TRIALS = (np.arange(1 << _DOUBTFUL)[:, None] >> np.arange(_DOUBTFUL) & 1).astype(bool)
_TRIED_AT_ONCE = 64
# Of a clipped or cut block that is not known, so many coefficients may lie a step aside.
_STEPS_ASIDE = 4
# Blocks on which most are told, and on which evidence is.
_BLOCKS_AT_FIRST, _BLOCKS = 32, 1024
# Degrees of tone curves, and pixels that a tone curve is fitted to.
_TONES, _PIXELS_FOR_THE_TONE = (0, 1, 3), 4096
# What one block may say against a copy, in nats, and one coefficient against what is only sketched.
_AGAINST, _AGAINST_A_COEFFICIENT = -60.0, 8.0
_BLOCKS_OF_A_SKETCH = 32
_NOISE_SIDE = 128
NO_EVIDENCE = -1e9
# Evidence that is enough: of other exposures at most one pair in a million has as much.
ENOUGH = 14.0


class Exposure(NamedTuple):
    """A grey image (H, W), its `usual_difference`, if it is known, and the table (64,) of its file."""

    grey: Pixels
    usual: NDArray[np.float64] | None = None
    table: NDArray[np.float64] | None = None


def stored_as(grey: Pixels) -> int:
    """The quality by whose table a grey image (H, W) was quantised, or `PLAIN`, `NO_TABLE`, `UNKNOWN`."""
    return jpeg_quality(blocks_of(grey.astype(np.float64), BLOCKS_FOR_THE_TABLE))


def usual_difference(one: Pixels, others: Sequence[Pixels], rank: int) -> NDArray[np.float64] | None:
    """How far other exposures are from a grey image (H, W), as standard deviations of the coefficients of most of its
    blocks, (64,): of the others the one that is so near by rank, the nearest where there are fewer, None of none."""
    apart, wanted = [], one.astype(np.float64)
    own = blocks_of(wanted, _BLOCKS_AT_FIRST).coefficients
    for other in others:
        for made, _ in _resized(other, one):
            toned = _toned(made, wanted, 1)
            predicted = made if toned is None else toned
            off = np.abs(blocks_of(predicted, _BLOCKS_AT_FIRST).coefficients - own)
            apart.append((float(np.mean((predicted - wanted) ** 2)), np.median(off, axis=0) * _DEVIATIONS))
    if apart:
        apart.sort(key=lambda one: one[0])
        return apart[rank - 1 if len(apart) >= rank else 0][1]
    return None


def evidence(one: Exposure, other: Exposure) -> float:
    """How much two images show that either was made of the other, in nats, given their usual differences;
    `NO_EVIDENCE` where something speaks against it.

    Where neither has any, other exposures differ by the noise of the one, of one grey value at most.
    """
    first = other.usual if one.usual is None else one.usual
    second = one.usual if other.usual is None else other.usual
    return max(_made_of(one.grey, other, first), _made_of(other.grey, one, second))


def filter_of(source: Pixels, target: Pixels) -> int:
    """The number of the filter that makes an image (H, W) most like another at the other's size; 0 where it has it."""
    if source.shape == target.shape or not _of_one_shape(source, target):
        return 0
    height, width = target.shape
    made = (_by_filter(source, height, width, number) for number in range(len(_FILTERS)))
    return int(np.argmin([np.mean((one - target) ** 2) for one in made]))


def sketch(source: Pixels, target: Pixels, number: int) -> NDArray[np.float32] | None:
    """Some coefficients that a grey image (H, W) has at the size of a target, by a filter, float32 (N, 64); None where
    it is of another shape."""
    if not _of_one_shape(source, target):
        return None
    height, width = target.shape
    made = source.astype(np.float64)
    if source.shape != target.shape:
        made = _by_filter(source, height, width, number)
    return blocks_of(made, _BLOCKS_OF_A_SKETCH).coefficients.astype(np.float32)


def nearest_by_sketch(
    target: NDArray[np.float32], others: NDArray[np.float32], table: NDArray[np.float64] | None
) -> int:
    """Which of the sketches of others (M, N, 64) is nearest to one (N, 64), quantised by its table (64,), if it has
    one: as it is, or with the contrast and brightness that make it most like."""
    table = None if table is None else table.astype(np.float32)
    changing = others[..., 1:]
    gain = np.sum(changing * target[:, 1:], axis=(1, 2)) / np.maximum(np.sum(changing**2, axis=(1, 2)), 1)
    toned = others * gain[:, None, None]
    toned[..., 0] += np.mean(target[:, 0] - toned[..., 0], axis=1, keepdims=True)
    against = []
    for made in (others, toned):
        if table is None:
            off = np.abs(made - target)
        else:
            off = np.maximum(np.abs(made - np.rint(target / table) * table) - table / 2, 0)
        # A few that are far aside are marks, or were clipped.
        against.append(np.minimum(off * off / (2 * ROUNDED**2), _AGAINST_A_COEFFICIENT).sum(axis=(1, 2)))
    return int(np.argmin(np.min(against, axis=0)))


def has_table(stored: int) -> bool:
    """Whether `stored_as` is a quality."""
    return stored not in (NO_TABLE, PLAIN, UNKNOWN)


def _noise(grey: Pixels) -> NDArray[np.float64]:
    own = blocks_of(grey.astype(np.float64), _BLOCKS_AT_FIRST).coefficients
    return np.minimum(_OTHER, 2**0.5 * _DEVIATIONS * np.median(np.abs(own), axis=0))


def _made_of(source: Pixels, target: Exposure, usual: NDArray[np.float64] | None) -> float:
    """The evidence that `target` was made of `source`."""
    wanted, best = target.grey.astype(np.float64), NO_EVIDENCE
    some, b = (blocks_of(wanted, most) for most in (_BLOCKS_AT_FIRST, _BLOCKS))
    tables = _tables_of(b) if target.table is None else target.table[None]
    usual = _noise(source) if usual is None else usual
    for predicted, gains in _resized(source, target.grey, len(tables) > 0):
        other = np.hypot(usual * gains, ROUNDED)
        for degree in _TONES:
            toned = _toned(predicted, wanted, degree) if degree else predicted
            if toned is None or np.mean((toned - wanted) ** 2) >= _FAR:
                continue
            # Most others are told by a few blocks.
            found = _given(blocks_of(toned, _BLOCKS_AT_FIRST), some, tables, other)
            if found <= 0:
                continue
            if len(b.values) > len(some.values):
                found = _given(blocks_of(toned, _BLOCKS), b, tables, other)
            best = max(best, found)
            if best >= ENOUGH:
                return best
    return best


def _resized(
    source: Pixels, target: Pixels, all_filters: bool = False
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The source at the target's size, by the filter that makes it most like it, or by all, since encoding takes away
    what tells filters apart; and how much of a noise is left by frequency, (64,)."""
    if source.shape == target.shape:
        return [(source.astype(np.float64), np.ones(BLOCK * BLOCK))]
    (height, width), wanted = target.shape, target.astype(np.float64)
    if not _of_one_shape(source, target):
        return []
    made = [_by_filter(source, height, width, number) for number in range(len(_FILTERS))]
    off = [float(np.mean((one - one.mean() - wanted + wanted.mean()) ** 2)) for one in made]
    chosen = np.argsort(off, kind="stable")[: None if all_filters else 1].tolist()
    scale = round(height / source.shape[0], 2)
    return [(made[number], _noise_left(number, scale)) for number in chosen]


def _of_one_shape(source: Pixels, target: Pixels) -> bool:
    (height, width), (own_height, own_width) = target.shape, source.shape
    return bool(abs(height * own_width / (width * own_height) - 1) <= 2 / min(height, width))


def _by_filter(source: Pixels, height: int, width: int, number: int) -> NDArray[np.float64]:
    how, averaging = _FILTERS[number]
    image = Image.fromarray(np.ascontiguousarray(source)).convert("F")
    if averaging:
        return np.clip(np.asarray(image.resize((width, height), how), np.float64), 0, 255)
    down, across = source.shape[0] / height, source.shape[1] / width
    made = image.transform((width, height), Image.Transform.AFFINE, (across, 0, 0, 0, down, 0), how)
    return np.clip(np.asarray(made, np.float64), 0, 255)


@cache
def _noise_left(number: int, scale: float) -> NDArray[np.float64]:
    """The standard deviation by frequency of white noise of 1 that was resized, (64,)."""
    noise = np.random.default_rng(0).normal(128, 16, (_NOISE_SIDE, _NOISE_SIDE)).clip(0, 255).astype(np.uint8)
    side = max(BLOCK, round(_NOISE_SIDE * scale))
    made = blocks_of(_by_filter(noise, side, side, number), _BLOCKS).coefficients
    found: NDArray[np.float64] = np.sqrt(np.mean((made - made.mean(axis=0)) ** 2, axis=0)) / 16
    return found


def _toned(
    predicted: NDArray[np.float64], wanted: NDArray[np.float64], degree: int
) -> NDArray[np.float64] | None:
    """What is predicted with the tone curve that fits best, a polynomial: contrast, brightness and bends."""
    every = max(1, wanted.size // _PIXELS_FOR_THE_TONE)
    some, like = predicted.ravel()[::every], wanted.ravel()[::every]
    inner = (like > 0) & (like < 255) & (some > 0) & (some < 255)
    if inner.sum() < 4 * BLOCK:
        return None
    a, b = some[inner] / 255, like[inner]
    if np.ptp(a) * 255 < 2:
        return None
    # A flat image has fewer levels than the curve has bends; whoever asks for all of the fit is not warned of it.
    terms, _ = np.polynomial.polynomial.polyfit(a, b, degree, full=True)
    return np.clip(np.polynomial.polynomial.polyval(predicted / 255, terms), 0, 255)


def _given(a: Blocks, b: Blocks, tables: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The evidence of the second given the first, as it is or quantised by one of the tables."""
    off = (b.coefficients - a.coefficients) ** 2
    each = 0.5 * off * (1 / other**2 - 1 / ROUNDED**2) + np.log(other / ROUNDED)
    # What repeats the edge is no evidence of its own.
    each *= b.visible.mean(axis=1, keepdims=True)
    found = [_sum(each)]
    if len(tables) > 1:
        tables = tables[_likeliest(a, b, tables)]
    for table in tables:
        steps, unknown = _steps(a, b, table)
        each = _log_share(steps, a.coefficients, table, ROUNDED)
        each -= _log_share(steps, a.coefficients, table, other)
        each[unknown] = 0
        found.append(_sum(each))
    return max(found)


def _steps(a: Blocks, b: Blocks, table: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What the coefficients of the second were quantised to, (N, 64), and the blocks of which it is not known.

    Where grey values were clipped or cut off they are lost: they are those of the first, if these give the values, and
    not known where they nearly do. Of what lies between two steps either may be right.
    """
    steps, again = np.rint(b.coefficients / table), np.rint(a.coefficients / table)

    def alike(tried: NDArray[np.float64]) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = (np.abs(values_of(tried, table) - b.values) * b.visible).max(
            axis=-1
        ) <= _DECODED_ALIKE
        return found

    left = lost_blocks(b) | alike(again)
    beside = a.coefficients / table - again
    beside_too = again + np.where(beside < 0, -1, 1)
    doubtful = np.argsort(-np.abs(beside), axis=1)[:, :_DOUBTFUL]
    at_once = max(1, _TRIED_AT_ONCE // max(1, len(again)))
    for first in range(0, len(_TRIALS), at_once):
        if not left.any():
            break
        trials = _TRIALS[first : first + at_once]
        tried = np.repeat(again[None], len(trials), axis=0)
        trial, number = np.nonzero(trials)
        block = np.arange(len(again))
        place = doubtful[:, number].T
        tried[trial[:, None], block, place] = beside_too[block, place]
        found = alike(tried) & left
        told = found.any(axis=0)
        steps[told] = tried[found.argmax(axis=0), block][told]
        left &= ~told
    some_steps = _STEPS_ASIDE * np.mean(table[:BLOCK] ** 2) / BLOCK**2
    return steps, left & (
        np.mean(((values_of(again, table) - b.values) * b.visible) ** 2, axis=1) <= some_steps
    )


def _log_share(
    steps: NDArray[np.float64],
    given: NDArray[np.float64],
    table: NDArray[np.float64],
    deviation: NDArray[np.float64] | float,
) -> NDArray[np.float64]:
    """The log of the probability that a coefficient is quantised to its step, given its mean."""
    low, high = (((steps + end) * table - given) / deviation for end in (-0.5, 0.5))
    # Of the tail that is smaller, so that nothing is lost by cancelling.
    low, high = np.where(low > 0, -high, low), np.where(low > 0, -low, high)
    upper, lower = log_ndtr(high), log_ndtr(low)
    return np.asarray(upper + np.log1p(-np.exp(np.minimum(lower - upper, -1e-12))))


def _sum(each: NDArray[np.float64]) -> float:
    """The evidence of all blocks, none where one speaks against it: there something else is shown."""
    of_blocks = each.sum(axis=1)
    return float(of_blocks.sum()) if of_blocks.min() >= _AGAINST else NO_EVIDENCE


def _tables_of(b: Blocks) -> NDArray[np.float64]:
    """The table that an image was quantised by, (1, 64), none, (0, 64), or all where it is clipped too much to say."""
    quality = jpeg_quality_behind_noise(b)
    if quality == UNKNOWN:
        return ijg_tables()
    return ijg_tables()[quality - 1 : quality] if has_table(quality) else ijg_tables()[:0]


def _likeliest(a: Blocks, b: Blocks, tables: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of the table by which the first becomes most like the second, (1,)."""
    some = np.argsort(-a.values.var(axis=1), kind="stable")[:BLOCKS_FOR_THE_TABLE]
    made = values_of(np.rint(a.coefficients[some] / tables[:, None]), tables[:, None])
    return np.array([np.argmin(np.mean(((made - b.values[some]) * b.visible[some]) ** 2, axis=(1, 2)))])
