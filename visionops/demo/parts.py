"""Generated pictures of parts on a textured ground, for the `parts` project: synthetic, and only that.

They show that detection works from commit to verdict; they say nothing of how a detector does on real photographs.

    python -m visionops.demo.parts FOLDER
    visionops import parts FOLDER/parts-01 --batch parts-01
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

CLASSES = ("bolt", "bracket", "nut", "pin", "washer")
SIDE = 64
# Images and seed of the batches that docs/detection.md speaks of, and by how many pixels their boxes are off.
BATCHES = {"parts-01": (640, 1, 0.0), "parts-02": (400, 2, 0.0), "parts-03": (240, 3, 7.0)}
_FINER = 4


@dataclass(frozen=True)
class Picture:
    """Grey pixels uint8 (SIDE, SIDE), and COCO boxes (left, top, width, height in pixels) with their classes."""

    pixels: NDArray[np.uint8]
    boxes: list[tuple[float, float, float, float]]
    labels: list[str]


def draw_picture(random: np.random.Generator) -> Picture:
    """One to four parts, each turned and lit at random, on brushed and spotted ground."""
    canvas = _ground(random)
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[str] = []
    for _ in range(int(random.integers(1, 5))):
        label = CLASSES[random.integers(len(CLASSES))]
        shape = _part(label, random)
        box = _place(shape, boxes, random)
        if box is None:
            continue
        left, top, width, height = (int(side) for side in box)
        lit = float(random.uniform(150, 245)) if random.random() < 0.7 else float(random.uniform(5, 40))
        cover = np.asarray(shape, np.float64) / 255
        under = canvas[top : top + height, left : left + width]
        canvas[top : top + height, left : left + width] = under * (1 - cover) + lit * cover
        boxes.append(box)
        labels.append(label)
    noisy = canvas + random.normal(0, 6, canvas.shape)
    return Picture(np.clip(np.rint(noisy), 0, 255).astype(np.uint8), boxes, labels)


def draw_batch(images: int, seed: int) -> list[Picture]:
    """So many pictures, the same for the same arguments."""
    random = np.random.default_rng([seed, images])
    return [draw_picture(random) for _ in range(images)]


def write_batch(folder: Path, images: int, seed: int, *, shift: tuple[float, float] = (0.0, 0.0)) -> Path:
    """Write a batch in COCO's format: PNG files and `annotations.json`.

    `shift` moves all boxes by so many pixels, as a labelling tool with a wrong offset would; they stay in the frame.
    The same arguments write the same bytes.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picture in enumerate(draw_batch(images, seed)):
        name = f"images/{number:04d}.png"
        Image.fromarray(picture.pixels).save(folder / name)
        entries.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
        for box, label in zip(picture.boxes, picture.labels, strict=True):
            annotations.append(_annotation(len(annotations), number, _shifted(box, shift), label))
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def write_batches(folder: Path) -> list[Path]:
    """All of `BATCHES`: a first, a good second, one with shifted boxes."""
    return [
        write_batch(folder / name, images, seed, shift=(off, off))
        for name, (images, seed, off) in BATCHES.items()
    ]


def _ground(random: np.random.Generator) -> NDArray[np.float64]:
    coarse = Image.fromarray(random.integers(0, 256, (10, 10), dtype=np.uint8)).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC
    )
    brushed = random.normal(0, 14, (SIDE, 1)) if random.random() < 0.5 else random.normal(0, 14, (1, SIDE))
    return 70 + 0.22 * np.asarray(coarse, np.float64) + brushed


def _part(label: str, random: np.random.Generator) -> Image.Image:
    """The mask of a part, cut to its box: 8-bit grey, between 9 and 30 pixels long.

    A nut's hole is smaller than a washer's: a dozen pixels across, hexagon and disc alone can hardly be told apart.
    """
    size = int(random.integers(12, 27))
    large = size * _FINER
    mask = Image.new("L", (2 * large, 2 * large))
    pen = ImageDraw.Draw(mask)
    centre, half = large, large / 2
    match label:
        case "washer":
            _disc(pen, centre, half, 255)
            _disc(pen, centre, half * 0.6, 0)
        case "nut":
            pen.regular_polygon((centre, centre, half), 6, fill=255)
            _disc(pen, centre, half * 0.4, 0)
        case "bolt":
            pen.rectangle(
                (centre - half, centre - half * 0.22, centre + half, centre + half * 0.22), fill=255
            )
            pen.rectangle(
                (centre - half, centre - half * 0.6, centre - half * 0.45, centre + half * 0.6), fill=255
            )
        case "bracket":
            pen.rectangle((centre - half, centre - half, centre - half * 0.45, centre + half), fill=255)
            pen.rectangle((centre - half, centre + half * 0.45, centre + half, centre + half), fill=255)
        case _:
            pen.rounded_rectangle(
                (centre - half, centre - half * 0.25, centre + half, centre + half * 0.25),
                half * 0.25,
                fill=255,
            )
    turned = mask.rotate(float(random.uniform(0, 360)), Image.Resampling.BILINEAR)
    small = turned.resize((2 * size, 2 * size), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(0.4))
    return small.crop(small.point(lambda value: 255 * (value > 60)).getbbox())


def _disc(pen: ImageDraw.ImageDraw, centre: float, radius: float, fill: int) -> None:
    pen.ellipse((centre - radius, centre - radius, centre + radius, centre + radius), fill=fill)


def _place(
    shape: Image.Image, taken: list[tuple[float, float, float, float]], random: np.random.Generator
) -> tuple[float, float, float, float] | None:
    """A place in the frame that overlaps no other part's box; None where twenty tries found none."""
    for _ in range(20):
        left = int(random.integers(0, SIDE - shape.width + 1))
        top = int(random.integers(0, SIDE - shape.height + 1))
        if all(
            left >= x + w or x >= left + shape.width or top >= y + h or y >= top + shape.height
            for x, y, w, h in taken
        ):
            return float(left), float(top), float(shape.width), float(shape.height)
    return None


def _shifted(
    box: tuple[float, float, float, float], shift: tuple[float, float]
) -> tuple[float, float, float, float]:
    x, y, w, h = box
    # Moved towards the middle where the frame ends, so that no audit finds a box outside.
    moved = (
        here + by if here + by + length <= SIDE else here - by
        for here, by, length in ((x, shift[0], w), (y, shift[1], h))
    )
    x, y = (min(max(0.0, place), SIDE - length) for place, length in zip(moved, (w, h), strict=True))
    return x, y, w, h


def _annotation(
    number: int, image: int, box: tuple[float, float, float, float], label: str
) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": CLASSES.index(label),
        "bbox": list(box),
        "area": box[2] * box[3],
        "iscrowd": 0,
    }


if __name__ == "__main__":
    for batch in write_batches(Path(sys.argv[1])):
        print(batch)
