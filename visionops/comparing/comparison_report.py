"""A comparison as a page: for a terminal, or as Markdown for a pull request, where it says what a change would make
of the data.
"""

import shlex
from collections.abc import Iterator

from visionops.comparing.answers import Measured
from visionops.comparing.comparison import Comparison
from visionops.comparing.sides import Side
from visionops_assets.evaluation import verdict as evaluation_verdict
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.evaluation.verdict_wording import amount, percent, points, probability, verdict_summary
from visionops_assets.pages.page import Block, Bullets, Facts, Heading, Page, Paragraph, Table
from visionops_assets.promotion.version_differences import (
    ModelNames,
    ReadImages,
    data_changes,
    input_changes,
    list_turned,
    picture_turned,
)

SLICES_SHOWN = 40
NAMES = ModelNames("A", "B")
REASONS = 12


def comparison_page(comparison: Comparison, read: ReadImages | None = None, *, on: str | None = None) -> Page:
    """The page; what was compared on what stands first. Where `read` gives images, those won and lost are shown;
    else the command that shows them is named, `on` what the two were asked to be compared on.
    """
    a, b = comparison.a, comparison.b
    return Page(f"{comparison.project}: {a.name} against {b.name}", tuple(_blocks(comparison, read, on)))


def _blocks(comparison: Comparison, read: ReadImages | None, on: str | None) -> Iterator[Block]:
    a, b = comparison.a, comparison.b
    yield Facts((("A", _described(a)), ("B", _described(b))))
    if comparison.note:
        yield Paragraph(comparison.note)
    if comparison.measured is not None:
        yield from _numbers(comparison, comparison.measured)
        turned = comparison.measured.turned
        if read is None:
            words = [comparison.project, a.asked, b.asked, *(["--on", on] if on else [])]
            again = f"visionops compare {shlex.join(words)}"
            yield from list_turned(
                turned, NAMES, f"`{again} --html FILE` shows them, `{again} --json` lists all of them."
            )
        else:
            yield from picture_turned(turned, NAMES, read)
    elif comparison.same_model:
        yield Paragraph("Both are the same model, by the SHA-256 of its weights: they answer alike.")
    else:
        without = " and ".join(side.asked for side in (a, b) if side.model is None)
        yield Paragraph(
            f"No model was trained on {without}, so only the data is compared; "
            f"`visionops train {comparison.project} --dataset-version {a.asked if a.model is None else b.asked}` "
            "trains one."
        )
    yield Heading("Data: what A has that B had not")
    if comparison.data is None:
        yield Paragraph("One of the two does not say what it was trained on, so the images are not compared.")
    else:
        yield from data_changes(comparison.data)
    if a.model is None or b.model is None:
        return
    yield Heading("Made otherwise: B before, A after")
    if comparison.inputs is None:
        yield Paragraph(
            "One of the two does not say how it was made: recipe, code and packages are not compared."
        )
    else:
        yield from input_changes(comparison.inputs)


def _described(side: Side) -> str:
    parts = [side.name]
    if side.model is not None:
        parts.append(f"weights {side.model.weights_sha256[:12]}")
        if side.partition:
            parts.append(f"trained on {side.partition}")
    else:
        parts.append("no model")
    return ", ".join(parts)


def _numbers(comparison: Comparison, measured: Measured) -> Iterator[Block]:
    evidence = measured.evidence
    where = f" of dataset version {measured.dataset_version}" if measured.dataset_version else ""
    how = {
        "stored": "as both answered when the gate judged them",
        "scored": "answered now by the ONNX files that ship",
    }[measured.source]
    yield Paragraph(
        f"On the same {evidence.rows:,} holdout images in {evidence.groups:,} groups{where}, {how}. A comparison "
        "decides nothing: it spends no significance and promotes nothing."
    )
    if any(measured.seen):
        seen = " and ".join(
            f"{name} was trained on {count:,}"
            for name, count in zip("AB", measured.seen, strict=True)
            if count
        )
        yield Paragraph(f"NOT A FAIR HOLDOUT: of these images {seen}, which flatters it.")
    if measured.verdict is not None:
        yield Paragraph(_verdict_sentence(comparison, measured.verdict))
    yield Heading("Metrics")
    yield Table(
        ("metric", "A", "B", "gain of A", "interval", "won", "lost"),
        tuple(_metric(each) for each in (evidence.primary, *evidence.guards)),
    )
    yield Heading("Slices")
    yield from _slices(evidence)


def _verdict_sentence(comparison: Comparison, found: evaluation_verdict.Verdict) -> str:
    a = comparison.a.model
    is_a = a is not None and found.challenger.weights_sha256 == a.weights_sha256
    who = "A against B" if is_a else "B against A"
    kind = f"decision {found.k}" if found.kind == "decision" else "a what-if"
    return f"The gate judged {who} ({kind}): {verdict_summary(found)}"


def _metric(each: evaluation_verdict.Comparison) -> tuple[str, ...]:
    interval = "–"
    if each.lower is not None and each.upper is not None:
        low, high = (points(bound.value, each.unit) for bound in (each.lower, each.upper))
        interval = f"{low} to {high} ({100 * (1 - 2 * each.lower.level):g}%)"
    return (
        each.metric,
        amount(each.challenger, each.unit),
        amount(each.champion, each.unit),
        points(each.difference, each.unit),
        interval,
        "–" if each.wins is None else f"{each.wins:,}",
        "–" if each.losses is None else f"{each.losses:,}",
    )


def _slices(evidence: evaluation_verdict.Evidence) -> Iterator[Block]:
    rows = [row for row in evidence.slices if row.column is not None]
    shown = rows if len(rows) <= SLICES_SHOWN else sorted(rows, key=_weight)[:SLICES_SHOWN]
    yield Table(
        ("slice", "images", "A", "B", "won", "lost", "p A worse (Holm)", "finding"),
        tuple(_slice(row) for row in shown),
    )
    if len(rows) > len(shown):
        yield Paragraph(f"{len(rows) - len(shown):,} more slices are in `--json`.")
    worse = [row.name() for row in rows if row.regressed]
    if worse:
        yield Bullets((f"A lost significantly more than is tolerated on {', '.join(worse)}.",))


def _weight(row: evaluation_verdict.SliceRow) -> tuple[bool, bool, float]:
    p = row.p_worse if row.p_worse is not None else 1.0
    return (not row.regressed, not row.below_floor, p)


def _slice(row: evaluation_verdict.SliceRow) -> tuple[str, ...]:
    finding = [
        word for word, holds in (("A worse", row.regressed), ("A below its floor", row.below_floor)) if holds
    ]
    return (
        row.name(),
        f"{row.rows:,}",
        percent(row.challenger),
        percent(row.champion),
        "–" if row.wins is None else f"{row.wins:,}",
        "–" if row.losses is None else f"{row.losses:,}",
        probability(row.p_worse_holm) if row.p_worse_holm is not None else "–",
        ", ".join(finding) or "–",
    )


def proposal_page(project: str, partition: str, verdict: Verdict, comparison: Comparison | None) -> Page:
    """What the gate would say, and the comparison with the champion where there is one."""
    against = "as the first champion" if verdict.champion is None else f"against {verdict.champion.name()}"
    reasons = tuple(reason.text for reason in verdict.reasons[:REASONS])
    opened = (
        Paragraph(
            f"A what-if on dataset version {partition}, {against}: it spends nothing and promotes nothing. Merged, the "
            "same recipe, code and data are judged as a decision."
        ),
        Bullets(reasons),
    )
    if comparison is None:
        return Page(f"{project}: {verdict.verdict}", opened)
    compared = comparison_page(comparison)
    return Page(f"{project}: {verdict.verdict}", (*opened, Heading(compared.title), *compared.blocks))


def failed_page(project: str, why: str) -> Page:
    """Why there is nothing to compare."""
    lines = tuple(line.strip() for line in why.splitlines() if line.strip())
    return Page(f"{project}: failed", (Paragraph("Nothing is compared:"), Bullets(lines[:REASONS])))
