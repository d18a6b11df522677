"""What a project file says about its drop and its audit."""

import datetime

from pydantic import BaseModel, ConfigDict, Field


class DropRules(BaseModel):
    """Where batches arrive, and when one is complete."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # A folder or s3://bucket/prefix with one folder a batch; else the project's folder in the drop of all projects.
    address: str | None = None
    # A batch without a `_SUCCESS` marker is complete when its files stayed the same for this long.
    quiet_for: datetime.timedelta = datetime.timedelta(minutes=10)
    check_every: datetime.timedelta = datetime.timedelta(seconds=30)
    # How often an import that ended with an error (not a refusal) is tried.
    attempts: int = Field(3, ge=1, le=20)
    format: str | None = None


class AuditRules(BaseModel):
    """Limits of the audit of a batch. Sides in pixels; `max_aspect` is the longer side by the shorter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_side: int = Field(4, ge=1)
    max_side: int = Field(20_000, ge=1)
    max_aspect: float = Field(50.0, ge=1)
    # The champion disagrees confidently where it is at least this sure of another class than the label.
    confidence: float = Field(0.9, gt=0, le=1)
    # The largest share of such images in a batch; a batch with more is refused. None: they are only listed.
    max_disagreement: float | None = Field(None, ge=0, le=1)
    # The largest share of a batch that near duplicates of near duplicates may be; a larger chain refuses the batch.
    max_chain: float = Field(0.1, gt=0, le=1)
    # How many images of the newest dataset version the daily check reads again.
    daily_sample: int = Field(200, ge=1)
