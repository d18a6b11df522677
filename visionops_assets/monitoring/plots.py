"""Pictures of production days as PNG bytes, small enough for an asset's metadata."""

import numpy as np
import pandas as pd

from resources.escaping import drawn
from visionops_assets.evaluation.plots import new_figure, small_png

_QUIET, _DRIFTED = "#57606a", "#cf222e"
# Farther is as far.
_FARTHEST = 4.0
_LONGEST_TITLE = 80


def drift_picture(table: pd.DataFrame, title: str) -> bytes | None:
    """Draw how far each column of one model's day is, in thresholds; None where none could be judged."""
    judged = table[table["distance"].notna()]
    if judged.empty:
        return None
    far = (judged["distance"] / judged["threshold"]).clip(upper=_FARTHEST)
    figure, axes = new_figure(6.0, 1.0 + 0.24 * len(judged))
    colours = [_DRIFTED if drifted else _QUIET for drifted in judged["drifted"]]
    axes.barh([drawn(each) for each in judged["column"]], far, color=colours, height=0.65)
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.3, float(far.max()) * 1.05))
    axes.set_xlabel(f"distance from the reference, in thresholds ({_FARTHEST:g} and more)")
    axes.set_title(drawn(title, _LONGEST_TITLE), loc="left", fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return small_png(figure)


def performance_picture(rows: pd.DataFrame, title: str) -> bytes | None:
    """Draw one model's days: columns `day, realised, estimated`, each with `_lower` and `_upper`, and `floor`."""
    if not len(rows) or not rows[["realised", "estimated"]].notna().any(axis=None):
        return None
    figure, axes = new_figure(6.4, 2.8)
    for name, colour in (("estimated", _QUIET), ("realised", "#0969da")):
        known = rows[rows[name].notna()]
        if len(known):
            values, lower, upper = (
                known[column].to_numpy(np.float64) for column in (name, f"{name}_lower", f"{name}_upper")
            )
            reach = np.stack([values - lower, upper - values])
            days = pd.to_datetime(known["day"])
            axes.errorbar(
                days, values, yerr=reach, fmt="o", markersize=3, color=colour, label=name, capsize=2
            )
    axes.axhline(float(rows["floor"].iloc[-1]), color=_DRIFTED, linewidth=1, linestyle="--", label="floor")
    axes.set_ylim(0, 1.03)
    axes.set_title(drawn(title, _LONGEST_TITLE), loc="left", fontsize=10)
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    axes.tick_params(axis="x", labelrotation=30, labelsize=8)
    return small_png(figure)
