"""What is claimed of a paired difference, whatever metric it is of: interval, non-inferiority, labels needed; of
the whole holdout, and of each piece when it is cut by class, batch and declared columns.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.common.error_levels import labels_to_collect, rows_for_no_loss, rows_needed
from visionops_assets.config.gate_rules import CLASS_SLICE, GateRules
from visionops_assets.evaluation.context import GateContext
from visionops_assets.evaluation.paired_difference import (
    DifferenceBounds,
    Floats,
    PairedDifference,
    paired_difference,
    spread,
)
from visionops_assets.evaluation.significance import holm, least_losses, loss_found, p_of_loss
from visionops_assets.evaluation.verdict import Bound, Comparison, LabelsNeeded, Leak, SliceRow
from visionops_assets.tasks.task_registry import CLASSIFICATION

# Enough to see the pattern; the table of all leaks is the caller's.
_LEAKS_SHOWN = 20
NO_VALUE = "(none)"


def compared(
    metric: str,
    unit: str,
    values: Mapping[str, float],
    paired: PairedDifference,
    rules: GateRules,
    bounds: DifferenceBounds,
    **claims: Any,
) -> Comparison:
    """Both models by one metric, with the two-sided interval of their difference at the protective level."""
    lower, upper = bounds.at(rules.alpha) or (None, None)
    return Comparison(
        metric=metric, unit=unit, difference=paired.mean, lower=lower, upper=upper, **values, **claims
    )


def no_worse_claim(
    paired: PairedDifference,
    bounds: DifferenceBounds,
    rules: GateRules,
    context: GateContext,
    *,
    dearest: float,
) -> dict[str, Any]:
    """The fields of a claim of non-inferiority; `dearest` is how far apart two answers for one image can be."""
    found = bounds.at(context.level(rules))
    net_losses = -float(paired.sums.sum()) / dearest * paired.groups / paired.rows
    return {
        "claim": found[0] if found else None,
        "p_margin": least_losses(net_losses, paired.groups, rules.min_improvement / dearest),
    }


def labels_needed(
    gain: Floats, paired: PairedDifference, rules: GateRules, context: GateContext
) -> LabelsNeeded:
    """How many labels the claim of this gate needs; `gain` is the difference per image."""
    level = context.level(rules)
    per_image = spread(gain, paired)
    needed = rows_needed(per_image, rules.min_improvement, level)
    if rules.require == "non_inferior":
        dearest = rules.costs.dearest if rules.costs else 1.0
        least = rows_for_no_loss(rules.min_improvement / dearest, level)
        needed = max(needed or 0, math.ceil(least * paired.rows / paired.groups))
    if needed is not None:
        needed = max(needed, rules.min_holdout)
    return LabelsNeeded(
        improvement=rules.min_improvement,
        level=level,
        spread=per_image,
        rows_now=paired.rows,
        rows_needed=needed,
        labels_to_collect=labels_to_collect(needed, paired.rows, context.holdout_share),
    )


def leaks_shown(leaks: pd.DataFrame) -> list[Leak]:
    """The first leaks, as evidence keeps them."""
    return [
        Leak.model_validate({str(name): value for name, value in row.items() if _is_field(name, value)})
        for row in leaks.head(_LEAKS_SHOWN).to_dict("records")
    ]


def _is_field(name: object, value: Any) -> bool:
    return name in Leak.model_fields and bool(pd.notna(value))


@dataclass(frozen=True)
class Outcomes:
    """What happened on each holdout image [rows], in the order of the predictions table.

    `gain` is the primary metric's difference, positive where the challenger is better. Champion and gain are
    None where there is no champion.
    """

    groups: NDArray[np.int64]
    challenger_correct: NDArray[np.bool_]
    champion_correct: NDArray[np.bool_] | None
    gain: Floats | None

    def of(self, mask: NDArray[np.bool_]) -> "Outcomes":
        """The images that the mask keeps."""
        champion = self.champion_correct[mask] if self.champion_correct is not None else None
        gain = self.gain[mask] if self.gain is not None else None
        return Outcomes(self.groups[mask], self.challenger_correct[mask], champion, gain)


@dataclass(frozen=True)
class Slice:
    """Which rows (bool mask) have one value of one column; `outside` names batches that are left out."""

    column: str | None
    value: str
    mask: NDArray[np.bool_]
    outside: str | None = None


def cut(
    predictions: pd.DataFrame, columns: Sequence[str], classes: Sequence[str], suspects: Sequence[str] = ()
) -> Iterator[Slice]:
    """Yield the whole holdout and every slice that has rows: classes in their order, other values sorted.

    Where batches are suspected of wrong labels, each class is cut once more without them: a model that learned two
    classes swapped in one batch wins there what it loses elsewhere, and the class as a whole shows nothing.
    """
    yield Slice(None, "overall", np.ones(len(predictions), dtype=bool))
    labels = predictions["label"].to_numpy()
    for name in classes:
        mask = labels == name
        if mask.any():
            yield Slice(CLASS_SLICE, name, mask)
    yield from cut_by_columns(predictions, [column for column in columns if column != CLASS_SLICE])
    if suspects:
        elsewhere = ~predictions["batch"].astype(str).isin(suspects).to_numpy()
        for name in classes:
            mask = elsewhere & (labels == name)
            if mask.any():
                yield Slice(CLASS_SLICE, name, mask, ", ".join(suspects))


def cut_by_columns(predictions: pd.DataFrame, columns: Sequence[str]) -> Iterator[Slice]:
    """Yield a slice for each value of each column, sorted; an absent value is `NO_VALUE`."""
    for column in columns:
        values = predictions[column]
        names = values.astype(object).where(values.notna(), NO_VALUE).astype(str).to_numpy()
        for value in sorted(set(names)):
            yield Slice(column, value, names == value)


def slice_rows(
    predictions: pd.DataFrame,
    outcomes: Outcomes,
    rules: GateRules,
    *,
    classes: Sequence[str],
    holdout_share: float,
    suspects: Sequence[str] = (),
) -> list[SliceRow]:
    """The whole holdout and every slice of it: accuracies, floor, and with a champion the test of regression.

    The tests are `significance.p_of_loss`, Holm-corrected over all rows of the table that are tested, at
    `rules.alpha`: they protect, so they spend nothing.
    """
    pieces = list(cut(predictions, rules.slice_columns, classes, suspects))
    tests = sum(is_tested(int(piece.mask.sum()), rules) for piece in pieces)
    rows = [_row(piece, outcomes.of(piece.mask), rules, holdout_share, tests) for piece in pieces]
    return rows if outcomes.champion_correct is None else holm_adjusted(rows, rules)


def is_tested(size: int, rules: GateRules) -> bool:
    """Whether a slice of this many rows is tested for a loss."""
    return size >= rules.regressions.min_samples


def holm_adjusted(rows: Sequence[SliceRow], rules: GateRules) -> list[SliceRow]:
    """The tests of all rows that have a `p_worse`, corrected for their number and held to `rules.alpha`."""
    adjusted = iter(holm([row.p_worse for row in rows if row.p_worse is not None]))
    return [row if row.p_worse is None else _held_to(row, float(next(adjusted)), rules.alpha) for row in rows]


def _held_to(row: SliceRow, p: float, alpha: float) -> SliceRow:
    return row.model_copy(update={"p_worse_holm": p, "regressed": p <= alpha})


def empty_critical_slices(rows: Sequence[SliceRow], rules: GateRules) -> list[str]:
    """The critical slices that no holdout image belongs to."""
    present = {row.name() for row in rows}
    return [name for name in rules.critical_slices if name not in present]


def absent_classes(predictions: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """The classes that no holdout image has."""
    present = set(predictions["label"].unique())
    return [name for name in classes if name not in present]


def _row(piece: Slice, part: Outcomes, rules: GateRules, holdout_share: float, tests: int) -> SliceRow:
    size = len(part.groups)
    accuracy = float(part.challenger_correct.mean())
    floor, reason = floor_of(piece, size, rules)
    row = SliceRow(
        column=piece.column,
        value=piece.value,
        outside=piece.outside,
        rows=size,
        groups=len(np.unique(part.groups)),
        challenger=accuracy,
        critical=is_critical(piece, rules),
        floor=floor,
        floor_reason=reason,
        below_floor=floor is not None and accuracy < floor,
    )
    if part.champion_correct is None or part.gain is None:
        return row
    return row.model_copy(
        update=_against_champion(part, part.champion_correct, part.gain, row, rules, holdout_share, tests)
    )


def is_critical(piece: Slice, rules: GateRules) -> bool:
    """Whether the rules name this slice as critical."""
    return piece.outside is None and f"{piece.column}={piece.value}" in rules.critical_slices


def floor_of(piece: Slice, size: int, rules: GateRules) -> tuple[float | None, str | None]:
    """The floor that binds a slice of this many rows, and the reason if it is an exception."""
    if piece.column is None:
        # The smallest sample for the whole holdout is `min_holdout`.
        return rules.floors.overall, None
    floor, reason = rules.floors.of(piece.column, piece.value)
    binds = piece.outside is None and size >= rules.floors.min_samples
    return floor if binds else None, reason


def _against_champion(
    part: Outcomes,
    champion_correct: NDArray[np.bool_],
    gain: Floats,
    row: SliceRow,
    rules: GateRules,
    holdout_share: float,
    tests: int,
) -> dict[str, object]:
    wins = int((part.challenger_correct & ~champion_correct).sum())
    losses = int((champion_correct & ~part.challenger_correct).sum())
    paired = paired_difference(gain, part.groups)
    # The whole holdout claims, at another level: its labels are `Evidence.labels`.
    whole = row.column is None
    needed = None if whole else rows_needed(spread(gain, paired), rules.min_improvement, rules.alpha)
    right = part.challenger_correct.astype(np.float64) - champion_correct
    tested = (
        _loss(wins, losses, right, paired_difference(right, part.groups), rules, tests)
        if is_tested(row.rows, rules)
        else {}
    )
    return {
        "champion": float(champion_correct.mean()),
        "wins": wins,
        "losses": losses,
        "lower": _critical_bound(paired, rules) if row.critical else None,
        "rows_needed": needed,
        "labels_to_collect": labels_to_collect(needed, row.rows, holdout_share),
        **tested,
    }


def _loss(
    wins: int, losses: int, right: Floats, paired: PairedDifference, rules: GateRules, tests: int
) -> dict[str, object]:
    tolerance = rules.regressions.tolerated(CLASSIFICATION)
    return {
        "tolerance": tolerance,
        "p_worse": p_of_loss(wins, losses, paired, tolerance=tolerance, seed=rules.bootstrap.seed),
        "loss_found": loss_found(
            paired,
            level=rules.alpha / tests,
            tolerance=tolerance,
            spread=spread(right, paired),
            noise=min(wins, losses),
        ),
    }


def _critical_bound(paired: PairedDifference, rules: GateRules) -> Bound | None:
    bounds = DifferenceBounds(paired, draws=rules.bootstrap.draws, seed=rules.bootstrap.seed)
    found = bounds.at(rules.alpha)
    return found[0] if found else None
