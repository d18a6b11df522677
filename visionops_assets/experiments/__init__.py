"""Trainings that decide nothing: other recipes, other dataset versions, many at once."""

__all__ = ["experiment", "script", "sweep"]
