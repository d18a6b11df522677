"""What follows from production days that alarm: labels asked for, holds, rollbacks, and their record."""

__all__ = ["actions", "assets", "labels_of_batches"]
