"""Two models, or two states of the data, side by side: an opinion that promotes nothing."""

__all__ = ["comparison", "comparison_report", "sides"]
