"""How a training goes beyond optimiser and epochs: what is kept of given weights, what the loss weighs, which weights
are taken at the end.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from visionops_assets.config.section import Section

Positive = Annotated[float, Field(gt=0)]


class FineTuning(Section):
    """How given weights are kept while the rest learns. The head is what the number of classes shapes."""

    freeze_epochs: int = Field(
        default=0,
        ge=0,
        description="so many epochs only what starts fresh learns, and given weights stay as they are",
    )
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="by which factor each layer, from the head down, learns slower than the one above it",
    )
    head_multiplier: float = Field(default=1.0, gt=0, le=1000, description="how much faster the head learns")


class Loss(Section):
    """What cross-entropy weighs."""

    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="the share of certainty that is spread over all classes"
    )
    class_weights: Literal["balanced"] | tuple[Positive, ...] | None = Field(
        None,
        description="balanced, by the inverse of how many images a class has, or one a class in their order",
    )


class Averaging(Section):
    """Which weights validation sees and the model ships with, in place of the last ones."""

    name: Literal["ema", "swa"] = Field(
        description="ema: a moving average over steps; swa: the mean of those that epochs ended with"
    )
    decay: float = Field(default=0.999, gt=0, lt=1, description="of ema; smaller in the first steps")
    from_epoch: int = Field(default=1, ge=1, description="the first epoch that counts")

    @model_validator(mode="after")
    def _decay_is_for_ema(self) -> Self:
        if self.name == "swa" and "decay" in self.model_fields_set and self.decay != 0.999:
            raise ValueError("decay belongs to ema: swa weighs all alike")
        return self
