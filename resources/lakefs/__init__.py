"""lakeFS behind a narrow interface; nothing else in the project talks to it."""

__all__ = ["client", "connection", "replies"]
