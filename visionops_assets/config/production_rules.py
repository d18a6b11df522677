"""What a project file says about production: how often its log is collected, which frames are kept, and what is
called drift and decay.
"""

import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class CaptureRules(BaseModel):
    """Which frames are kept with their prediction. Labels are asked for on these, and models compared on these."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # This share of all images, chosen by their digest: the same image is chosen everywhere or nowhere.
    share: float = Field(0.01, ge=0, le=1)
    # And every image of whose class the model is less sure than this.
    below_confidence: float = Field(0.6, ge=0, le=1)
    # And every image this far from those kept lately: 1 less the cosine of the nearest embedding.
    novelty: float = Field(0.3, ge=0, le=2)
    # No more than this of one device on one day.
    bytes_per_day: int = Field(50_000_000, ge=0)
    # Older frames are deleted from the branch; its earlier commits still have them until lakeFS collects garbage.
    keep_days: int = Field(90, ge=1)


class ProductionRules(BaseModel):
    """How the log of production comes in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # The first production day; rows of earlier days are quarantined.
    since: datetime.date = datetime.date(2026, 1, 1)
    # The spool is committed at most this often: 288 commits a day.
    collect_every: datetime.timedelta = Field(datetime.timedelta(minutes=5), gt=datetime.timedelta(0))
    # A day that is not over is looked at again at most this often; an earlier one as soon as a commit touches it.
    look_every: datetime.timedelta = datetime.timedelta(hours=1)
    # How often a day whose run ended with an error is tried.
    attempts: int = Field(3, ge=1, le=20)
    # A row whose clock is further ahead of ours than this is quarantined.
    clock_ahead: datetime.timedelta = Field(datetime.timedelta(minutes=10), ge=datetime.timedelta(0))
    # So is one of a day longer ago than this: a clock that was never set says 1970 or 2000.
    clock_behind: datetime.timedelta = Field(datetime.timedelta(days=30), gt=datetime.timedelta(0))
    # Rows, labels and findings of older days are deleted from the branch; what was made of those days stays.
    keep_days: int = Field(365, ge=1)
    captures: CaptureRules = CaptureRules()

    @model_validator(mode="after")
    def _rows_outlast_what_needs_them(self) -> Self:
        late = self.clock_behind.days
        if self.keep_days < max(late, self.captures.keep_days):
            raise ValueError(
                f"rows kept for {self.keep_days} days: they have to outlast captures ({self.captures.keep_days} days) "
                f"and rows that come late ({late} days)"
            )
        return self

    def first_kept(self, today: datetime.date) -> datetime.date:
        """The oldest day whose rows are kept."""
        return today - datetime.timedelta(days=self.keep_days)


Share = Annotated[float, Field(ge=0, le=1)]
Distance = Annotated[float, Field(gt=0, le=2)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EffectSizes(_Section):
    """Distances from the reference below which a change is too small to matter, however many rows show it.

    `wasserstein` is in standard deviations of the reference, `jensen_shannon` between 0 and 1, `embedding` a maximum
    mean discrepancy: mixing a share of wholly different images into the day moves it by about that share.
    """

    wasserstein: Distance = 0.1
    jensen_shannon: Distance = 0.1
    embedding: Distance = 0.1


class SeveralDays(_Section):
    """An alarm stands once `alarm` of the newest `of` judged days are bad, and falls after `clear` good ones in a row.

    A day with too few rows is not judged; one more than `within` days older than the newest no longer counts.
    Between two actions lie at least `cool_down` days.
    """

    alarm: int = Field(default=2, ge=1)
    of: int = Field(default=3, ge=1, le=60)
    clear: int = Field(default=3, ge=1, le=60)
    within: int = Field(default=14, ge=1)
    cool_down: int = Field(default=7, ge=0)

    @model_validator(mode="after")
    def _alarm_can_be_reached(self) -> Self:
        if self.alarm > self.of:
            raise ValueError(f"an alarm by {self.alarm} of {self.of} days can never stand")
        return self


FollowUp = Literal["alert", "hold", "rollback"]


class OnDecay(_Section):
    """What follows, by what shows the decay; labels are asked for besides, whatever is declared.

    `realised`: labels show that the version before does better on the same captures. `estimated`: performance, as
    estimated without labels, is below the floor for `days.alarm` of `days.of` days. `drift`: images or answers depart
    from the holdout for as long.
    """

    realised: FollowUp = "rollback"
    estimated: FollowUp = "hold"
    drift: FollowUp = "alert"

    @field_validator("estimated", "drift")
    @classmethod
    def _needs_no_labels(cls, follow_up: FollowUp) -> FollowUp:
        if follow_up == "rollback":
            raise ValueError(
                "only labels show that the version before does better: expected alert or hold, and rollback for "
                "`realised`"
            )
        return follow_up


class DriftRules(_Section):
    """The monitoring of one project.

    A column drifts where its distance from the reference exceeds both its effect size and the `quantile` of what
    chance alone gives for as many rows. `floor` is the performance (accuracy, in detection mAP@0.5) that production
    has to hold; none: the gate's overall floor. `labels` is how many images a day are asked for. With `dry_run` it is
    only recorded what would be done.
    """

    effect_sizes: EffectSizes = EffectSizes()
    quantile: float = Field(default=0.999, ge=0.9, lt=1)
    min_rows: int = Field(default=50, ge=2)
    days: SeveralDays = SeveralDays()
    floor: Share | None = None
    labels: int = Field(default=50, ge=1, le=10_000)
    on_decay: OnDecay = OnDecay()
    dry_run: bool = False
