"""What a project file says about production: how often its log is collected, and which frames are kept."""

import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


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
