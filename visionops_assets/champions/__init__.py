"""Which version is champion on which device group, since when and why, as the registered model says."""

__all__ = ["disagreements", "history", "registered_model"]
