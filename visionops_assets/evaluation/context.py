"""What the gate needs to know beside predictions and rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from visionops_assets.config.gate_rules import GateRules
from visionops_assets.evaluation.ledger import level_left
from visionops_assets.evaluation.verdict import Between, Kind, ModelReference


@dataclass(frozen=True)
class JudgementContext:
    """Who is judged against whom, on what.

    `k` is the challenger's place among those judged against this champion (`ledger.turn_of`).
    `holdout_share` is the share of all labelled samples that the holdout has. `leaks` is the table of
    `leakage.find_leaks`, empty where the check found nothing: there is no default, so that it cannot be
    forgotten. `between` is what differs in the two models' trainings, None where that is not known.
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
    task: str = "classification"
    between: Between | None = None

    def level(self, rules: GateRules) -> float:
        """α_k, at which this challenger may claim."""
        return level_left(rules.alpha, self.k)

    @property
    def unchanged(self) -> bool:
        """Whether the challenger is the champion itself."""
        return self.champion is not None and self.champion.weights_sha256 == self.challenger.weights_sha256
