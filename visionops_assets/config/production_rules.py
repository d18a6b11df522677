"""What a project file says about production: how often its log is collected, which frames are kept, and what is
called drift and decay.
"""

import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from visionops_assets.config.section import Section

Share = Annotated[float, Field(ge=0, le=1)]
Distance = Annotated[float, Field(gt=0, le=2)]
FollowUp = Literal["alert", "hold", "rollback"]


class CaptureRules(Section):
    """Which frames are kept with their prediction. Labels are asked for on these, and models compared on these."""

    share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="this share of all images, chosen by their digest: the same image is chosen everywhere or nowhere",
    )
    below_confidence: float = Field(
        0.6, ge=0, le=1, description="and every image of whose class the model is less sure than this"
    )
    novelty: float = Field(
        0.3,
        ge=0,
        le=2,
        description="and every image this far from those kept lately: 1 less the cosine of the nearest embedding",
    )
    bytes_per_day: int = Field(50_000_000, ge=0, description="no more than this of one device on one day")
    keep_days: int = Field(
        90,
        ge=1,
        description="older frames are deleted from the branch; earlier commits have them until lakeFS collects garbage",
    )


class ProductionRules(Section):
    """How the log of production comes in."""

    since: datetime.date = Field(
        datetime.date(2026, 1, 1),
        description="the first production day; rows of earlier days are quarantined",
    )
    collect_every: datetime.timedelta = Field(
        datetime.timedelta(minutes=5),
        gt=datetime.timedelta(0),
        description="the spool is committed at most this often: by default 288 commits a day",
    )
    look_every: datetime.timedelta = Field(
        datetime.timedelta(hours=1),
        description="a day that is not over is looked at this often at most; an earlier one once a commit touches it",
    )
    attempts: int = Field(
        3, ge=1, le=20, description="how often a day whose run ended with an error is tried"
    )
    clock_ahead: datetime.timedelta = Field(
        datetime.timedelta(minutes=10),
        ge=datetime.timedelta(0),
        description="a row whose clock is further ahead of ours than this is quarantined",
    )
    clock_behind: datetime.timedelta = Field(
        datetime.timedelta(days=30),
        gt=datetime.timedelta(0),
        description="so is one of a day longer ago than this: a clock that was never set says 1970 or 2000",
    )
    keep_days: int = Field(
        365,
        ge=1,
        description="rows, labels and findings of older days are deleted from the branch; what was made of them stays",
    )
    reports_keep_days: int = Field(
        90,
        ge=1,
        description="what devices reported of themselves is deleted from the branch after so many days",
    )
    captures: CaptureRules = Field(CaptureRules(), description="which frames are kept")

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


class EffectSizes(Section):
    """Distances from the reference below which a change is too small to matter, however many rows show it.

    `wasserstein` is in standard deviations of the reference, `jensen_shannon` between 0 and 1, `embedding` a maximum
    mean discrepancy: mixing a share of wholly different images into the day moves it by about that share.
    """

    wasserstein: Distance = Field(0.1, description="in standard deviations of the reference")
    jensen_shannon: Distance = Field(0.1, description="between 0 and 1")
    embedding: Distance = Field(0.1, description="a maximum mean discrepancy")


class SeveralDays(Section):
    """An alarm stands once `alarm` of the newest `of` judged days are bad, and falls after `clear` good ones in a row.

    A day with too few rows is not judged; one more than `within` days older than the newest no longer counts.
    Between two actions lie at least `cool_down` days.
    """

    alarm: int = Field(default=2, ge=1, description="so many bad days")
    of: int = Field(default=3, ge=1, le=60, description="among so many judged ones")
    clear: int = Field(default=3, ge=1, le=60, description="so many good days in a row end it")
    within: int = Field(default=14, ge=1, description="days that an older bad day counts")
    cool_down: int = Field(default=7, ge=0, description="days between two actions")

    @model_validator(mode="after")
    def _alarm_can_be_reached(self) -> Self:
        if self.alarm > self.of:
            raise ValueError(f"an alarm by {self.alarm} of {self.of} days can never stand")
        return self


class OnDecay(Section):
    """What follows, by what shows the decay; labels are asked for besides, whatever is declared.

    `realised`: labels show that the version before does better on the same captures. `estimated`: performance, as
    estimated without labels, is below the floor for `days.alarm` of `days.of` days. `drift`: images or answers depart
    from the holdout for as long.
    """

    realised: FollowUp = Field("rollback", description="labels show that the version before does better")
    estimated: FollowUp = Field("hold", description="the estimate without labels is below the floor")
    drift: FollowUp = Field("alert", description="images or answers depart from the holdout")

    @field_validator("estimated", "drift")
    @classmethod
    def _needs_no_labels(cls, follow_up: FollowUp) -> FollowUp:
        if follow_up == "rollback":
            raise ValueError(
                "only labels show that the version before does better: expected alert or hold, and rollback for "
                "`realised`"
            )
        return follow_up


class DriftRules(Section):
    """The monitoring of one project.

    A column drifts where its distance from the reference exceeds both its effect size and the `quantile` of what
    chance alone gives for as many rows. `floor` is the performance (accuracy, in detection mAP@0.5) that production
    has to hold; none: the gate's overall floor. `labels` is how many images a day are asked for. With `dry_run` it is
    only recorded what would be done.
    """

    effect_sizes: EffectSizes = Field(EffectSizes(), description="changes too small to matter")
    quantile: float = Field(
        default=0.999, ge=0.9, lt=1, description="of what chance alone gives: drift is beyond it"
    )
    min_rows: int = Field(default=50, ge=2, description="so many rows a day needs to be judged")
    days: SeveralDays = Field(SeveralDays(), description="how many days make an alarm")
    floor: Share | None = Field(
        None, description="the performance that production has to hold; none: the gate's overall floor"
    )
    labels: int = Field(default=50, ge=1, le=10_000, description="how many images a day are asked for")
    on_decay: OnDecay = Field(OnDecay(), description="what follows")
    dry_run: bool = Field(False, description="true: it is only recorded what would be done")
