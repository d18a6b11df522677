"""From a batch in the drop to a dataset version: audited, split, published.
Its shells, and what a batch passes through.
"""

__all__ = [
    "assets",
    "batch_plan",
    "batch_publishing",
    "cache",
    "checks",
    "dataset_task",
    "deduplication",
    "findings_file",
    "importing",
    "integrity",
    "retraction",
    "splits",
    "suspect_labels",
    "versions",
]
