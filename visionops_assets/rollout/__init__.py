"""Rollouts of a candidate in waves: evidence, the verdict on it, and what that leads to. Pure: it starts nothing."""

__all__ = ["decide", "e_values", "evidence", "latency", "rollout_verdict", "rollouts", "waves"]
