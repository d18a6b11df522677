"""The project file, as validated models: the project, its recipe, its gate."""

__all__ = [
    "augmentations",
    "device_group_rules",
    "gate_rules",
    "model_catalogue",
    "production_rules",
    "project",
    "recipe",
    "recipe_parts",
    "rollout_rules",
    "section",
    "training_rules",
]
