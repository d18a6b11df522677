"""A verdict as metadata for the UI: words, pictures, slices."""

from collections.abc import Sequence

import dagster as dg
import pandas as pd

from visionops_assets.evaluation.metrics import confusion_matrix
from visionops_assets.evaluation.plots import confusion_picture, interval_picture
from visionops_assets.evaluation.verdict import Evidence, SliceRow, Verdict
from visionops_assets.evaluation.wording import verdict_page, verdict_summary
from visionops_assets.metadata import lines, picture, table

# Metadata is loaded with every event: a thousand slices belong into the stored verdict.
SLICES_SHOWN = 60


def verdict_metadata(
    verdict: Verdict, predictions: pd.DataFrame, classes: Sequence[str], examples: bytes | None = None
) -> dict[str, dg.MetadataValue]:
    """What the page of an evaluation shows. Only text and tables show without a click, so both come with the rest."""
    found: dict[str, dg.MetadataValue] = {
        "verdict": dg.MetadataValue.text(verdict.verdict),
        "reason": lines("reason", verdict_summary(verdict)),
        "in_detail": dg.MetadataValue.md(verdict_page(verdict, rows=SLICES_SHOWN)),
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
