"""What a detector finds in each image, and pictures of its answers against the truth.

Its errors are truths that no box finds, and boxes that find no truth, of the score from which its boxes are meant; an
overlap of a half is a find, as in mAP@0.5.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from edge.onnx_model import DEFAULT_MIN_SCORE
from visionops_assets.evaluation.evaluation_task import Errors, Said
from visionops_assets.images.box_metrics import OVERLAP, Matching
from visionops_assets.images.pictures import ANSWER, TRUTH, Mark, marked
from visionops_assets.inference.detections import as_boxes, boxes_column

_LARGEST_BYTES = 50_000
# Answers of a lower score are many, and hardly ever meant.
LEAST_SCORE = DEFAULT_MIN_SCORE


def box_errors(predictions: pd.DataFrame, model: str, least: float) -> Errors:
    """The errors of a detector: truths that no box finds, and boxes that find no truth."""
    meant = [[box for box in boxes if box["score"] >= least] for boxes in predictions[boxes_column(model)]]
    column = pd.Series(meant, index=predictions.index, dtype=object)
    truths = np.array([len(boxes) for boxes in predictions["boxes"]], np.float64)
    boxes = np.array([len(each) for each in meant], np.float64)
    classes = sorted({box["label"] for boxes in (*predictions["boxes"], *meant) for box in boxes})
    hits = hits_by_image(predictions["boxes"], column, classes)
    said = [
        Said(
            f"finds {int(hit)} of {int(there)}" + (f", {int(count - hit)} too many" if count > hit else ""),
            each,
        )
        for hit, there, count, each in zip(hits, truths, boxes, meant, strict=True)
    ]
    sure = np.array([each[0]["score"] if each else 0.0 for each in meant])
    return Errors(truths + boxes - 2 * hits, sure, said)


def hits_by_image(truths: pd.Series, answers: pd.Series, classes: Sequence[str]) -> NDArray[np.float64]:
    """How many truths of each image, of some classes, are found by the boxes of a column of predictions [N]."""
    matching = Matching(
        as_boxes(truths, classes), as_boxes(answers, classes), images=len(truths), classes=len(classes)
    )
    hits = np.zeros(len(truths))
    for one in matching.at(OVERLAP):
        hits += np.bincount(one.images[one.hits], minlength=len(truths))
    return hits


_SIDE, _COLUMNS, _GAP = 144, 4, 4


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
    said = [
        [box for box in boxes if box["score"] >= LEAST_SCORE]
        for boxes in predictions[boxes_column("challenger")]
    ]
    truths, answers = predictions["boxes"], pd.Series(said, index=predictions.index, dtype=object)
    counts = truths.map(len).to_numpy(np.float64) + answers.map(len).to_numpy(np.float64)
    errors = counts - 2 * hits_by_image(truths, answers, classes)
    order = pd.DataFrame({"batch": predictions["batch"].to_numpy(), "errors": errors})
    order = order.sort_values("errors", ascending=False, kind="stable")
    turn = order.groupby("batch", sort=False).cumcount()
    return [int(row) for row in turn.sort_values(kind="stable").index[:count]]


def _draw(
    pixels: NDArray[np.uint8], truths: Iterable[dict[str, Any]], answers: Iterable[dict[str, Any]]
) -> Image.Image:
    marks = [
        Mark(box, str(box["label"]), colour)
        for boxes, colour in ((truths, TRUTH), (answers, ANSWER))
        for box in boxes
    ]
    return marked(pixels, marks, _SIDE / max(pixels.shape[:2]))


def _sheet(drawn: Sequence[Image.Image]) -> bytes:
    rows, step = -(-len(drawn) // _COLUMNS), _SIDE + _GAP
    sheet = Image.new("RGB", (min(len(drawn), _COLUMNS) * step, rows * step), (255, 255, 255))
    for number, image in enumerate(drawn):
        sheet.paste(image, (number % _COLUMNS * step, number // _COLUMNS * step))
    buffer = io.BytesIO()
    sheet.quantize(48, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
