"""What a source of images shows before anything is decided: classes, sizes, colours, splits."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from visionops_assets.dataset.decode import decode_whole
from visionops_assets.dataset.formats.source import Source, SourceError, SourceImage
from visionops_assets.dataset.image_header import UnreadableImage

LOOKED_AT = 200
_SIDE_STEP, _LARGEST_SIDE = 32, 128


@dataclass(frozen=True)
class FirstLook:
    """`classes` are images (in detection, boxes) by class, sorted by name; `height` and `width` the medians in
    pixels and `channels` 1 where all are grey, of the images looked at; `splits` the images that came with one."""

    format: str
    task: Literal["classification", "detection"]
    images: int
    classes: dict[str, int]
    height: int
    width: int
    channels: Literal[1, 3]
    splits: dict[str, int]
    grouped: bool

    @property
    def input_size(self) -> tuple[int, int]:
        """A height and width to train at: small images as they are, large ones reduced to what a CPU trains in
        minutes."""
        if max(self.height, self.width) <= _LARGEST_SIDE:
            return max(4, self.height), max(4, self.width)
        scale = _LARGEST_SIDE / max(self.height, self.width)
        height, width = (
            max(_SIDE_STEP, round(side * scale / _SIDE_STEP) * _SIDE_STEP)
            for side in (self.height, self.width)
        )
        return height, width


def first_look(source: Source) -> FirstLook:
    """Look at every annotation and at up to `LOOKED_AT` images, evenly spread.

    Raises `SourceError` where there are no labelled images, or only one class, or not one image can be read.
    """
    images = source.images.take(np.flatnonzero(source.images.annotated))
    detection = images.detects
    labels: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    grouped = False
    for image in images:
        labels.update([box["label"] for box in image.boxes or ()] if detection else [str(image.label)])
        splits.update([image.split] if image.split else [])
        grouped = grouped or bool(image.group)
    classes = {name: labels[name] for name in sorted(labels) if name.strip()}
    if len(classes) < 2:
        found = ", ".join(classes) or "none"
        raise SourceError(
            f"a model tells at least two classes apart; in this source ({source.format}) there are: {found}. "
            "Expected for example one folder for each class, or a labels.csv with columns path, label"
        )
    height, width, channels = _measures(images)
    return FirstLook(
        source.format,
        "detection" if detection else "classification",
        len(images),
        classes,
        height,
        width,
        channels,
        dict(sorted(splits.items())),
        grouped,
    )


def _measures(images: Sequence[SourceImage]) -> tuple[int, int, Literal[1, 3]]:
    heights, widths, grey, problem = [], [], True, ""
    for image in images[:: max(1, len(images) // LOOKED_AT)]:
        try:
            pixels = decode_whole(image.read(), image.name, 3)
        except (OSError, UnreadableImage) as error:
            # The audit names every such image; here the others are enough.
            problem = str(error)
            continue
        heights.append(pixels.shape[0])
        widths.append(pixels.shape[1])
        grey = grey and bool((pixels == pixels[..., :1]).all())
    if not heights:
        raise SourceError(f"not one image can be read; the last one: {problem}")
    return int(np.median(heights)), int(np.median(widths)), 1 if grey else 3
