"""The gate: predictions and rules in, verdict out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from visionops_assets.evaluation.rules import GateRules
from visionops_assets.evaluation.verdict import Kind, ModelReference, Verdict


@dataclass(frozen=True)
class JudgementContext:
    """What a verdict needs to know beside predictions and rules.

    `k` is the challenger's place among those judged against this champion (`ledger.turn_of`).
    `holdout_share` is the share of all labelled samples that the holdout has. `leaks` is the table of
    `leakage.find_leaks`, empty where the check found nothing: there is no default, so that it cannot be
    forgotten.
    """

    project: str
    classes: Sequence[str]
    challenger: ModelReference
    champion: ModelReference | None
    holdout_digest: str
    holdout_share: float
    leaks: pd.DataFrame
    kind: Kind
    k: int
    created_at: datetime
    dagster_run_id: str | None = None


def judge(predictions: pd.DataFrame, rules: GateRules, *, context: JudgementContext) -> Verdict:
    """Judge a challenger on the holdout. Pure: the same arguments give the same verdict.

    `predictions` has one row a holdout sample: `sha256, path, batch, group, label`, the declared slice
    columns, and `champion_` and `challenger_` `prediction, confidence, probabilities`; no champion columns
    where there is no champion.
    """
    raise NotImplementedError
