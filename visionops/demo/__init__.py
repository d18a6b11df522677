"""What `visionops demo` shows: its images, and its days in production."""

__all__ = ["digits", "month"]
