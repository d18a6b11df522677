"""The demo's real images: 1,797 scanned handwritten digits that ship inside scikit-learn. Most come week by week;
those held back are its production: three lines, each with a camera, see them.
"""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

SEED = 20
PRODUCTION_IMAGES = 400
WRONG_LABELS = 0.3
LINES = ("line-1", "line-2", "line-3")
ROWS_A_LINE = 200
# How much of its light a dirty lens lets through.
_LIGHT = 0.6


@dataclass(frozen=True)
class Week:
    """One batch: how many images, and the share of labels that are replaced by a wrong one."""

    batch: str
    images: int
    wrong_labels: float
    story: str


WEEKS = (
    Week("week-01", 200, 0.0, "the first batch"),
    Week("week-02", 700, 0.0, "a good week"),
    Week("week-03", 497, WRONG_LABELS, "a poisoned week: 30% of its labels are wrong"),
)


def write_weeks(folder: Path) -> list[Path]:
    """Write each week as a folder of PNG files with a `labels.csv`; returns the folders.

    What is there already is written again with the same bytes, so a second run gives the same batches.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    generator = np.random.default_rng(SEED)
    order = generator.permutation(len(digits.target))[:-PRODUCTION_IMAGES]
    written, start = [], 0
    for week in WEEKS:
        chosen = order[start : start + week.images]
        start += week.images
        labels = _with_wrong_labels(digits.target[chosen], week.wrong_labels, generator)
        written.append(_write_week(folder / week.batch, chosen, digits.images[chosen], labels))
    return written


def production_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images held back for production, uint8 [400, 8, 8], and what they show [400]."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))[-PRODUCTION_IMAGES:]
    return _grey(digits.images[order]), digits.target[order]


def _grey(scans: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The scans have 17 grey levels; 15 spreads them over a byte."""
    return (scans * 15).astype(np.uint8)


def _with_wrong_labels(
    labels: NDArray[np.int64], share: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    wrong = generator.permutation(len(labels))[: round(share * len(labels))]
    poisoned = labels.copy()
    poisoned[wrong] = (labels[wrong] + generator.integers(1, 10, len(wrong))) % 10
    return poisoned


def _write_week(
    folder: Path, numbers: NDArray[np.int64], images: NDArray[np.float64], labels: NDArray[np.int64]
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path,label"]
    for number, image, label in zip(numbers, images, labels, strict=True):
        name = f"digit-{number:04d}.png"
        Image.fromarray(_grey(image), mode="L").save(folder / name)
        lines.append(f"{name},{label}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


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
