"""Boxes: how much they share, and the box around a region: a turned box, a polygon, or COCO's run lengths."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def iou(one: Floats, other: Floats) -> Floats:
    """Intersection over union [...] of boxes [..., 4] (left, top, width, height) that broadcast to each other."""
    left, top = (np.maximum(one[..., side], other[..., side]) for side in (0, 1))
    right, bottom = (
        np.minimum(one[..., side] + one[..., side + 2], other[..., side] + other[..., side + 2])
        for side in (0, 1)
    )
    shared = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    union = one[..., 2] * one[..., 3] + other[..., 2] * other[..., 3] - shared
    found: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def box_around_segmentation(segmentation: Any) -> tuple[float, float, float, float] | None:
    """Left, top, width and height of a COCO segmentation; None where it outlines nothing."""
    if isinstance(segmentation, dict):
        return _of_runs(segmentation)
    if not isinstance(segmentation, list) or not segmentation:
        return None
    polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
    points = [(float(x), float(y)) for one in polygons for x, y in zip(one[::2], one[1::2], strict=True)]
    return box_around_points(points) if len(points) >= 2 else None


def box_around_points(points: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    """Left, top, width and height of the box around points."""
    left, top = (min(point[axis] for point in points) for axis in (0, 1))
    right, bottom = (max(point[axis] for point in points) for axis in (0, 1))
    return left, top, right - left, bottom - top


def box_around_ellipse(
    cx: float, cy: float, rx: float, ry: float, degrees: float
) -> tuple[float, float, float, float]:
    """Left, top, width and height of the box around an ellipse turned about its centre."""
    angle = math.radians(degrees)
    across = math.hypot(rx * math.cos(angle), ry * math.sin(angle))
    down = math.hypot(rx * math.sin(angle), ry * math.cos(angle))
    return cx - across, cy - down, 2 * across, 2 * down


def turned_corners(
    left: float, top: float, right: float, bottom: float, degrees: float
) -> list[tuple[float, float]]:
    """The corners of a box turned about its centre."""
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    if not degrees:
        return corners
    cx, cy, angle = (left + right) / 2, (top + bottom) / 2, math.radians(degrees)
    return [
        (
            cx + (x - cx) * math.cos(angle) - (y - cy) * math.sin(angle),
            cy + (x - cx) * math.sin(angle) + (y - cy) * math.cos(angle),
        )
        for x, y in corners
    ]


def turned_box(
    x: float, y: float, w: float, h: float, degrees: float, width: int, height: int
) -> tuple[float, float, float, float]:
    """The box around one that is turned about its left upper corner, in hundredths of an image of this size."""
    across, down = (width or 100) / 100, (height or 100) / 100
    angle = math.radians(degrees)
    corners = [(0.0, 0.0), (w * across, 0.0), (w * across, h * down), (0.0, h * down)]
    points = [
        (
            x + (dx * math.cos(angle) - dy * math.sin(angle)) / across,
            y + (dx * math.sin(angle) + dy * math.cos(angle)) / down,
        )
        for dx, dy in corners
    ]
    return box_around_points(points)


def _of_runs(region: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """Runs go down the columns, of pixels that are outside and inside by turns, outside first."""
    height, width, counts = int(region["size"][0]), int(region["size"][1]), region["counts"]
    runs = np.array(_runs(counts) if isinstance(counts, str) else counts, np.int64)
    ends = np.cumsum(runs)
    # What is outside at the end may be left out.
    if not len(runs) or runs.min() < 0 or ends[-1] > height * width:
        raise ValueError("the runs are not of as many pixels as the image has")
    starts, ends = ends[:-1][::2] if len(ends) > 1 else ends[:0], ends[1::2]
    inside = ends > starts
    starts, ends = starts[inside], ends[inside] - 1
    if not len(starts) or height < 1:
        return None
    left, right = int(starts.min() // height), int(ends.max() // height)
    # A run that goes on in the next column touches both edges.
    over = bool((starts // height != ends // height).any())
    top = 0 if over else int((starts % height).min())
    bottom = height - 1 if over else int((ends % height).max())
    return float(left), float(top), float(right - left + 1), float(bottom - top + 1)


def _runs(text: str) -> list[int]:
    """Run lengths of COCO's compressed text: five bits a character, from the third run on as differences."""
    runs: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[at]) - 48
            if not 0 <= bits < 64:
                raise ValueError("a character that is none of a run")
            value |= (bits & 0x1F) << shift
            more, at, shift = bool(bits & 0x20), at + 1, shift + 5
            if not more and bits & 0x10:
                value |= -1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
