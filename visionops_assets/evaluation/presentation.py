"""A verdict for the UI: words, slices, and pictures as PNG bytes small enough for an asset's metadata (below 50
kB).
"""

import io
from collections.abc import Sequence
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from resources.escaping import drawn
from visionops_assets.evaluation.classification import confusion_matrix
from visionops_assets.evaluation.verdict import Evidence, SliceRow, Verdict
from visionops_assets.evaluation.verdict_wording import SHARE, verdict_page, verdict_summary
from visionops_assets.shells.outputs import lines, picture, table

_MOST_NAMED_CLASSES = 30
_MOST_NUMBERED_CLASSES = 15
_LONGEST_CLASS, _LONGEST_SLICE = 16, 60
_COLOURS = {"PASS": "#1a7f37", "FAIL": "#cf222e", "INSUFFICIENT": "#9a6700"}
# Metadata is loaded with every event: a thousand slices belong into the stored verdict.
SLICES_SHOWN = 60


def confusion_picture(confusion: pd.DataFrame, *, title: str = "Challenger on the holdout") -> bytes:
    """Draw `classification.confusion_matrix` as shares of each true class, with counts while they can be read."""
    counts = confusion.to_numpy()
    size = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = new_figure(min(8.0, max(3.6, 1.6 + 0.42 * size)), min(7.5, max(3.2, 1.2 + 0.42 * size)))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if size <= _MOST_NAMED_CLASSES:
        names = [drawn(name, _LONGEST_CLASS) for name in confusion.index]
        turned = any(len(name) > 3 for name in names)
        axes.set_xticks(range(size), names, rotation=60 if turned else 0, ha="right" if turned else "center")
        axes.set_yticks(range(size), names)
    if size <= _MOST_NUMBERED_CLASSES:
        for true, predicted in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[true, predicted] > 0.5 else "black"
            axes.text(predicted, true, f"{counts[true, predicted]:,}", ha="center", va="center", color=colour)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(drawn(title), loc="left")
    return small_png(figure)


def interval_picture(verdict: Verdict) -> bytes | None:
    """Draw the difference and its interval against 0 and the margin, with critical slices below.

    None where there is no interval: no champion, or no evidence.
    """
    evidence = verdict.evidence
    if evidence is None or evidence.primary.lower is None or evidence.primary.upper is None:
        return None
    primary, lower, upper = evidence.primary, evidence.primary.lower, evidence.primary.upper
    scale, unit = (100.0, "percentage points") if primary.unit == SHARE else (1.0, primary.unit)
    margin = evidence.labels.improvement * scale if evidence.labels is not None else 0.0
    colour = _COLOURS[verdict.verdict]
    critical = [
        (row.name(), row.lower.value * scale) for row in evidence.slices if row.critical and row.lower
    ]
    figure, axes = new_figure(6.4, 1.9 + 0.3 * len(critical))
    axes.axvline(0, color="black", linewidth=1)
    axes.axvline(-margin, color=_COLOURS["FAIL"], linewidth=1, linestyle="--")
    ends = [lower.value * scale, upper.value * scale]
    axes.plot(ends, [0, 0], color=colour, linewidth=3, solid_capstyle="butt")
    axes.plot([(primary.difference or 0.0) * scale], [0], "o", color=colour, markersize=8)
    for place, (_, bound) in enumerate(critical, start=1):
        axes.plot([bound], [place], ">", color="#57606a", markersize=7)
    axes.set_yticks(
        range(len(critical) + 1),
        [primary.metric, *(f"{drawn(name, _LONGEST_SLICE)}, at least" for name, _ in critical)],
    )
    axes.set_ylim(len(critical) + 0.6, -0.8)
    reach = 1.15 * max(1e-9, margin, *(abs(end) for end in ends), *(abs(bound) for _, bound in critical))
    axes.set_xlim(-reach, reach)
    above = axes.get_xaxis_transform()
    axes.text(0, 1.0, " no difference", transform=above, va="bottom", fontsize=8)
    axes.text(
        -margin, 1.0, "margin ", transform=above, va="bottom", ha="right", fontsize=8, color=_COLOURS["FAIL"]
    )
    axes.set_xlabel(f"gain over the champion, {unit} ({100 * (1 - 2 * lower.level):g}% interval)")
    axes.set_title(verdict.verdict, loc="left", color=colour, fontweight="bold", pad=16)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return small_png(figure)


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure of so many inches and its axes."""
    # A figure of its own, without pyplot: no global state, no backend to choose.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def small_png(figure: Any) -> bytes:
    """A figure as PNG of 64 colours."""
    from PIL import Image

    figure.canvas.draw()
    # A palette instead of full colours makes the file three times smaller.
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    buffer = io.BytesIO()
    picture.quantize(64, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def verdict_metadata(
    verdict: Verdict, predictions: pd.DataFrame, classes: Sequence[str], examples: bytes | None = None
) -> dict[str, dg.MetadataValue]:
    """What the page of an evaluation shows. Only text and tables show without a click, so both come with the rest."""
    found: dict[str, dg.MetadataValue] = {
        "verdict": dg.MetadataValue.text(verdict.verdict),
        "reason": lines("reason", verdict_summary(verdict)),
        "in_detail": dg.MetadataValue.md(verdict_page(verdict, rows=SLICES_SHOWN).to_markdown()),
        "kind": dg.MetadataValue.text(verdict.kind.replace("_", "-")),
        "holdout_images": dg.MetadataValue.int(len(predictions)),
    }
    if examples is not None:
        found["answers_against_truths"] = picture(examples, "truth in green, the challenger's answers in red")
    if "challenger_prediction" in predictions:
        # What is not counted here, an image without answer or of an unknown class, the verdict refuses by name.
        counted = predictions["label"].isin(classes) & predictions["challenger_prediction"].isin(classes)
        answered = predictions[counted]
        confusion = confusion_matrix(answered["label"], answered["challenger_prediction"], classes)
        found["confusion_matrix"] = picture(confusion_picture(confusion), "confusion matrix")
    interval = interval_picture(verdict)
    if interval is not None:
        found["interval"] = picture(interval, "difference and its interval")
    if verdict.evidence is not None:
        primary = verdict.evidence.primary
        found["challenger"] = dg.MetadataValue.float(round(primary.challenger, 4))
        if primary.champion is not None:
            found["champion"] = dg.MetadataValue.float(round(primary.champion, 4))
        found["slices"] = table(slice_table(verdict.evidence))
    found |= _labels_metadata(verdict)
    found["in_words"] = dg.MetadataValue.text(verdict_summary(verdict))
    found["identity"] = dg.MetadataValue.text(verdict.identity)
    return found


def gate_metadata(verdict: Verdict) -> dict[str, dg.MetadataValue]:
    """What the gate's check shows: reasons, the interval, the slices, the labels that would decide."""
    reasons = pd.DataFrame(
        [(reason.effect, reason.text) for reason in verdict.reasons], columns=["effect", "reason"]
    )
    found: dict[str, dg.MetadataValue] = {
        "verdict": dg.MetadataValue.text(verdict.verdict),
        "reasons": table(reasons),
        "tested_at": dg.MetadataValue.float(verdict.alpha_k),
    }
    if verdict.evidence is not None:
        found["slices"] = table(slice_table(verdict.evidence))
    interval = interval_picture(verdict)
    if interval is not None:
        found["interval"] = picture(interval, "difference and its interval")
    return found | _labels_metadata(verdict)


def slice_table(evidence: Evidence) -> pd.DataFrame:
    """One row a slice: both models, wins, losses, what was wrong with it, and the labels that would tell more.

    Where there are more than `SLICES_SHOWN`, those with a finding come first and the rest is left out.
    """
    shown = evidence.slices
    if len(shown) > SLICES_SHOWN:
        shown = sorted(shown, key=lambda row: _finding(row) == "")[:SLICES_SHOWN]
    overall = evidence.labels.labels_to_collect if evidence.labels is not None else None
    return pd.DataFrame(
        [
            {
                "slice": row.name(),
                "images": row.rows,
                "challenger": round(row.challenger, 4),
                "champion": None if row.champion is None else round(row.champion, 4),
                "wins": row.wins,
                "losses": row.losses,
                "p worse (Holm)": None if row.p_worse_holm is None else round(row.p_worse_holm, 4),
                "loss found": None if row.loss_found is None else round(row.loss_found, 4),
                "floor": row.floor,
                "more labels": overall if row.column is None else row.labels_to_collect,
                "finding": _finding(row),
            }
            for row in shown
        ],
        dtype=object,
    )


def _finding(row: SliceRow) -> str:
    found = {
        "regressed": row.regressed,
        "below its floor": row.below_floor,
        "critical": row.critical,
        f"own floor: {row.floor_reason}": row.floor_reason is not None,
    }
    return ", ".join(name for name, holds in found.items() if holds)


def _labels_metadata(verdict: Verdict) -> dict[str, dg.MetadataValue]:
    """What it takes to decide a verdict that could not be decided."""
    labels = verdict.evidence.labels if verdict.evidence is not None else None
    if verdict.verdict != "INSUFFICIENT" or labels is None or labels.rows_needed is None:
        return {}
    found: dict[str, dg.MetadataValue] = {"holdout_images_needed": dg.MetadataValue.int(labels.rows_needed)}
    if labels.labels_to_collect is not None:
        found["labels_to_collect"] = dg.MetadataValue.int(labels.labels_to_collect)
    return found
