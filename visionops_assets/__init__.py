"""The asset graph: one folder per stage, in the order data flows."""

__all__ = [
    "champions",
    "common",
    "config",
    "dataset",
    "delivery",
    "evaluation",
    "experiments",
    "graph",
    "images",
    "inference",
    "monitoring",
    "pages",
    "promotion",
    "reproduction",
    "rollout",
    "shells",
    "tasks",
    "training",
]
