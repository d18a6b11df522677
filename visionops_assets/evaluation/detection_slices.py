"""The holdout of a detector, matched once and cut by class, batch, object size and declared columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.config.gate_rules import CLASS_SLICE, OBJECT_SIZE_SLICE, GateRules
from visionops_assets.evaluation.detections import as_boxes, boxes_column
from visionops_assets.evaluation.precision_pair import ByClass
from visionops_assets.evaluation.slices import Slice, cut_by_columns
from visionops_assets.training.matching import ALL_AREAS, Boxes, Matches, Matching

OVERLAP = 0.5
OVERLAPS = tuple(np.linspace(0.5, 0.95, 10).tolist())
AP, MAP, MAP_RANGE = "AP@0.5", "mAP@0.5", "mAP@0.5:0.95"


@dataclass(frozen=True)
class Piece:
    """A slice, and what is measured of it: one class or all, objects of some areas, answers `within` some images."""

    slice: Slice
    metric: str = MAP
    label: int | None = None
    areas: tuple[float, float] = ALL_AREAS
    within: NDArray[np.bool_] | None = None


class Matched:
    """One model's answers matched to the truths, at any overlap and object size, each once."""

    def __init__(self, truths: Boxes, answers: Boxes, images: int, classes: int) -> None:
        self.answers, self._images = answers, images
        self._matching = Matching(truths, answers, images=images, classes=classes)
        self._kept: dict[tuple[float, tuple[float, float]], list[Matches]] = {}

    def at(self, overlap: float, areas: tuple[float, float] = ALL_AREAS) -> list[Matches]:
        """One entry a class."""
        key = (overlap, areas)
        if key not in self._kept:
            self._kept[key] = self._matching.at(overlap, areas)
        return self._kept[key]

    def of(self, piece: Piece) -> ByClass:
        """The matches of a piece of the holdout."""
        by_class = self.at(OVERLAP, piece.areas)
        if piece.label is not None:
            by_class = [by_class[piece.label]]
        if piece.within is not None:
            by_class = [matches.of(piece.within) for matches in by_class]
        return [by_class]

    def all_found(self) -> NDArray[np.bool_]:
        """Of which images every box is found, whatever the score."""
        by_class = self.at(OVERLAP)
        found = sum(np.bincount(one.images[one.hits], minlength=self._images) for one in by_class)
        return np.asarray(found >= sum(one.truths for one in by_class), dtype=bool)


@dataclass(frozen=True)
class DetectionHoldout:
    """A sound predictions table of detectors, as boxes."""

    predictions: pd.DataFrame
    classes: Sequence[str]

    @cached_property
    def truths(self) -> Boxes:
        """What there is to find."""
        return as_boxes(self.predictions["boxes"], self.classes)

    def matched(self, model: str) -> Matched:
        """One model's answers (`champion` or `challenger`), to be matched."""
        answers = as_boxes(self.predictions[boxes_column(model)], self.classes)
        return Matched(self.truths, answers, len(self.predictions), len(self.classes))

    def pieces(self, rules: GateRules, suspects: Sequence[str] = ()) -> Iterator[Piece]:
        """The whole holdout, then every slice that has something to find.

        Where batches are suspected of wrong labels, each class is cut once more without them, as in `slices.cut`.
        """
        images, truths = len(self.predictions), self.truths
        yield Piece(Slice(None, "overall", np.ones(images, bool)))
        for number, name in enumerate(self.classes):
            mask = self._having(truths.labels == number)
            if mask.any():
                yield Piece(Slice(CLASS_SLICE, name, mask), AP, label=number)
        has_truth = self._having(np.ones(len(truths.labels), bool))
        columns = [column for column in rules.slice_columns if column != CLASS_SLICE]
        for cut in cut_by_columns(self.predictions, columns):
            if (cut.mask & has_truth).any():
                yield Piece(cut, within=cut.mask)
        medium, large = (side**2 for side in rules.object_sizes)
        for name, areas in (
            ("small", (0.0, medium)),
            ("medium", (medium, large)),
            ("large", (large, np.inf)),
        ):
            mask = self._having((truths.areas >= areas[0]) & (truths.areas < areas[1]))
            if mask.any():
                yield Piece(Slice(OBJECT_SIZE_SLICE, name, mask), areas=areas)
        if suspects:
            elsewhere = ~self.predictions["batch"].astype(str).isin(suspects).to_numpy()
            for number, name in enumerate(self.classes):
                mask = self._having(truths.labels == number) & elsewhere
                if mask.any():
                    outside = ", ".join(suspects)
                    cut = Slice(CLASS_SLICE, name, mask, outside)
                    yield Piece(cut, AP, label=number, within=elsewhere)

    def _having(self, boxes: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.bincount(self.truths.images[boxes], minlength=len(self.predictions)) > 0
