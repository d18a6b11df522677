"""Make a registered version again from what was recorded with it, and certify whether it is the same."""

__all__ = ["jobs", "reproduce"]
