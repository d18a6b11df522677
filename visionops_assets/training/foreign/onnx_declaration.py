"""What whoever submits a finished ONNX file says of it: how it takes images, and what its outputs mean."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from resources.error_family import Refused
from resources.nearest import there_are
from visionops_assets.tasks.task_registry import CLASSIFICATION, DETECTION

Convention = Literal["visionops", "logits", "yolo", "yolo_obj", "boxes6"]
ChannelOrder = Literal["rgb", "bgr", "grey"]
Padding = Literal["black", "none"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)
# What a file of a convention answers; one of ours says it itself.
_TASKS = {
    "logits": CLASSIFICATION,
    "yolo": DETECTION,
    "yolo_obj": DETECTION,
    "boxes6": DETECTION,
}
_OF_IMAGES = ("channel_order", "scale", "mean", "std", "padding")
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ForeignFileRefused(Refused, ValueError):
    """An ONNX file that cannot be a challenger; the message says why, and what to do. Nothing was registered."""


class Declaration(BaseModel):
    """What is declared of a file.

    A pixel value v of 0..255 reaches the file as (v / `scale` - `mean`) / `std`, in `channel_order`. `padding` black
    keeps the aspect ratio and puts the image in the middle of black bars, none stretches it. `classes` are in the order
    of the file's numbers. A file of the convention visionops says all of it itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    convention: Convention
    task: str
    classes: tuple[str, ...]
    channel_order: ChannelOrder | None = None
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    mean: tuple[Finite, ...] | None = None
    std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] | None = None
    padding: Padding | None = None

    @model_validator(mode="after")
    def _says_what_the_file_does_not(self) -> Self:
        given = [name for name in _OF_IMAGES if getattr(self, name) is not None]
        if self.convention == "visionops":
            if given:
                raise ValueError(f"{option(given[0])}: a file of the convention visionops says it itself")
            return self
        missing = [option(name) for name in _OF_IMAGES if name not in given]
        if missing:
            raise ValueError(
                f"convention {self.convention} does not say how the file takes images: give {', '.join(missing)}, such "
                "as --channel-order rgb --scale 255 --mean 0 --std 1 --padding black"
            )
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise ValueError(f"{option(name)}: one value, or one for each of {self.channels} channels")
        return self

    @model_validator(mode="after")
    def _is_for_the_task(self) -> Self:
        answers = _TASKS.get(self.convention, self.task)
        if answers != self.task:
            fitting = [name for name in CONVENTIONS if _TASKS.get(name, self.task) == self.task]
            raise ValueError(
                f"--convention {self.convention} is for {answers}, the project's task is {self.task}: it takes "
                f"{' or '.join(fitting)}"
            )
        return self

    @property
    def channels(self) -> int:
        """How many the file takes."""
        return 1 if self.channel_order == "grey" else 3

    @property
    def resize(self) -> Literal["fit", "stretch"]:
        """How images reach the file's size, in the words of a recipe."""
        return "fit" if self.padding == "black" else "stretch"

    def of_channels(self, values: tuple[float, ...] | None) -> list[float]:
        """A mean or deviation, one value a channel."""
        found = list(values or ())
        return found * self.channels if len(found) == 1 else found


def option(name: str) -> str:
    """A field as it is typed."""
    return f"--{name.replace('_', '-')}"


def declared(
    convention: str, task: str, classes: Sequence[str], order: Sequence[str] | None, **said: Any
) -> Declaration:
    """What is declared of a file for a project with these classes; `order` is that of the file's class numbers.

    Raises `ForeignFileRefused`.
    """
    if convention not in CONVENTIONS:
        raise ForeignFileRefused(f"--convention {convention}: {there_are(convention, CONVENTIONS)}")
    if order is not None and sorted(order) != sorted(classes):
        raise ForeignFileRefused(
            f"--class-order: expected each class of the project once, {', '.join(classes)}, got {', '.join(order)}"
        )
    try:
        return Declaration.model_validate(
            {"convention": convention, "task": task, "classes": tuple(order or classes), **said}
        )
    except ValidationError as error:
        found = error.errors()[0]
        field = f"{option(str(found['loc'][0]))}: " if found["loc"] else ""
        raise ForeignFileRefused(f"{field}{found['msg'].removeprefix('Value error, ')}") from error
