"""Which rows of the inference log can be believed. A row that cannot is left out with a finding, the others stay."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd

from visionops_assets.common.findings import Finding, findings_table
from visionops_assets.common.run_tags import LOG_IS_COMPLETE
from visionops_assets.config.production_rules import ProductionRules
from visionops_assets.monitoring.inference_log import IDENTITY, log_schema
from visionops_assets.monitoring.monitoring_task import Fault, monitoring_task
from visionops_assets.monitoring.signals import STATISTICS

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Validated:
    """The rows that are kept, those that are not, and why: one finding a fault and device."""

    rows: pd.DataFrame
    quarantined: pd.DataFrame
    findings: pd.DataFrame


def validate(rows: pd.DataFrame, *, task: str, models: Mapping[str, str]) -> Validated:
    """Sort out what a production day holds; of rows with one identity the first is kept.

    `rows` has the columns of `log_schema`. `models` gives the identity (SHA-256 of weights) of every registered model
    by that identity and by the SHA-256 of its ONNX file; kept rows have the identity.
    """
    faults = pd.Series([""] * len(rows), index=rows.index, dtype=object)
    for name, fault in _faults(task, models).items():
        open_rows = rows[faults == ""]
        wrong = fault(open_rows)
        faults[wrong[wrong].index] = name
    kept = rows[faults == ""]
    again = kept.duplicated(list(IDENTITY))
    faults[again[again].index] = "came more than once"
    kept = kept[~again]
    kept = kept.assign(model_sha256=kept["model_sha256"].map(models)) if len(kept) else kept
    ordered = kept.sort_values(list(IDENTITY), kind="stable", ignore_index=True)
    return Validated(
        ordered, rows[faults != ""].reset_index(drop=True), _findings(rows, faults[faults != ""])
    )


def misplaced(timestamps: pd.Series, now: datetime, rules: ProductionRules) -> pd.Series:
    """Why the clock of a row cannot be believed, "" where it can. `timestamps` are UTC, null where there is none."""
    faults = pd.Series([""] * len(timestamps), index=timestamps.index, dtype=object)
    # Days are whole: what is too old is told by the date.
    oldest = max(pd.Timestamp(now - rules.clock_behind).floor("D"), pd.Timestamp(rules.since, tz="UTC"))
    faults[timestamps < oldest] = f"has a clock before {oldest:%Y-%m-%d}"
    faults[timestamps > pd.Timestamp(now + rules.clock_ahead)] = "has a clock ahead of ours"
    faults[timestamps.isna()] = "has no timestamp"
    return faults


def clock_findings(devices: pd.Series, faults: pd.Series) -> pd.DataFrame:
    """One finding a fault and device of what `misplaced` found."""
    return _findings(devices.to_frame("device"), faults[faults != ""])


def join_labels(
    rows: pd.DataFrame, labels: Sequence[pd.DataFrame], task: str, classes: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The log with late labels in `label`, and findings; of several labels of one image the latest counts.

    A latest label that is null takes back those before it. Labels of images that the day does not have, and of
    classes that the project does not have, are left out.
    """
    if not labels:
        return rows, findings_table([])
    learnt = monitoring_task(task)
    all_labels = pd.concat(labels, ignore_index=True).dropna(subset=["image_sha256"])
    latest = all_labels.sort_values("labelled_at", kind="stable").drop_duplicates("image_sha256", keep="last")
    latest = latest.dropna(subset=["label"])
    foreign = latest["label"].map(lambda label: not learnt.classes_in(label) <= set(classes))
    unknown = ~latest["image_sha256"].isin(rows["image_sha256"]) & ~foreign
    findings = [
        Finding(LOG_IS_COMPLETE, f"{count:,} labels", what, why, "WARN")
        for count, what, why in (
            (
                foreign.sum(),
                "name a class that the project does not have",
                "correct the label, or the project's classes",
            ),
            (
                unknown.sum(),
                "are of images that this day's log does not have",
                "give them the day of their prediction",
            ),
        )
        if count
    ]
    usable = latest[~foreign & ~unknown].set_index("image_sha256")["label"]
    found = rows["image_sha256"].map(usable) if len(usable) else pd.Series([None] * len(rows), rows.index)
    return rows.assign(label=found.where(found.notna(), rows["label"])), findings_table(findings)


def without_answer(devices_before: Sequence[str], rows: pd.DataFrame, day: date, today: date) -> pd.DataFrame:
    """A finding for each device that wrote on the last day with a log and not on this one; none while it lasts."""
    if day >= today:
        return findings_table([])
    silent = sorted(set(devices_before) - set(rows["device"]))
    return findings_table(
        Finding(
            LOG_IS_COMPLETE,
            device,
            "wrote nothing on this day",
            "is it switched off, or is its spool full?",
            "WARN",
        )
        for device in silent
    )


def nothing_logged(rows: pd.DataFrame) -> pd.DataFrame:
    """A finding where the day has no row that can be used."""
    if len(rows):
        return findings_table([])
    return findings_table(
        [
            Finding(
                LOG_IS_COMPLETE,
                "the day",
                "has no usable row",
                "nothing can be said of it: did anything run?",
                "WARN",
            )
        ]
    )


def _faults(task: str, models: Mapping[str, str]) -> dict[str, Fault]:
    """In the order in which they are asked; the next sees only rows that passed."""
    wanted = [field.name for field in log_schema(task) if not field.nullable]
    learnt = monitoring_task(task)
    return {
        f"lacks one of {', '.join(wanted)}": lambda rows: rows[wanted].isna().any(axis=1),
        "has an image_sha256 that is no SHA-256": lambda rows: (
            ~rows["image_sha256"].map(_is_digest).astype(bool)
        ),
        "names a model that was never registered": lambda rows: ~rows["model_sha256"].isin(list(models)),
        "has a confidence outside 0..1": lambda rows: (
            ~(rows["confidence"].between(0, 1) | (rows["confidence"].isna() & learnt.may_be_silent))
        ),
        **learnt.faults(),
        "has an infinite image statistic": lambda rows: np.isinf(
            rows[list(STATISTICS)].astype(np.float64)
        ).any(axis=1),
        "has an embedding that is not finite": lambda rows: (
            ~rows["embedding"].map(_is_finite_or_none).astype(bool)
        ),
    }


def _findings(rows: pd.DataFrame, faults: pd.Series) -> pd.DataFrame:
    if faults.empty:
        return findings_table([])
    devices = rows.loc[faults.index, "device"].fillna("no device")
    found = []
    for fault in faults.unique():
        for device, count in devices[faults == fault].value_counts().sort_index().items():
            what = f"{count:,} rows: each {fault}"
            found.append(
                Finding(LOG_IS_COMPLETE, str(device), what, "left out, the other rows are kept", "WARN")
            )
    return findings_table(found)


def _is_digest(text: Any) -> bool:
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def _is_finite_or_none(values: Any) -> bool:
    return values is None or bool(np.isfinite(np.asarray(values, np.float64)).all())
