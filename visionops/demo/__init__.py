"""What `visionops demo` shows: its images, its devices, and its days in production."""

__all__ = ["demo_fleet", "digits", "month"]
