"""What people type and import."""

__all__: list[str] = []
