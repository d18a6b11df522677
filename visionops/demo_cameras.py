"""The demo's production: three lines, each with a camera, that see the real digits held back.

The story of a month, told in as many days as are asked for: quiet days, then the camera of one line blurs and darkens
until somebody cleans it, then another line gets other digits. A day's images depend on nothing but its
number, so a second run sees the same.
"""

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from visionops.demo_digits import SEED, production_digits

LINES = ("line-1", "line-2", "line-3")
ROWS_A_LINE = 200
# How much of its light a dirty lens lets through.
_LIGHT = 0.6
# Digits of average looks, so that frequencies are all that changes, and how much more often they come.
_FREQUENT, _FACTOR = (2, 3, 6), 4.0


@dataclass(frozen=True)
class Chapter:
    """A part of the story, until so many thirtieths of it. `dirty` and `mixed` name the line that is struck."""

    until: int
    story: str
    dirty: str = ""
    mixed: str = ""


STORY = (
    Chapter(8, "nothing has changed"),
    Chapter(15, "the camera of line-3 blurs and darkens", dirty="line-3"),
    Chapter(20, "the camera is clean again"),
    Chapter(30, "on line-1 twos, threes and sixes come four times as often", mixed="line-1"),
)


def chapter(number: int, days: int) -> Chapter:
    """What happens on a day: `number` counts from 0, of so many `days`."""
    return next(part for part in STORY if 30 * number < part.until * days)


class Cameras:
    """What the cameras see, as PNG bytes."""

    def __init__(self) -> None:
        self._digits, self._labels = production_digits()

    def images(self, number: int, days: int, line: str) -> list[bytes]:
        """The images of a line on a day, drawn with replacement from those held back."""
        now = chapter(number, days)
        random = np.random.default_rng([SEED, number, LINES.index(line)])
        factor = _FACTOR if now.mixed == line else 1.0
        weights = np.where(np.isin(self._labels, _FREQUENT), factor, 1.0)
        chosen = random.choice(len(self._labels), ROWS_A_LINE, p=weights / weights.sum())
        return [_png(self._digits[each].tobytes(), now.dirty == line) for each in chosen]


@cache
def _png(pixels: bytes, dirty: bool) -> bytes:
    """An image of 8 x 8 pixels, as a camera with a clean or a dirty lens takes it."""
    seen: NDArray[np.uint8] = np.frombuffer(pixels, np.uint8).reshape(8, 8)
    image = Image.fromarray(seen, mode="L")
    if dirty:
        image = image.filter(ImageFilter.BoxBlur(1)).point(lambda level: level * _LIGHT)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
