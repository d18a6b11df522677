"""Plain read-only pages at the addresses of lakeFS's own UI, so that links open on either server."""

__all__ = ["routes"]
