"""A verdict in words: how its numbers read, its two sentences, its page."""

from collections.abc import Iterator, Sequence

from visionops_assets.evaluation.verdict import Bound, Comparison, Evidence, Reason, SliceRow, Verdict
from visionops_assets.pages.page import Block, Bullets, Page, Paragraph, Sentence, Table

SHARE = "share"
_LEGEND = (
    Sentence(
        "how many more labelled images of this slice would show a difference of the margin in it, with 80% power.",
        "labels:",
    ),
    Sentence("the smallest true loss that these images show, with 80% power.", "loss found:"),
)
_COLUMNS = (
    "slice",
    "images",
    "champion",
    "challenger",
    "won",
    "lost",
    "p worse (Holm)",
    "loss found",
    "floor",
    "labels",
    "",
)
_METHODS = {"bca": "BCa bootstrap", "normal": "normal approximation", "constant": "no group differs"}


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
    return f"visionops retract {project} {batch} --why TEXT"


def verdict_summary(verdict: Verdict) -> str:
    """The outcome and its weightiest reasons in one or two sentences."""
    weightiest = [reason for reason in verdict.reasons if reason.effect == verdict.verdict]
    first = _sentence(weightiest[0]) if weightiest else ""
    others = len(weightiest) - 1
    named = _culprit(verdict, weightiest)
    if named is not None:
        return f"{verdict.verdict}: {first} {_sentence(named)}"
    if others > 0:
        subjects = list(dict.fromkeys(reason.subject for reason in weightiest[1:]))
        tail = f" and {len(subjects) - 3} more" if len(subjects) > 3 else ""
        more = "1 more reason is" if others == 1 else f"{others} more reasons are"
        return f"{verdict.verdict}: {first} {more} about {', '.join(subjects[:3])}{tail}."
    return f"{verdict.verdict}: {first}"


def _culprit(verdict: Verdict, weightiest: Sequence[Reason]) -> Reason | None:
    """The note that says where to look, unless the weightiest reason says so itself."""
    notes = {reason.rule: reason for reason in reversed(verdict.reasons)}
    if "between" in notes:
        return notes["between"]
    if not weightiest or weightiest[0].subject.startswith("batch="):
        return None
    return notes.get("suspect_batch")


def verdict_page(verdict: Verdict, *, rows: int | None = None) -> Page:
    """The verdict as a page: reasons, numbers, slice table (the `rows` most telling slices, or all)."""
    return Page(verdict.verdict, tuple(_blocks(verdict, rows)))


def _blocks(verdict: Verdict, rows: int | None) -> Iterator[Block]:
    champion = verdict.champion.name() if verdict.champion else "none"
    about = (
        f"{verdict.project}: challenger {verdict.challenger.name()}, champion {champion}, {_kind(verdict)}."
    )
    yield Paragraph(Sentence(about))
    yield Bullets(
        tuple(
            Sentence(_sentence(reason), "" if reason.effect == "NOTE" else reason.effect)
            for reason in verdict.reasons
        )
    )
    if verdict.evidence is not None:
        yield from _measured(verdict, verdict.evidence, rows)
    yield Paragraph(
        Sentence(f"Judged {verdict.created_at:%Y-%m-%d %H:%M} UTC. Verdict `{verdict.identity}`.")
    )


def _measured(verdict: Verdict, evidence: Evidence, rows: int | None) -> Iterator[Block]:
    yield Paragraph(f"Measured on {evidence.rows:,} holdout images in {evidence.groups:,} groups.")
    yield Bullets(tuple(_comparison(each) for each in (evidence.primary, *evidence.guards)))
    labels = evidence.labels
    if labels is not None and labels.rows_needed is not None:
        yield Paragraph(
            f"To show a gain of {points(labels.improvement, evidence.primary.unit, signed=False)} with 80% "
            f"power at level {labels.level:.3g}: {labels.rows_needed:,} holdout images ({labels.rows_now:,} now); "
            f"labels to collect: {_count(labels.labels_to_collect)}."
        )
    ordered = sorted(evidence.slices, key=_weight)
    if ordered:
        yield _slice_table(ordered if rows is None else ordered[:rows])
    if rows is not None and len(ordered) > rows:
        yield Paragraph(f"{len(ordered) - rows} more slices are in the stored verdict.")
    if verdict.champion is not None:
        yield Bullets(_LEGEND)


def _slice_table(ordered: Sequence[SliceRow]) -> Table:
    """Those that speak against the challenger stand first."""
    return Table(_COLUMNS, tuple(_slice(row) for row in ordered))


def _slice(row: SliceRow) -> tuple[str, ...]:
    versus = row.champion is not None
    return (
        row.name(),
        f"{row.rows:,}",
        percent(row.champion) if versus else "–",
        percent(row.challenger),
        str(row.wins) if versus and row.wins is not None else "–",
        str(row.losses) if versus and row.losses is not None else "–",
        probability(row.p_worse_holm) if row.p_worse_holm is not None else "–",
        loss_found(row),
        percent(row.floor) if row.floor is not None else "–",
        f"{row.labels_to_collect:,}" if row.labels_to_collect is not None else "–",
        ", ".join(_marks(row)),
    )


def _kind(verdict: Verdict) -> str:
    if verdict.kind == "what_if":
        return "a what-if, which spends nothing and cannot promote"
    level = f"level {verdict.alpha_k:.3g}" if verdict.champion else "no level spent"
    return f"decision number {verdict.k} against this champion ({level})"


def _comparison(comparison: Comparison) -> Sentence:
    text = f"challenger {amount(comparison.challenger, comparison.unit)}"
    if comparison.champion is not None:
        text += f", champion {amount(comparison.champion, comparison.unit)}, "
        text += f"gain {points(comparison.difference, comparison.unit)}"
        if comparison.lower is not None and comparison.upper is not None:
            low, high = (points(b.value, comparison.unit) for b in (comparison.lower, comparison.upper))
            level = 100 * (1 - 2 * comparison.lower.level)
            text += f" ({level:g}% interval {low} to {high}, {_METHODS[comparison.lower.method]})"
        if comparison.p_superior is not None:
            text += f"; p of no gain {probability(comparison.p_superior)}"
    return Sentence(f"{text}.", f"{comparison.metric}:")


def _weight(row: SliceRow) -> tuple[bool, bool, bool, float, float]:
    p = row.p_worse if row.p_worse is not None else 1.0
    return (row.column is not None, not row.below_floor, not row.regressed, p, row.challenger)


def _marks(row: SliceRow) -> Iterator[str]:
    if row.regressed:
        yield "worse"
    if row.below_floor:
        yield "below floor"
    if row.critical:
        yield "critical"
    if row.floor_reason:
        yield f"own floor: {row.floor_reason}"


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number:,}"


def _sentence(reason: Reason) -> str:
    text = reason.text[:1].upper() + reason.text[1:]
    return text if text.endswith((".", "`", "!")) else f"{text}."
