"""What a verdict leads to: the next wave, the end, the way back, or nothing.

An INSUFFICIENT verdict never moves a rollout forward; when it stays one for too long a person is called.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from visionops_assets.rollout.rollout_verdict import RolloutVerdict, Rules

Action = Literal["advance", "complete", "roll_back", "hold", "nothing"]


@dataclass(frozen=True)
class Standing:
    """Where a rollout stands: its waves, by how many devices have the candidate after each; which one is on, from 0;
    how long the rollout takes already; whether somebody paused it."""

    waves: Sequence[int]
    wave: int
    lasts: timedelta
    paused: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.wave < len(self.waves):
            raise ValueError(f"wave {self.wave} of {len(self.waves)}")


@dataclass(frozen=True)
class Decision:
    """What to do, why, and whether a person is called."""

    action: Action
    why: str
    page: bool = False


def decide(verdict: RolloutVerdict, standing: Standing, rules: Rules) -> Decision:
    """What the verdict at this look leads to. A FAIL goes back also while the rollout is paused."""
    if verdict.word == "FAIL":
        return Decision("roll_back", "; ".join(verdict.reasons))
    if standing.paused:
        return Decision("nothing", "paused", page=bool(verdict.watch))
    if verdict.word == "PASS":
        if standing.wave == len(standing.waves) - 1:
            return Decision(
                "complete", f"wave {standing.wave + 1} of {len(standing.waves)} did well, the last one"
            )
        after = standing.waves[standing.wave + 1]
        why = f"wave {standing.wave + 1} of {len(standing.waves)} did well: the next has {after:,} devices"
        return Decision("advance", why)
    lacks = "; ".join(verdict.missing)
    if standing.lasts > rules.max_duration:
        return Decision("hold", f"not decided within its time; it lacks: {lacks}", page=True)
    if verdict.watch:
        return Decision("nothing", "; ".join(verdict.watch), page=True)
    return Decision("nothing", f"it lacks: {lacks}")
