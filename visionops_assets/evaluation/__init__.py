"""Both models on one holdout, and the verdict of the gate."""

__all__ = [
    "approvals",
    "assets",
    "classification",
    "context",
    "detection",
    "evaluation_task",
    "gate",
    "paired_difference",
    "presentation",
    "run_records",
    "scoring",
    "turned",
    "verdict",
    "verdict_store",
    "verdict_wording",
]
