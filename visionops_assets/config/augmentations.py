"""What may be done to training images: each draw follows from the seed, the epoch and the sample.

Light, as the rest of the recipe.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from resources.nearest import did_you_mean
from visionops_assets.config.section import Section


class Shift(Section):
    """Move by up to `fraction` of the height and width."""

    name: Literal["shift"] = Field(description="which augmentation")
    fraction: float = Field(gt=0, le=0.5, description="of height and width")


class Rotate(Section):
    """Turn by up to `degrees` either way."""

    name: Literal["rotate"] = Field(description="which augmentation")
    degrees: float = Field(gt=0, le=180, description="either way")


class Scale(Section):
    """Enlarge or shrink by a factor between 1/(1+fraction) and 1+fraction."""

    name: Literal["scale"] = Field(description="which augmentation")
    fraction: float = Field(gt=0, le=1, description="of the size")


class HorizontalFlip(Section):
    """Mirror left and right."""

    name: Literal["horizontal_flip"] = Field(description="which augmentation")
    probability: float = Field(default=0.5, gt=0, le=1, description="how often")


class VerticalFlip(Section):
    """Mirror top and bottom."""

    name: Literal["vertical_flip"] = Field(description="which augmentation")
    probability: float = Field(default=0.5, gt=0, le=1, description="how often")


class Brightness(Section):
    """Add up to `fraction` of the value range, either way."""

    name: Literal["brightness"] = Field(description="which augmentation")
    fraction: float = Field(gt=0, le=1, description="of the value range")


class Contrast(Section):
    """Stretch or squeeze values about the image's mean by up to `fraction`."""

    name: Literal["contrast"] = Field(description="which augmentation")
    fraction: float = Field(gt=0, lt=1, description="of the distance from the mean")


class Noise(Section):
    """Add Gaussian noise whose standard deviation is drawn from 0..`sigma` (value range 0..1)."""

    name: Literal["noise"] = Field(description="which augmentation")
    sigma: float = Field(gt=0, le=1, description="the largest standard deviation")


class RandomResizedCrop(Section):
    """Enlarge a part of the image, of at least `area` of it and a ratio of sides up to `ratio`, to the whole."""

    name: Literal["random_resized_crop"] = Field(description="which augmentation")
    area: float = Field(default=0.5, gt=0, le=1, description="the smallest part")
    ratio: float = Field(
        default=4 / 3, ge=1, le=4, description="of the sides, at most, as of the image's own"
    )


class ColourJitter(Section):
    """Change brightness, contrast, saturation and hue together, each by a draw of its own."""

    name: Literal["colour_jitter"] = Field(description="which augmentation")
    brightness: float = Field(default=0.2, ge=0, lt=1, description="by which share values are multiplied")
    contrast: float = Field(default=0.2, ge=0, lt=1, description="of the distance from the mean")
    saturation: float = Field(default=0.2, ge=0, lt=1, description="of the distance from grey")
    hue: float = Field(default=10, ge=0, le=180, description="in degrees of the colour circle")


class Mixing(Section):
    """What makes one image of two of a batch, and both their classes its own."""

    name: str


class Mixup(Mixing):
    """Lay two images of the batch over each other, by a share drawn from Beta(`alpha`, `alpha`)."""

    name: Literal["mixup"] = Field(description="which augmentation")
    alpha: float = Field(default=0.2, gt=0, le=10, description="the larger, the more even the shares")
    probability: float = Field(default=1.0, gt=0, le=1, description="how often")


class Cutmix(Mixing):
    """Put a part of another image of the batch into the image, its share drawn from Beta(`alpha`, `alpha`)."""

    name: Literal["cutmix"] = Field(description="which augmentation")
    alpha: float = Field(default=1.0, gt=0, le=10, description="the larger, the more even the shares")
    probability: float = Field(default=0.5, gt=0, le=1, description="how often")


class Mosaic(Section):
    """Put the image and three others of the batch, each half as large, into one, with all their boxes."""

    name: Literal["mosaic"] = Field(description="which augmentation")
    probability: float = Field(default=0.5, gt=0, le=1, description="how often")


_Known = (
    Shift
    | Rotate
    | Scale
    | HorizontalFlip
    | VerticalFlip
    | RandomResizedCrop
    | Brightness
    | Contrast
    | ColourJitter
    | Noise
    | Mixup
    | Cutmix
    | Mosaic
)
NAMES = tuple(get_args(each.model_fields["name"].annotation)[0] for each in get_args(_Known))


def _known_by_its_name(given: Any) -> Any:
    if not isinstance(given, Mapping):
        return given
    listed = f"there are {', '.join(NAMES)}"
    if "name" not in given:
        raise ValueError(f"name is required: {listed}")
    if given["name"] not in NAMES:
        meant = did_you_mean(str(given["name"]), NAMES, f"; {listed}")
        raise ValueError(f"no augmentation is called {given['name']}{meant}")
    return given


Augmentation = Annotated[_Known, Field(discriminator="name"), BeforeValidator(_known_by_its_name)]
