"""What a source of images shows before anything is decided: classes, sizes, colours, splits."""

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.images.decode import decode_whole
from edge.images.decode_pool import probe
from edge.images.header import UnreadableImage
from visionops_assets.common.findings import findings_in_words, has_errors
from visionops_assets.dataset.importing.box_coordinates import settled
from visionops_assets.dataset.importing.class_names import check_apart
from visionops_assets.dataset.importing.image_columns import Images, Source
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.tasks.task_registry import CLASSIFICATION, DETECTION

LOOKED_AT = 200
# Where more than this share of the images stands the other way than the rest, both ways count.
_STRAY = 0.1
_LINES = 16


@dataclass(frozen=True)
class BoxSides:
    """Sides of boxes, the square roots of their areas: the `median`, and `large`, which nine in ten do not exceed, in
    pixels of an image that fills the usual frame; `thirds` part them in three, in pixels of their own images. `most` is
    the largest number of boxes of one image."""

    median: float
    large: float
    thirds: tuple[float, float]
    most: int


@dataclass(frozen=True)
class FirstLook:
    """`classes` are images (in detection, boxes) by class, sorted by name; `splits` the images that came with one.

    Of the images looked at: `height` and `width` are the medians in pixels, `both_ways` says that some are upright and
    some are not (then the medians are those of the more frequent kind), `channels` is 1 where all are grey, `boxes`
    is None in classification.
    """

    format: str
    task: str
    images: int
    classes: dict[str, int]
    height: int
    width: int
    both_ways: bool
    channels: Literal[1, 3]
    boxes: BoxSides | None
    splits: dict[str, int]
    grouped: bool

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width that hold the usual image, however it stands."""
        return (max(self.height, self.width),) * 2 if self.both_ways else (self.height, self.width)


@dataclass(frozen=True)
class _Measures:
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    grey: bool
    # Width and height in pixels of each box, and the place of its image among those measured.
    boxes: NDArray[np.float64]
    places: NDArray[np.int64]


def first_look(source: Source) -> FirstLook:
    """Look at every annotation and at up to `LOOKED_AT` images (in detection, of those with boxes), evenly spread.

    Raises `SourceError` where there are no labelled images, classification has one class only, no box has an area, or
    not one image can be read.
    """
    images = source.images.take(np.flatnonzero(source.images.annotated))
    if images.own is not None:
        raise SourceError(
            f"the table has the column {images.own.column!r}, which another task learns from: write a project file "
            "that names that task, and import into it"
        )
    detection = images.detects
    counted = _counted(images)
    classes = {name: counted.labels[name] for name in sorted(counted.labels) if name.strip()}
    if not classes and source.none_labelled:
        raise SourceError(source.none_labelled)
    if not classes and has_errors(source.findings):
        raise SourceError(
            f"no image has a label that counts:\n{findings_in_words(source.findings, lines=_LINES)}"
        )
    check_apart(classes, source.format)
    _check_classes(classes, detection, source.format)
    chosen = np.array(counted.places[:: -(-len(counted.places) // LOOKED_AT)])
    measures = _measured(images.take(chosen))
    across = measures.widths > measures.heights
    both_ways = _STRAY < across.mean() < 1 - _STRAY and bool((measures.widths < measures.heights).any())
    of_frame = (across == (across.mean() >= 0.5)) if both_ways else np.ones_like(across)
    look = FirstLook(
        source.format,
        DETECTION if detection else CLASSIFICATION,
        len(images),
        classes,
        int(np.median(measures.heights[of_frame])),
        int(np.median(measures.widths[of_frame])),
        both_ways,
        1 if measures.grey else 3,
        None,
        dict(sorted(counted.splits.items())),
        counted.grouped,
    )
    return replace(look, boxes=_box_sides(measures, look.frame, counted.most)) if detection else look


@dataclass
class _Counted:
    """Labels and splits by how often they are said, whether images are grouped, the most boxes of one, and the places
    of images to look at."""

    labels: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    grouped: bool = False
    most: int = 0
    places: list[int] = field(default_factory=list)


def _counted(images: Images) -> _Counted:
    counted = _Counted()
    for place, image in enumerate(images):
        boxes = image.boxes or ()
        counted.labels.update([box["label"] for box in boxes] if images.detects else [str(image.label)])
        counted.splits.update([image.split] if image.split else [])
        counted.grouped = counted.grouped or bool(image.group)
        counted.most = max(counted.most, len(boxes))
        if boxes or not images.detects:
            counted.places.append(place)
    return counted


def _check_classes(classes: Mapping[str, int], detection: bool, format_name: str) -> None:
    if len(classes) >= (1 if detection else 2):
        return
    found = ", ".join(classes) or "none"
    if detection:
        raise SourceError(
            f"a detector finds boxes of at least one class; in this source ({format_name}) no box has a class"
        )
    raise SourceError(
        f"a model tells at least two classes apart; in this source ({format_name}) there are: {found}. "
        "Expected for example one folder for each class, or a labels.csv with columns path, label"
    )


def _measured(images: Images) -> _Measures:
    heights, widths, orientations, places = array("i"), array("i"), array("B"), array("q")
    grey, problem = True, ""
    for place, image in enumerate(images):
        try:
            data = image.read()
            header, pixels = probe(data, image.name), decode_whole(data, image.name, 3)
        except (OSError, UnreadableImage) as error:
            # The audit names every such image; here the others are enough.
            problem = str(error)
            continue
        places.append(place)
        heights.append(pixels.shape[0])
        widths.append(pixels.shape[1])
        orientations.append(header.orientation)
        grey = grey and bool((pixels == pixels[..., :1]).all())
    if not heights:
        raise SourceError(f"not one image can be read; the last one: {problem}")
    height, width = np.array(heights, np.int32), np.array(widths, np.int32)
    read = images.take(np.array(places, np.int64))
    boxes = settled(read, height, width, np.array(orientations, np.uint8)).images.boxes
    sides = [
        (place, box["w"], box["h"])
        for place, some in enumerate([] if boxes is None else boxes.to_pylist())
        for box in some or ()
        if box["w"] > 0 and box["h"] > 0
    ]
    return _Measures(
        height.astype(np.int64),
        width.astype(np.int64),
        grey,
        np.array([side[1:] for side in sides], np.float64).reshape(-1, 2),
        np.array([place for place, *_ in sides], np.int64),
    )


def _box_sides(measures: _Measures, frame: tuple[int, int], most: int) -> BoxSides:
    """How large boxes are once their images fill the frame."""
    if not len(measures.boxes):
        raise SourceError("not one box has a width and a height; expected both in pixels, above 0")
    scales = np.minimum(frame[0] / measures.heights, frame[1] / measures.widths)
    own = np.sqrt(measures.boxes.prod(axis=1))
    median, large = (float(side) for side in np.quantile(own * scales[measures.places], [0.5, 0.9]))
    small, medium = (float(side) for side in np.quantile(own, [1 / 3, 2 / 3]))
    return BoxSides(median, large, (small, medium), most)
