"""Boxes as their source says them, brought to pixels of the upright image.

What the source states of an image's size is checked. The same size, or none: boxes stay. The size before the EXIF
orientation: the boxes were drawn on the stored pixels, and those of all turned images of the source are turned. A
multiple of the size: they are scaled. Any other size is an ERROR. A box that stands twice is kept once.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from visionops_assets.common.findings import Finding
from visionops_assets.dataset.importing.image_columns import SHARES, Images

_SIDEWAYS = 5
Numbers = NDArray[np.int32]


class Settled(NamedTuple):
    """Images whose boxes are in pixels, what was found, and how many boxes are left out: they stand twice, or their
    sides are no numbers."""

    images: Images
    findings: list[Finding]
    repeated: int
    no_numbers: int = 0


def settled(images: Images, height: Numbers, width: Numbers, orientation: NDArray[np.uint8]) -> Settled:
    """Bring boxes to pixels. `height` and `width` are those of the upright images, `orientation` is EXIF's, (N,)."""
    if images.boxes is None or not len(images.boxes):
        return Settled(images, [], 0)
    findings: list[Finding] = []
    parents = pc.list_parent_indices(images.boxes).to_numpy()
    flat = images.boxes.flatten()
    corners = np.stack([flat.field(side).to_numpy(zero_copy_only=False) for side in "xywh"], axis=1)
    if images.frame is not None:
        corners = corners.copy()
        _to_pixels(images, corners, parents, height, width, orientation, findings)
    _check_pixels(images, corners, findings)
    with np.errstate(over="ignore", invalid="ignore"):
        kept = _once(corners, flat.field("label"), parents)
        finite = np.isfinite(corners.astype(np.float32)).all(axis=1)
    for place in np.unique(parents[~finite]).tolist():
        why = "it is not known where it lies; correct it"
        findings.append(Finding("boxes", images.names[place], "has a box whose sides are no numbers", why))
    repeated, no_numbers = int((~kept & finite).sum()), int((~finite).sum())
    kept |= ~finite
    for place, times in zip(*np.unique(parents[~kept], return_counts=True), strict=True):
        what = f"has {times} {'box' if times == 1 else 'boxes'} twice"
        why = "one of each is kept; remove the others"
        findings.append(Finding("boxes once", images.names[int(place)], what, why, "WARN"))
    kept &= finite
    if images.frame is None and not repeated and not no_numbers:
        return Settled(images, findings, 0)
    boxes = _rebuilt(images.boxes, corners, flat.field("label"), parents, kept)
    return Settled(replace(images, boxes=boxes, frame=None), findings, repeated, no_numbers)


def _check_pixels(images: Images, corners: NDArray[np.float64], findings: list[Finding]) -> None:
    """Tell where all boxes lie within the first pixel: they are shares, which nothing says."""
    if (len(corners) and images.frame is None) or (
        images.frame is not None and (images.frame != SHARES).any()
    ):
        with np.errstate(invalid="ignore"):
            ends = corners[:, :2] + corners[:, 2:]
        if len(ends) and bool((ends <= 1).all()) and bool((corners[:, 2:] > 0).any()):
            what = "has its boxes within the first pixel, as has every image of the source"
            why = "they look like shares of the image; give them in pixels"
            findings.append(Finding("boxes", images.names[0], what, why))


def _to_pixels(
    images: Images,
    corners: NDArray[np.float64],
    parents: NDArray[np.int64],
    height: Numbers,
    width: Numbers,
    orientation: NDArray[np.uint8],
    findings: list[Finding],
) -> None:
    assert images.frame is not None
    stated_w, stated_h = images.frame[:, 0].astype(np.int64), images.frame[:, 1].astype(np.int64)
    actual_w, actual_h = width.astype(np.int64), height.astype(np.int64)
    shares = (images.frame == SHARES).all(axis=1)
    says = (stated_w > 0) & (stated_h > 0)
    size = shares[parents]
    corners[size] *= np.stack([actual_w, actual_h, actual_w, actual_h], axis=1)[parents[size]]
    sideways = orientation >= _SIDEWAYS
    stored_w, stored_h = np.where(sideways, actual_h, actual_w), np.where(sideways, actual_w, actual_h)
    upright = says & (stated_w == actual_w) & (stated_h == actual_h)
    stored = says & (stated_w == stored_w) & (stated_h == stored_h)
    scaled_upright = says & ~upright & ~stored & _alike(stated_w, stated_h, actual_w, actual_h)
    scaled_stored = says & ~upright & ~stored & sideways & _alike(stated_w, stated_h, stored_w, stored_h)
    proves_stored = (stored & ~upright) | (scaled_stored & ~scaled_upright)
    proves_upright = sideways & ((upright & ~stored) | (scaled_upright & ~scaled_stored))
    if proves_stored.any() and proves_upright.any():
        _tell_both(images, proves_stored, proves_upright, findings)
    turned = (
        (orientation > 1) & ~shares & ~proves_upright if proves_stored.any() else np.zeros(len(says), bool)
    )
    scaled = scaled_upright | scaled_stored
    wrong = says & ~upright & ~stored & ~scaled
    _tell(images, turned, scaled, wrong, actual_w, actual_h, findings)
    target_w, target_h = np.where(turned, stored_w, actual_w), np.where(turned, stored_h, actual_h)
    by = scaled[parents]
    factors = np.stack([target_w, target_h] * 2, axis=1) / np.maximum(
        1, np.stack([stated_w, stated_h] * 2, axis=1)
    )
    corners[by] *= factors[parents[by]]
    chosen = turned[parents]
    owners = parents[chosen]
    corners[chosen] = _turned(corners[chosen], stored_w[owners], stored_h[owners], orientation[owners])


def _alike(
    stated_w: NDArray[np.int64], stated_h: NDArray[np.int64], w: NDArray[np.int64], h: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether one factor leads from the stated sides to these, but for a pixel."""
    stated_w, stated_h = np.maximum(1, stated_w), np.maximum(1, stated_h)
    # By the longer side, whose rounding tells less.
    by_w = np.abs(stated_h * (w / stated_w) - h) <= 1
    by_h = np.abs(stated_w * (h / stated_h) - w) <= 1
    return np.where(w >= h, by_w, by_h)


def _turned(
    boxes: NDArray[np.float64],
    w: NDArray[np.int64],
    h: NDArray[np.int64],
    orientation: NDArray[np.uint8],
) -> NDArray[np.float64]:
    """Boxes in stored pixels of w×h, in the upright image."""
    x, y, bw, bh = boxes.T
    right, below = w - x - bw, h - y - bh
    left = np.select(
        [np.isin(orientation, (2, 3)), np.isin(orientation, (5, 8)), np.isin(orientation, (6, 7))],
        [right, y, below],
        x,
    )
    top = np.select(
        [np.isin(orientation, (3, 4)), np.isin(orientation, (5, 6)), np.isin(orientation, (7, 8))],
        [below, x, right],
        y,
    )
    sideways = orientation >= _SIDEWAYS
    return np.stack([left, top, np.where(sideways, bh, bw), np.where(sideways, bw, bh)], axis=1)


def _tell(
    images: Images,
    turned: NDArray[np.bool_],
    scaled: NDArray[np.bool_],
    wrong: NDArray[np.bool_],
    width: NDArray[np.int64],
    height: NDArray[np.int64],
    findings: list[Finding],
) -> None:
    assert images.frame is not None
    # What shows no object has nothing to be turned or scaled.
    counted = pc.list_value_length(images.boxes).fill_null(0).to_numpy(zero_copy_only=False) > 0
    for place in np.flatnonzero((turned | scaled | wrong) & counted).tolist():
        name, stated = images.names[place], f"{images.frame[place, 0]}×{images.frame[place, 1]}"
        actual = f"{width[place]}×{height[place]}"
        if wrong[place]:
            why = "its boxes cannot be placed; correct the size that is stated, or the image"
            findings.append(
                Finding("size as stated", name, f"measures {actual}, its annotation says {stated}", why)
            )
            continue
        if turned[place]:
            what = "has boxes drawn before it was turned upright by its EXIF orientation"
            findings.append(Finding("size as stated", name, what, "they are turned with it", "WARN"))
        if scaled[place]:
            what = f"measures {actual}, its annotation says {stated}"
            findings.append(Finding("size as stated", name, what, "its boxes are scaled", "WARN"))


def _tell_both(
    images: Images, one: NDArray[np.bool_], other: NDArray[np.bool_], findings: list[Finding]
) -> None:
    first, second = (images.names[int(np.flatnonzero(which)[0])] for which in (one, other))
    what = f"has the size before its EXIF orientation, {second} that after it"
    why = "so it is not known on which the boxes were drawn; annotate both in the same way"
    findings.append(Finding("size as stated", first, what, why))


def _once(corners: NDArray[np.float64], labels: pa.Array, parents: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which boxes to keep: of those with equal class and corners (as float32) in an image, the first."""
    numbers = labels.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    ends = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1).astype(np.float32)
    order = np.lexsort((*ends.T, numbers, parents))
    kept = np.ones(len(order), bool)
    if len(order) > 1:
        before, after = order[:-1], order[1:]
        same = (parents[before] == parents[after]) & (numbers[before] == numbers[after])
        same &= (ends[before] == ends[after]).all(axis=1)
        kept[after[same]] = False
    return kept


def _rebuilt(
    boxes: pa.Array,
    corners: NDArray[np.float64],
    labels: pa.Array,
    parents: NDArray[np.int64],
    kept: NDArray[np.bool_],
) -> pa.Array:
    counts = np.bincount(parents[kept], minlength=len(boxes))
    ends = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    chosen = pa.array(np.flatnonzero(kept))
    names = ["x", "y", "w", "h", "label"]
    columns = [*(pa.array(corners[kept, side]) for side in range(4)), labels.take(chosen)]
    missing = boxes.is_null() if boxes.null_count else None
    return pa.ListArray.from_arrays(ends, pa.StructArray.from_arrays(columns, names), mask=missing)
