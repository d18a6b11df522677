"""The recipe that `visionops init` starts a project with, chosen from a first look, and why.

A choice never depends on the machine: the same images give the same project file. Seconds are those of one core
without bfloat16. What the numbers rest on stands in docs/bring-your-own-images.md.
"""

import math
import re
from dataclasses import dataclass, replace
from typing import Any

from visionops_assets.config.recipe import Recipe
from visionops_assets.dataset.importing.first_look import BoxSides, FirstLook

DETECTOR = "visionops_assets.training.detector.SmallDetector"
# A side that pooling divides.
_STEP = 8
# The smallest input that images are reduced to for the time it takes, and the largest they keep.
_CLASSIFIED_PIXELS = (128 * 128, 224 * 224)
_DETECTED_PIXELS = (96 * 96, 1024 * 1024)
_LONGEST = 2048
# A place of the detector sees 63, 151 or 327 pixels: large boxes have to lie well inside.
_LEVELS = ((40.0, 1), (96.0, 2), (math.inf, 3))
# Larger activations are asked of the system anew at each step, by the C library's rule: half of the time went there.
_BATCH_BYTES = 1 << 25
# Where a class is called so, a mirrored image may be of another.
_SIDED = re.compile(
    r"(?:^|[\W_])(?:left|right|links|rechts|gauche|droite)(?:$|[\W_])|^\w$|^\d+$", re.IGNORECASE
)
_PADDED = " Some stand upright and some do not: a square holds both, and the rest of it stays black."


@dataclass(frozen=True)
class Effort:
    """What a training takes: `a_pixel` seconds for each pixel of an image, each time it is seen.

    Images are seen `passes` times in all, in no fewer epochs than `least` and no more than `most`. Where that takes
    more than `seconds`, they are made smaller as far as the task allows, and then seen down to `fewest` times; where
    that still takes more, down to `hurried` times in `hurried_epochs`.
    """

    seconds: float
    a_pixel: float
    passes: int
    fewest: int
    least: int
    most: int
    hurried: int
    hurried_epochs: int

    def pixels(self, images: int) -> float:
        """How many pixels an image may have for the training of so many to take `seconds`."""
        return self.seconds / (self.a_pixel * images * self._epochs(self.passes, images))

    def pixels_seen_least(self) -> float:
        """How many pixels an image may have to be seen the `fewest` times in these seconds."""
        return self.seconds / (self.a_pixel * self.fewest)

    def epochs(self, images: int, pixels: int) -> int:
        """How many epochs so many images of this size get."""
        affordable = int(self.seconds / (self.a_pixel * pixels))
        usual = self._epochs(min(self.passes, max(self.fewest, affordable)), images)
        return min(usual, max(self.hurried_epochs, math.ceil(max(self.hurried, affordable) / images)))

    def took(self, images: int, pixels: int, epochs: int) -> float:
        """Seconds of one core. Validation looks at a quarter as many images, at a third of the work each."""
        return 13 / 12 * self.a_pixel * images * pixels * epochs

    def _epochs(self, passes: int, images: int) -> int:
        return min(self.most, max(self.least, math.ceil(passes / images)))


CLASSIFYING = Effort(
    90, 0.8e-6, passes=6_000, fewest=6_000, least=12, most=60, hurried=6_000, hurried_epochs=12
)
DETECTING = Effort(
    480, 0.6e-6, passes=24_000, fewest=8_000, least=15, most=200, hurried=1_500, hurried_epochs=6
)

# Up to so many pixels the wide network, which costs three times as much, takes seconds.
_WIDE_PIXELS, _WIDE, _NARROW = 64 * 64, 32, 16
# Sides of the median box in pixels of the input: wanted; kept, if the time allows, and whatever the time; what a grid
# of four pixels tells.
_BOX_WANTED, _BOX_KEPT, _BOX_HURRIED, _BOX_SEEN = 24, 12, 9, 8


@dataclass(frozen=True)
class FirstRecipe:
    """A recipe, and in sentences why its `input`, `epochs`, `threads` and `augmentations` are what they are."""

    recipe: Recipe
    why: dict[str, str]


def first_recipe(look: FirstLook, training: int) -> FirstRecipe:
    """Choose for a source as it looks, of which so many images will be trained on."""
    if look.boxes is None:
        return _classifier(look, max(1, training))
    return _detector(look, look.boxes, max(1, training))


def _classifier(look: FirstLook, training: int) -> FirstRecipe:
    least, most = _CLASSIFIED_PIXELS
    allowed = min(most, max(least, CLASSIFYING.pixels(training)))
    scale = min(1.0, math.sqrt(allowed / math.prod(look.frame)), _LONGEST / max(look.frame))
    height, width = sides = (
        (max(4, look.frame[0]), max(4, look.frame[1])) if scale == 1 else _sides(look.frame, scale, _STEP)
    )
    wide = height * width <= _WIDE_PIXELS
    effort = replace(CLASSIFYING, a_pixel=CLASSIFYING.a_pixel * 3) if wide else CLASSIFYING
    network = _WIDE if wide else _NARROW
    if scale == 1:
        why = f"Images are trained at their own size, {width}×{height}."
    else:
        why = (
            f"Images of {measures(look)} are trained at {width}×{height}, for the time it takes: what is smaller than "
            f"{math.ceil(2 / scale)} of their pixels is lost. Sides twice as long take four times the time."
        )
    content = {
        "model": {"init_args": {} if wide else {"width": network}},
        "batch_size": _batch_size(32, training, height * width * 4 * network),
    }
    return _chosen(look, training, effort, sides, content, why)


def _detector(look: FirstLook, boxes: BoxSides, training: int) -> FirstRecipe:
    area, median = math.prod(look.frame), boxes.median
    least, most = _DETECTED_PIXELS
    # Nothing is won by larger images, but where boxes are too small for the grid.
    wanted = min(_BOX_WANTED / median, max(1.0, min(2.0, _BOX_KEPT / median)))
    kept = max(min(wanted, _BOX_KEPT / median), min(1.0, math.sqrt(least / area)))
    scale = max(kept, min(wanted, math.sqrt(DETECTING.pixels(training) / area)))
    hurried = max(_BOX_HURRIED / median, math.sqrt(DETECTING.pixels_seen_least() / area))
    scale = min(scale, max(hurried, math.sqrt(least / area)))
    scale = min(scale, math.sqrt(most / area), _LONGEST / max(look.frame))
    levels = next(level for side, level in _LEVELS if boxes.large * scale <= side)
    height, width = sides = _sides(look.frame, scale, 4 << levels)
    seen = median * min(height / look.frame[0], width / look.frame[1])
    why = (
        f"In images of {measures(look)} the median box measures about {median:.0f}×{median:.0f} pixels: "
        + (
            "they are trained at their own size."
            if (height, width) == look.frame
            else f"they are trained at {width}×{height}, where it measures {seen:.0f}×{seen:.0f}."
        )
    )
    if seen < _BOX_SEEN:
        why += (
            f" The detector hardly tells boxes of less than {_BOX_SEEN}×{_BOX_SEEN}: cut such images into tiles, or "
            "crop them to where something is to be found."
        )
    content = {
        "model": {
            "class_path": DETECTOR,
            "init_args": {"levels": levels, "detections": min(300, max(20, math.ceil(1.5 * boxes.most)))},
        },
        "optimiser": {"lr": 0.01},
        "batch_size": _batch_size(16, training, height * width * 16),
    }
    return _chosen(look, training, DETECTING, sides, content, why)


def _chosen(
    look: FirstLook,
    training: int,
    effort: Effort,
    sides: tuple[int, int],
    content: dict[str, Any],
    why_input: str,
) -> FirstRecipe:
    height, width = sides
    epochs = effort.epochs(training, height * width)
    took = _duration(effort.took(training, height * width, epochs))
    augmentations, why_augmentations = _augmentations(look)
    recipe = Recipe.model_validate(
        {
            "input": {"height": height, "width": width, "channels": look.channels},
            "epochs": epochs,
            "threads": 1,
            "augmentations": augmentations,
            **content,
        }
    )
    # What is placed by lot is counted once it is placed.
    about = "" if sum(look.splits.values()) == look.images else "about "
    why = {
        "input": why_input + (_PADDED if look.both_ways else ""),
        "epochs": f"{epochs} epochs of {about}{training:,} training images take up to {took} on one core.",
        "threads": (
            "Part of the recipe: one and two threads give other bits. More are quicker on cores that do nothing else, "
            "and many times slower where they wait for each other."
        ),
        "augmentations": why_augmentations,
    }
    return FirstRecipe(recipe, why)


def measures(look: FirstLook) -> str:
    """The usual size in words, width first as people say it."""
    ways = (
        " and upright"
        if look.both_ways and look.width > look.height
        else " and across"
        if look.both_ways
        else ""
    )
    return f"about {look.width}×{look.height}{ways}"


def _sides(frame: tuple[int, int], scale: float, step: int) -> tuple[int, int]:
    """Height and width of the frame to scale, in steps of so many pixels; the longer side leads."""
    longer = max(step, round(max(frame) * scale / step) * step)
    shorter = max(step, round(longer * min(frame) / max(frame) / step) * step)
    return (shorter, longer) if frame[0] <= frame[1] else (longer, shorter)


def _batch_size(most: int, training: int, image_bytes: int) -> int:
    """A power of two: as many images as memory likes, and no more than leave eight steps an epoch; at least 4."""
    fitting = min(most, max(8, training // 8), (_BATCH_BYTES - 1) // image_bytes)
    return 1 << (max(4, fitting).bit_length() - 1)


def _augmentations(look: FirstLook) -> tuple[list[dict[str, Any]], str]:
    """What an image may be changed by in most sources, and what only a person can add."""
    light = [{"name": "brightness", "fraction": 0.1}, {"name": "contrast", "fraction": 0.1}]
    if look.boxes is None:
        return [{"name": "shift", "fraction": 0.05}, *light], (
            "Changes that leave an image's class what it is. Where mirroring does too, add {name: horizontal_flip}."
        )
    moved = [{"name": "shift", "fraction": 0.1}, {"name": "scale", "fraction": 0.2}]
    if any(_SIDED.search(label) for label in look.classes):
        return [
            *moved,
            *light,
        ], "Changes that leave an object what it is; not mirrored, for the classes' names."
    return [{"name": "horizontal_flip"}, *moved, *light], (
        "Changes that leave an object what it is. Where all is seen from above, add {name: vertical_flip}."
    )


def _duration(seconds: float) -> str:
    """Seconds in words, no finer than they are known."""
    if seconds < 90:
        return f"{max(10, math.ceil(seconds / 10) * 10)} seconds"
    if seconds < 5400:
        return f"{math.ceil(seconds / 60)} minutes"
    return f"{math.ceil(seconds / 3600)} hours"
