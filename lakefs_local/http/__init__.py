"""The REST surface of the embedded server. Knows no SQL."""

__all__ = ["app", "exchange", "object_routes", "server"]
