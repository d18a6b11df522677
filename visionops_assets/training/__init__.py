"""From a manifest and a recipe to a challenger, bit for bit the same each time."""

__all__ = [
    "assets",
    "batches",
    "challenge",
    "challenger",
    "code_digest",
    "foreign",
    "model_files",
    "models",
    "pretrained",
    "provenance",
    "recording",
    "train",
    "training_task",
]
