"""Pictures of a verdict as PNG bytes, small enough to stand in an asset's metadata (below 50 kB)."""

import io
from typing import Any

import numpy as np
import pandas as pd

from resources.escaping import drawn
from visionops_assets.evaluation.phrases import SHARE
from visionops_assets.evaluation.verdict import Verdict

_MOST_NAMED_CLASSES = 30
_MOST_NUMBERED_CLASSES = 15
_LONGEST_CLASS, _LONGEST_SLICE = 16, 60
_COLOURS = {"PASS": "#1a7f37", "FAIL": "#cf222e", "INSUFFICIENT": "#9a6700"}


def confusion_picture(confusion: pd.DataFrame, *, title: str = "Challenger on the holdout") -> bytes:
    """Draw `metrics.confusion_matrix` as shares of each true class, with counts while they can be read."""
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
