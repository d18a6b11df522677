"""Learning curves as a small picture, for an asset's page."""

import io
from collections.abc import Sequence

from resources.escaping import drawn
from visionops_assets.training.history import EpochReport

_LARGEST_BYTES = 50_000


def learning_curves(history: Sequence[EpochReport], title: str = "") -> bytes:
    """Return a PNG of under 50 kB: losses on the left axis, the validation score on the right."""
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # One epoch is a point, not a line.
    marker = "o" if len(history) == 1 else None
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    losses = figure.add_subplot()

    def draw(axes: Axes, label: str, field: str, colour: str, style: str) -> bool:
        points = [
            (report.epoch, value) for report in history if (value := getattr(report, field)) is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=style, marker=marker, label=label)
        return bool(points)

    draw(losses, "training loss", "train_loss", "tab:blue", "-")
    draw(losses, "validation loss", "validation_loss", "tab:orange", "-")
    if any(report.validation_score is not None for report in history):
        name, scores = history[0].score, losses.twinx()
        draw(scores, f"validation {name}", "validation_score", "tab:green", "--")
        scores.set_ylim(0, 1.02)
        scores.set_ylabel(name)
    losses.set_ylim(bottom=0)
    losses.set_xlabel("epoch")
    losses.set_ylabel("loss")
    losses.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    if title:
        losses.set_title(drawn(title))
    for dpi in (100, 60):
        picture = io.BytesIO()
        FigureCanvasAgg(figure)
        figure.savefig(picture, format="png", dpi=dpi)
        if picture.tell() < _LARGEST_BYTES:
            break
    return picture.getvalue()
