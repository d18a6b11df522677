"""What is in production, since when and why; promotion and its history."""

__all__ = [
    "assets",
    "explain",
    "group_approvals",
    "model_card",
    "presentation",
    "production_change",
    "production_report",
    "promote",
    "rollback",
    "status",
    "version_differences",
]
