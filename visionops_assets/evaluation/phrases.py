"""How numbers read in a verdict's sentences."""

from visionops_assets.evaluation.verdict import Bound, Comparison, SliceRow

SHARE = "share"


def percent(share: float | None) -> str:
    """A share as a percentage."""
    return "unknown" if share is None else f"{100 * share:.1f}%"


def amount(value: float | None, unit: str) -> str:
    """A metric's value: a percentage, or a number with its unit."""
    if value is None:
        return "unknown"
    return percent(value) if unit == SHARE else f"{value:.4g} {unit}"


def points(difference: float | None, unit: str, *, signed: bool = True) -> str:
    """A difference: in percentage points, or in the unit."""
    if difference is None:
        return "unknown"
    sign = "+" if signed else ""
    if unit == SHARE:
        return f"{100 * difference:{sign}.2f} points"
    return f"{difference:{sign}.4g} {unit}"


def probability(p: float | None) -> str:
    """A p-value; the small ones by their magnitude."""
    if p is None:
        return "unknown"
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.0e}"


def models(comparison: Comparison) -> str:
    """Both models' values and their difference."""
    challenger = amount(comparison.challenger, comparison.unit)
    champion = amount(comparison.champion, comparison.unit)
    return (
        f"{comparison.metric} {challenger} against {champion}, a gain of "
        f"{points(comparison.difference, comparison.unit)}"
    )


def bound_in_words(bound: Bound | None, unit: str, margin: float) -> str:
    """Where a lower bound lies against the margin."""
    if bound is None:
        return "there are fewer than two groups to estimate it from"
    found = points(bound.value, unit)
    relation = "below" if bound.value < -margin else "at or above"
    return (
        f"the {1 - bound.level:.4g} lower bound of the difference is {found}, {relation} the margin of "
        f"{points(-margin, unit)}"
    )


def counts(primary: Comparison | SliceRow) -> str:
    """Won and lost images, where the metric counts them; ends with a comma."""
    if primary.wins is None or primary.losses is None:
        return ""
    return f"{primary.wins} images won, {primary.losses} lost, "


def points_tolerated(row: SliceRow) -> str:
    """What a slice may lose."""
    return points(row.tolerance or 0.0, SHARE, signed=False)


def loss_found(row: SliceRow) -> str:
    """The loss that a slice's images would show; a dash where none is looked for."""
    if row.loss_found is None:
        return "–"
    return f"{100 * row.loss_found:.1f} points" if row.loss_found < 1 else "none"


def loss_found_in_words(row: SliceRow) -> str:
    """The same as a statement about so many images."""
    if row.loss_found is None or row.loss_found >= 1:
        return f"{row.rows:,} images find no loss four times in five"
    return f"of {row.rows:,} images a loss of {loss_found(row)} is found four times in five"


def retract_command(project: str, batch: str) -> str:
    """The command that takes a batch out of the data again."""
    return f"visionops retract {project} {batch} --why ..."
