"""Pictures of a detector's answers against the truth, small enough for an asset's metadata (below 50 kB)."""

import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from visionops_assets.evaluation.detection_slices import OVERLAP
from visionops_assets.evaluation.detections import as_boxes, boxes_column
from visionops_assets.training.matching import Matching

_LARGEST_BYTES = 50_000
_SIDE, _COLUMNS, _GAP = 144, 4, 4
# Answers of a lower score are many, and hardly ever meant.
LEAST_SCORE = 0.3
_TRUTH, _ANSWER = (60, 220, 90), (255, 80, 60)


def examples_picture(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    images: Callable[[list[str]], Iterable[tuple[str, NDArray[np.uint8]]]],
    count: int = 8,
) -> bytes:
    """Draw the images on which the challenger errs most, batch after batch: truth in green, answers in red, as PNG.

    `images` gives the decoded images uint8 [H, W, 3] of paths.
    """
    chosen = predictions.iloc[_worst(predictions, classes, count)]
    pixels = dict(images(chosen["path"].tolist()))
    drawn = [
        _draw(pixels[path], truths, [box for box in said if box["score"] >= LEAST_SCORE])
        for path, truths, said in zip(
            chosen["path"], chosen["boxes"], chosen[boxes_column("challenger")], strict=True
        )
    ]
    for shown in range(len(drawn), 0, -1):
        picture = _sheet(drawn[:shown])
        if len(picture) < _LARGEST_BYTES:
            break
    return picture


def _worst(predictions: pd.DataFrame, classes: Sequence[str], count: int) -> list[int]:
    """Row numbers: of each batch the image with the most errors, then of each the next, and so on."""
    truths = as_boxes(predictions["boxes"], classes)
    answers = as_boxes(predictions[boxes_column("challenger")], classes)
    clear = answers.of(answers.scores >= LEAST_SCORE)
    matches = Matching(truths, clear, images=len(predictions), classes=len(classes)).at(OVERLAP)
    errors = np.zeros(len(predictions))
    for one in matches:
        hits = np.bincount(one.images[one.hits], minlength=len(predictions))
        errors += one.truths + np.bincount(one.images, minlength=len(predictions)) - 2 * hits
    order = pd.DataFrame({"batch": predictions["batch"].to_numpy(), "errors": errors})
    order = order.sort_values("errors", ascending=False, kind="stable")
    turn = order.groupby("batch", sort=False).cumcount()
    return [int(row) for row in turn.sort_values(kind="stable").index[:count]]


def _draw(
    pixels: NDArray[np.uint8], truths: Iterable[dict[str, Any]], answers: Iterable[dict[str, Any]]
) -> Image.Image:
    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    enlarged = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    image = Image.fromarray(pixels).resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), enlarged
    )
    pen = ImageDraw.Draw(image)
    for boxes, colour in ((truths, _TRUTH), (answers, _ANSWER)):
        for box in boxes:
            left, top = box["x"] * scale, box["y"] * scale
            right, bottom = left + box["w"] * scale, top + box["h"] * scale
            pen.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour)
            pen.text((left + 2, top if colour == _TRUTH else bottom - 12), str(box["label"]), fill=colour)
    return image


def _sheet(drawn: Sequence[Image.Image]) -> bytes:
    rows, step = -(-len(drawn) // _COLUMNS), _SIDE + _GAP
    sheet = Image.new("RGB", (min(len(drawn), _COLUMNS) * step, rows * step), (255, 255, 255))
    for number, image in enumerate(drawn):
        sheet.paste(image, (number % _COLUMNS * step, number // _COLUMNS * step))
    buffer = io.BytesIO()
    sheet.quantize(48, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
