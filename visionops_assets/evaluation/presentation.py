"""A verdict as metadata for the UI: words, pictures, slices."""

from collections.abc import Sequence

import dagster as dg
import pandas as pd

from visionops_assets.evaluation.metrics import confusion_matrix
from visionops_assets.evaluation.plots import confusion_picture, interval_picture
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.metadata import picture, table


def verdict_metadata(
    verdict: Verdict, predictions: pd.DataFrame, classes: Sequence[str]
) -> dict[str, dg.MetadataValue]:
    """What the page of an evaluation shows. Only text and tables show without a click, so both come with the rest."""
    found: dict[str, dg.MetadataValue] = {
        "verdict": dg.MetadataValue.text(verdict.verdict),
        "in_words": dg.MetadataValue.text(verdict.summary()),
        "in_detail": dg.MetadataValue.md(verdict.to_markdown()),
        "kind": dg.MetadataValue.text(verdict.kind.replace("_", "-")),
        "holdout_images": dg.MetadataValue.int(len(predictions)),
    }
    answered = predictions[predictions["challenger_prediction"].notna()]
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
        found["slices"] = table(slice_table(verdict))
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
        "slices": table(slice_table(verdict)),
    }
    interval = interval_picture(verdict)
    if interval is not None:
        found["interval"] = picture(interval, "difference and its interval")
    labels = verdict.evidence.labels if verdict.evidence is not None else None
    if labels is not None and labels.labels_to_collect is not None:
        found["labels_to_collect"] = dg.MetadataValue.int(labels.labels_to_collect)
    return found


def slice_table(verdict: Verdict) -> pd.DataFrame:
    """One row a slice: both models, wins, losses, and what was wrong with it."""
    rows = [
        {
            "slice": row.name(),
            "images": row.rows,
            "challenger": round(row.challenger, 4),
            "champion": None if row.champion is None else round(row.champion, 4),
            "wins": row.wins,
            "losses": row.losses,
            "p worse (Holm)": None if row.p_worse_holm is None else round(row.p_worse_holm, 4),
            "floor": row.floor,
            "finding": "regressed" if row.regressed else "below its floor" if row.below_floor else "",
        }
        for row in (verdict.evidence.slices if verdict.evidence else [])
    ]
    columns = [
        "slice",
        "images",
        "challenger",
        "champion",
        "wins",
        "losses",
        "p worse (Holm)",
        "floor",
        "finding",
    ]
    return pd.DataFrame(rows, columns=columns)
