"""What a project calls drift and decay: the `drift` section of its file."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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
