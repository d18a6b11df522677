"""The recipe: everything a project decides about a training, as a validated model.

Light on purpose (pydantic and the standard library only): the project file is read wherever definitions load.
"""

import hashlib
import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

DEFAULT_MODEL = "visionops_assets.training.models.SmallConvNet"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _dotted(path: str) -> str:
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ValueError(f"expected a dotted path such as 'my_package.my_module.MyModel', got {path!r}")
    return path


class InputSpec(_Part):
    """Size of the decoded image a model takes, how it is reached, and how values are normalised.

    `fit` keeps the aspect ratio and pads, `stretch` does not. `mean` and `std` (one value a channel, on the
    scale 0..1) are measured on the training images when absent; give them with pretrained weights.
    """

    height: int = Field(ge=4, le=4096)
    width: int = Field(ge=4, le=4096)
    channels: Literal[1, 3] = 3
    resize: Literal["fit", "stretch"] = "fit"
    mean: tuple[float, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = None

    @model_validator(mode="after")
    def _normalisation_fits(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std are given together or not at all")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.channels:
                raise ValueError(f"{name} needs {self.channels} value(s), one a channel, got {len(values)}")
        return self


class InitWeights(_Part):
    """Weights to start from: a safetensors file, what it must hash to, and under which licence it came."""

    uri: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    licence: str = Field(min_length=1)


class ModelSpec(_Part):
    """Which model: any class or function that fits `visionops_assets.training.models`."""

    class_path: Annotated[str, AfterValidator(_dotted)] = DEFAULT_MODEL
    init_args: dict[str, bool | int | float | str | list[Any] | dict[str, Any] | None] = Field(
        default_factory=dict
    )
    init_weights: InitWeights | None = None


class Optimiser(_Part):
    """`lr` is the peak rate of the schedule; `momentum` is for sgd only."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(default=3e-3, gt=0, le=100)
    weight_decay: float = Field(default=0.01, ge=0)
    momentum: float | None = Field(default=None, ge=0, lt=1)
    schedule: Literal["none", "cosine", "onecycle"] = "onecycle"

    @model_validator(mode="after")
    def _momentum_is_for_sgd(self) -> Self:
        if self.momentum is not None and self.name != "sgd":
            raise ValueError(f"momentum belongs to sgd; {self.name} has none: remove it or choose sgd")
        return self


class Shift(_Part):
    """Move by up to `fraction` of the height and width."""

    name: Literal["shift"]
    fraction: float = Field(gt=0, le=0.5)


class Rotate(_Part):
    """Turn by up to `degrees` either way."""

    name: Literal["rotate"]
    degrees: float = Field(gt=0, le=180)


class Scale(_Part):
    """Enlarge or shrink by a factor between 1/(1+fraction) and 1+fraction."""

    name: Literal["scale"]
    fraction: float = Field(gt=0, le=1)


class HorizontalFlip(_Part):
    """Mirror left and right."""

    name: Literal["horizontal_flip"]
    probability: float = Field(default=0.5, gt=0, le=1)


class VerticalFlip(_Part):
    """Mirror top and bottom."""

    name: Literal["vertical_flip"]
    probability: float = Field(default=0.5, gt=0, le=1)


class Brightness(_Part):
    """Add up to `fraction` of the value range, either way."""

    name: Literal["brightness"]
    fraction: float = Field(gt=0, le=1)


class Contrast(_Part):
    """Stretch or squeeze values about the image's mean by up to `fraction`."""

    name: Literal["contrast"]
    fraction: float = Field(gt=0, lt=1)


class Noise(_Part):
    """Add Gaussian noise whose standard deviation is drawn from 0..`sigma` (value range 0..1)."""

    name: Literal["noise"]
    sigma: float = Field(gt=0, le=1)


Augmentation = Annotated[
    Shift | Rotate | Scale | HorizontalFlip | VerticalFlip | Brightness | Contrast | Noise,
    Field(discriminator="name"),
]


class Recipe(_Part):
    """How a challenger is trained. Everything that can change the weights is in here.

    `threads` is fixed rather than taken from the machine: one and two threads add in another order and give
    other bits. One is the default: threads wait for each other at every operation, so on a machine that does other work
    two are many times slower than one. There is no early stopping: the number of epochs is part of the recipe.
    """

    input: InputSpec
    model: ModelSpec = ModelSpec()
    optimiser: Optimiser = Optimiser()
    epochs: int = Field(default=20, ge=1, le=10_000)
    batch_size: int = Field(default=64, ge=1, le=65_536)
    augmentations: tuple[Augmentation, ...] = ()
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    seed: int = Field(default=0, ge=0, lt=2**32)
    threads: int = Field(default=1, ge=1, le=256)
    reproducibility: Literal["bitwise", "statistical"] = "bitwise"


def canonical_json(value: object) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces; what digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def recipe_digest(recipe: Recipe) -> str:
    """Return the SHA-256 (hex) of the recipe as declared, defaults included, before `resolve`."""
    return hashlib.sha256(canonical_json(recipe.model_dump(mode="json")).encode()).hexdigest()


def resolve(recipe: Recipe, *, fast_bf16: bool) -> Recipe:
    """Return the recipe that runs on a machine: `precision: auto` becomes what that machine is good at.

    `fast_bf16` says whether the device multiplies bfloat16 in hardware (`hardware.fast_bf16()`).
    A resolved recipe resolves to itself on every machine, which is what a reproduction relies on.
    """
    if recipe.precision != "auto":
        return recipe
    return recipe.model_copy(update={"precision": "bf16-mixed" if fast_bf16 else "32-true"})
