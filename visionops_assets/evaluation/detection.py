"""All numbers of a verdict on a detector, measured before anything is decided: the holdout matched once and cut by
class, batch, object size and declared columns.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.common.error_levels import labels_to_collect, rows_needed
from visionops_assets.config.gate_rules import CLASS_SLICE, OBJECT_SIZE_SLICE, GateRules
from visionops_assets.dataset.findings_file import boxes_in_words
from visionops_assets.evaluation.context import GateContext, suspect_batches
from visionops_assets.evaluation.evaluation_task import Errors, EvaluationTask, Images, Pixels, Said
from visionops_assets.evaluation.found_boxes import box_errors, examples_picture
from visionops_assets.evaluation.paired_difference import (
    ByClass,
    DifferenceBounds,
    PairedDifference,
    PrecisionPair,
    spread,
)
from visionops_assets.evaluation.significance import loss_found, p_of_group_losses, sign_flip
from visionops_assets.evaluation.slices import (
    Slice,
    compared,
    cut_by_columns,
    floor_of,
    holm_adjusted,
    is_critical,
    is_tested,
    labels_needed,
    leaks_shown,
    no_worse_claim,
)
from visionops_assets.evaluation.verdict import Comparison, Evidence, LabelsNeeded, SliceRow
from visionops_assets.images.box_metrics import (
    ALL_AREAS,
    OVERLAP,
    Boxes,
    Matches,
    Matching,
    mean_average_precisions,
)
from visionops_assets.inference.detections import (
    as_boxes,
    boxes_column,
    boxes_in_image,
    detect,
    detection_faults,
    detections_table,
)
from visionops_assets.inference.shipped_model import ShippedModel
from visionops_assets.tasks.task_registry import DETECTION

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


def measure_detection(predictions: pd.DataFrame, rules: GateRules, context: GateContext) -> Evidence:
    """Measure a sound predictions table of detectors (`detection_faults` found nothing) of at least one row."""
    holdout = DetectionHoldout(predictions, context.classes)
    groups = pd.factorize(predictions["group"])[0].astype(np.int64)
    measured = _Measured(holdout, groups, rules, context)
    against_labels = measured.champion if measured.champion is not None else measured.challenger
    suspects = suspect_batches(
        predictions, None, against_labels.all_found(), min_samples=rules.floors.min_samples
    )
    pieces = list(holdout.pieces(rules, [suspect.batch for suspect in suspects]))
    tests = sum(is_tested(int(piece.slice.mask.sum()), rules) for piece in pieces)
    rows = [measured.slice_row(piece, tests) for piece in pieces]
    primary, guards, needed = measured.overall()
    present = {context.classes[number] for number in np.unique(holdout.truths.labels)}
    return Evidence(
        rows=len(predictions),
        groups=int(groups.max()) + 1,
        primary=primary,
        guards=guards,
        slices=rows if measured.champion is None else holm_adjusted(rows, rules),
        labels=needed,
        leak_count=len(context.leaks),
        leaks=leaks_shown(context.leaks),
        suspects=suspects,
        between=context.between,
        absent_classes=[name for name in context.classes if name not in present],
        present_classes=len(present),
        constant_prediction=_constant(predictions[boxes_column("challenger")]),
    )


class _Measured:
    """Both detectors on one holdout."""

    def __init__(
        self,
        holdout: DetectionHoldout,
        groups: NDArray[np.int64],
        rules: GateRules,
        context: GateContext,
    ) -> None:
        self.groups, self.rules, self.context = groups, rules, context
        self.challenger = holdout.matched("challenger")
        self.champion: Matched | None = holdout.matched("champion") if context.champion is not None else None

    def overall(self) -> tuple[Comparison, list[Comparison], LabelsNeeded | None]:
        """The primary metric, the guards, and the labels that the claim needs."""
        whole = np.ones(len(self.groups), bool)
        at_half = [self.challenger.at(OVERLAPS[0])]
        at_all = [self.challenger.at(overlap) for overlap in OVERLAPS]
        if self.champion is None:
            alone = [
                Comparison(metric=name, unit="share", challenger=_value(by_class))
                for name, by_class in ((MAP, at_half), (MAP_RANGE, at_all))
            ]
            return alone[0], alone[1:], None
        rules, context = self.rules, self.context
        pair = PrecisionPair(at_half, [self.champion.at(OVERLAPS[0])], whole, self.groups)
        paired, bounds = self._bounds(pair)
        found = bounds.at(context.level(rules))
        claims: dict[str, Any] = {
            "p_superior": sign_flip(paired.sums, seed=rules.bootstrap.seed),
            "claim": found[0] if found else None,
        }
        if rules.require == "non_inferior":
            claims |= no_worse_claim(paired, bounds, rules, context, dearest=1.0)
        primary = compared(MAP, "share", _values(pair), paired, rules, bounds, **claims)
        # Reported, not judged: its interval would cost ten times the primary's.
        ours, theirs = (
            _value(at_all),
            _value([self.champion.at(overlap) for overlap in OVERLAPS]),
        )
        guard = Comparison(
            metric=MAP_RANGE, unit="share", challenger=ours, champion=theirs, difference=ours - theirs
        )
        return primary, [guard], labels_needed(_per_image(paired), paired, rules, context)

    def slice_row(self, piece: Piece, tests: int) -> SliceRow:
        """One slice: average precisions, floor, and with a champion the test of regression, one of so many `tests`."""
        cut, size = piece.slice, int(piece.slice.mask.sum())
        ours = self.challenger.of(piece)
        value = _value(ours)
        floor, reason = floor_of(cut, size, self.rules)
        row = SliceRow(
            column=cut.column,
            value=cut.value,
            outside=cut.outside,
            rows=size,
            groups=len(np.unique(self.groups[cut.mask])),
            challenger=value,
            metric=piece.metric,
            wins=None,
            losses=None,
            critical=is_critical(cut, self.rules),
            floor=floor,
            floor_reason=reason,
            below_floor=floor is not None and value < floor,
        )
        if self.champion is None:
            return row
        pair = PrecisionPair(ours, self.champion.of(piece), cut.mask, self.groups)
        return row.model_copy(update=self._against_champion(pair, row, tests))

    def _against_champion(self, pair: PrecisionPair, row: SliceRow, tests: int) -> dict[str, object]:
        rules = self.rules
        paired, bounds = self._bounds(pair)
        found = bounds.at(rules.alpha) if row.critical else None
        # The whole holdout claims, at another level: its labels are `Evidence.labels`.
        needed, varies = None, spread(_per_image(paired), paired)
        if row.column is not None:
            needed = rows_needed(varies, rules.min_improvement, rules.alpha)
        return {
            "champion": _value(pair.champion),
            "lower": found[0] if found else None,
            "rows_needed": needed,
            "labels_to_collect": labels_to_collect(needed, row.rows, self.context.holdout_share),
            **(self._loss(paired, varies, tests) if is_tested(row.rows, rules) else {}),
        }

    def _loss(self, paired: PairedDifference, varies: float, tests: int) -> dict[str, object]:
        rules, tolerance = self.rules, self.rules.regressions.tolerated(DETECTION)
        level = rules.alpha / tests
        return {
            "tolerance": tolerance,
            "p_worse": p_of_group_losses(paired, tolerance=tolerance, seed=rules.bootstrap.seed),
            "loss_found": loss_found(paired, level=level, tolerance=tolerance, spread=varies),
        }

    def _bounds(self, pair: PrecisionPair) -> tuple[PairedDifference, DifferenceBounds]:
        paired, bootstrap = pair.linear(), self.rules.bootstrap
        draws = lambda: pair.drawn(bootstrap.draws, bootstrap.seed)  # noqa: E731
        return paired, DifferenceBounds(paired, draws=bootstrap.draws, seed=bootstrap.seed, drawn=draws)


def _value(by_class: ByClass) -> float:
    images = len(by_class[0][0].truths)
    # Without a truth there is nothing to find and nothing to be right about.
    return float(np.nan_to_num(mean_average_precisions(by_class, np.ones((1, images)))[0]))


def _values(pair: PrecisionPair) -> dict[str, float]:
    return {"challenger": _value(pair.challenger), "champion": _value(pair.champion)}


def _per_image(paired: PairedDifference) -> NDArray[np.float64]:
    """What each image gains: its group's part in equal shares. A group without rows here is one."""
    each = np.maximum(paired.sizes, 1)
    return np.repeat(paired.sums / each, each)


def _constant(answers: Iterable[Any]) -> str | None:
    """What a detector says of every image, where it says the same of all."""
    distinct = {str(list(boxes)) for boxes in answers}
    if len(distinct) > 1:
        return None
    return "no boxes" if distinct == {"[]"} else "the same boxes"


class Detection(EvaluationTask):
    """Boxes with classes; an image without one counts."""

    name, meant = DETECTION, True

    def run(self, shipped: ShippedModel, batches: Iterable[Pixels]) -> Any:
        return detect(shipped, batches)

    def table(
        self, holdout: pd.DataFrame, *, challenger: Any, champion: Any = None, slices: Sequence[str] = ()
    ) -> pd.DataFrame:
        return detections_table(holdout, challenger=challenger, champion=champion, slices=slices)

    def faults(self, predictions: pd.DataFrame, rules: GateRules, context: GateContext) -> list[str]:
        with_champion = context.champion is not None
        return detection_faults(predictions, rules, classes=context.classes, with_champion=with_champion)

    def absence(self, predictions: pd.DataFrame) -> str | None:
        if not predictions.empty and predictions["boxes"].map(len).sum() == 0:
            return "the holdout has no box to find."
        return super().absence(predictions)

    def measure(self, predictions: pd.DataFrame, rules: GateRules, context: GateContext) -> Evidence:
        return measure_detection(predictions, rules, context)

    def examples(self, predictions: pd.DataFrame, classes: Sequence[str], images: Images) -> bytes | None:
        return examples_picture(predictions, classes, images)

    def opinion(self, answers: Any, sides: Sequence[tuple[int, int]]) -> pd.DataFrame:
        return pd.DataFrame(
            {"boxes": [boxes_in_image(answers, row, *each) for row, each in enumerate(sides)]}
        )

    def truth(self, row: pd.Series) -> Said:
        return Said(boxes_in_words(list(row["boxes"])), list(row["boxes"]))

    def answer_column(self, model: str) -> str:
        return boxes_column(model)

    def errors(self, predictions: pd.DataFrame, model: str, least: float) -> Errors:
        return box_errors(predictions, model, least)


TASK = Detection()
