"""What a project file says about rollouts: in which waves a device group gets a version, and what each wave has to
show before the next.
"""

import datetime
from collections.abc import Sequence
from itertools import pairwise

from pydantic import Field, field_validator

from resources.error_family import Invalid
from visionops_assets.config.section import Section


class BadWaves(Invalid, ValueError):
    """Shares of a group that are no waves; the message says which and why."""


def check_waves(shares: Sequence[float]) -> None:
    """Raise `BadWaves` for shares that do not rise from above 0 to 1."""
    said = ", ".join(f"{each:g}" for each in shares) or "none"
    if not shares or not all(0 < each <= 1 for each in shares):
        raise BadWaves(
            f"waves are shares of a group, above 0 and at most 1, not {said}; for example 0.01, 0.1, 1"
        )
    for before, after in pairwise(shares):
        if after <= before:
            raise BadWaves(f"waves rise: {after:g} comes after {before:g} in {said}; leave it out")
    if shares[-1] != 1:
        raise BadWaves(f"the last wave is the whole group: end {said} with 1")


class RolloutRules(Section):
    """In which waves a group gets another version than it runs, and when a wave did well.

    With them, what all are promoted to reaches the group by a rollout; without, at once.
    """

    waves: tuple[float, ...] = Field(
        (0.01, 0.1, 0.5, 0.95, 1.0),
        description="the share of the group that has the candidate in each wave: at least one device, all but one at "
        "most before the last, at most ten times as many as before",
    )
    allowed_failures: float = Field(
        0.01, gt=0, lt=1, description="the share of devices that may refuse or leave a candidate"
    )
    reported: float = Field(
        0.8, gt=0, le=1, description="the share of a wave's devices that have to have kept or left it"
    )
    dwell: datetime.timedelta = Field(
        datetime.timedelta(hours=6), description="how long a wave lasts at least"
    )
    max_duration: datetime.timedelta = Field(
        datetime.timedelta(days=7), description="after so long undecided it waits for a person, and calls one"
    )
    p99_ms: float | None = Field(
        None,
        gt=0,
        description="what 99 of 100 answers may take on devices, in milliseconds by the clock; more passes a wave only "
        "up to 1.1 times what the base takes. None: it is held against the base alone",
    )
    block: datetime.timedelta = Field(
        datetime.timedelta(hours=1),
        description="devices count what they answer by blocks of this length; no shorter than a report interval",
    )
    supersede: bool = Field(
        False, description="true: a newer promotion ends a rollout in progress; false: it waits for its end"
    )

    @field_validator("waves")
    @classmethod
    def _waves_rise(cls, waves: tuple[float, ...]) -> tuple[float, ...]:
        check_waves(waves)
        return waves

    def check_interval(self, report_every: float) -> None:
        """Raise ValueError for times in which a device has nothing to report, in seconds."""
        for name in ("block", "dwell"):
            lasts = getattr(self, name).total_seconds()
            if lasts < report_every:
                raise ValueError(
                    f"rollout.{name} of {lasts:g} s is shorter than the {report_every:g} s between two reports of a "
                    "device: make it longer, or report_every shorter"
                )
        if self.max_duration <= self.dwell:
            raise ValueError(
                "rollout.max_duration is no longer than a wave lasts (dwell): no rollout would ever be decided"
            )
