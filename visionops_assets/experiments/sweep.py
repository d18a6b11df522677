"""Recipes that differ from a project's: values replaced by hand, or tried by a sweep file, each checked against the
schema before anything is trained. The points of a sweep are the same each time.
"""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from resources.error_family import Invalid
from resources.nearest import meant_field
from visionops_assets.config.recipe import Recipe
from visionops_assets.config.section import NotYAML, parse_yaml

LARGEST = 10_000
_DIGITS = 4


class OverrideError(Invalid):
    """A value that a recipe cannot have; the message names where it was given, the field and what was expected."""


def overridden(recipe: Recipe, values: Mapping[str, Any], where: str) -> Recipe:
    """The recipe with values at dotted paths (`optimiser.lr`, `augmentations.0.degrees`) replaced.

    `where` names who gives them, for the message. Raises `OverrideError` listing every wrong field.
    """
    content: dict[str, Any] = recipe.model_dump(mode="json")
    for path, value in values.items():
        _put(content, path, value, where)
    for one, other in (("name", "class_path"), ("class_path", "name")):
        # They say the same thing: the one that is given takes the other's place.
        if f"model.{one}" in values and f"model.{other}" not in values:
            content["model"].pop(other, None)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise OverrideError(
            "\n".join(f"{where}: {_explain_override(found)}" for found in error.errors())
        ) from error


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Values by path from `path=value` texts; values are YAML. Raises `OverrideError`."""
    values: dict[str, Any] = {}
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise OverrideError(f"--set {text}: expected path=value, such as optimiser.lr=0.01")
        try:
            values[path.strip()] = as_number(parse_yaml(value))
        except NotYAML as error:
            raise OverrideError(f"--set {text}: the value is not valid YAML: {error}") from error
    return values


def as_number(value: Any) -> Any:
    """A value as YAML meant it: `1e-3`, which YAML 1.1 takes for a text, is a number."""
    if isinstance(value, str) and "_" not in value:
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _put(content: Any, path: str, value: Any, where: str) -> None:
    *parents, last = path.split(".")
    for number, name in enumerate(parents):
        found = _get(content, name)
        if found is None:
            # An absent part, such as model.init_weights, may be given field by field.
            found = {}
            _set(content, name, found, ".".join([*parents[: number + 1]]), where)
        content = found
    _set(content, last, value, path, where)


def _get(content: Any, name: str) -> Any:
    if isinstance(content, dict):
        return content.get(name)
    if isinstance(content, list) and name.isdigit() and int(name) < len(content):
        return content[int(name)]
    return None


def _set(content: Any, name: str, value: Any, path: str, where: str) -> None:
    if isinstance(content, dict):
        content[name] = value
    elif isinstance(content, list) and name.isdigit() and int(name) < len(content):
        content[int(name)] = value
    else:
        kind = f"a list of {len(content)}" if isinstance(content, list) else repr(content)
        raise OverrideError(f"{where}: {path}: there is nothing to set, {path.rpartition('.')[0]} is {kind}")


def _explain_override(found: Any) -> str:
    field = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        meant = meant_field(Recipe, found["loc"], ": correct its spelling")
        return f"{field}: is not a field of a recipe{meant}"
    said = found["msg"].removeprefix("Value error, ")
    return f"{field}: {said[0].lower()}{said[1:]} (found {found.get('input')!r})"


Number = Annotated[float, BeforeValidator(as_number)]


class SweepError(Invalid):
    """A sweep file that cannot be used; the message names the file, the field and what was expected."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Values(_Part):
    """A list to choose from."""

    values: tuple[Any, ...] = Field(min_length=1)

    def grid(self) -> list[Any]:
        """All of them."""
        return [as_number(value) for value in self.values]

    def draw(self, generator: random.Random) -> Any:
        """One of them."""
        return generator.choice(self.grid())

    def ends(self) -> list[Any]:
        """What a recipe must be able to have."""
        return self.grid()


class Range(_Part):
    """Numbers from `min` to `max`, both included; `steps` of them in a grid. Whole ends give whole numbers, others
    numbers of four digits."""

    min: Number
    max: Number
    scale: Literal["linear", "log"] = "linear"
    steps: int | None = Field(None, ge=2, le=LARGEST)

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.min < self.max:
            raise ValueError(f"min must be less than max, got {self.min:g} and {self.max:g}")
        if self.scale == "log" and self.min <= 0:
            raise ValueError(f"a log scale needs a min above 0, got {self.min:g}")
        return self

    def grid(self) -> list[float | int]:
        """`steps` values, evenly spaced on the scale; of whole numbers each once."""
        steps = self.steps or 2
        return list(dict.fromkeys(self._at(number / (steps - 1)) for number in range(steps)))

    def draw(self, generator: random.Random) -> float | int:
        """A value drawn evenly on the scale."""
        return self._at(generator.random())

    def ends(self) -> list[float | int]:
        """The least and the greatest value."""
        return [self._at(0.0), self._at(1.0)]

    def _at(self, share: float) -> float | int:
        if self.scale == "log":
            value = math.exp(math.log(self.min) + share * (math.log(self.max) - math.log(self.min)))
        else:
            value = self.min + share * (self.max - self.min)
        if self.min.is_integer() and self.max.is_integer():
            return round(value)
        # What is shown is what is trained, and what a person copies into a project file.
        return min(max(float(f"{value:.{_DIGITS}g}"), self.min), self.max)


def _listed(declared: Any) -> Any:
    if isinstance(declared, list):
        return {"values": declared}
    if not isinstance(declared, Mapping | Values | Range):
        raise ValueError("expected a list of values, or a range with min and max")
    return declared


def _kind(declared: Any) -> str:
    return "values" if isinstance(declared, Values) or "values" in declared else "range"


Parameter = Annotated[
    Annotated[Values, Tag("values")] | Annotated[Range, Tag("range")],
    Discriminator(_kind),
    BeforeValidator(_listed),
]


class Sweep(_Part):
    """A grid over all combinations, or `runs` draws. `parameters` are dotted paths of the recipe."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    method: Literal["grid", "random"] = "grid"
    runs: int | None = Field(None, ge=1, le=LARGEST)
    seed: int = Field(0, ge=0)
    parameters: dict[str, Parameter] = Field(min_length=1)

    @model_validator(mode="after")
    def _the_method_has_what_it_needs(self) -> Self:
        if self.method == "random" and self.runs is None:
            raise ValueError("method random needs `runs`, the number of trainings")
        if self.method == "grid":
            if self.runs is not None:
                raise ValueError("`runs` belongs to method random: a grid trains every combination")
            for path, parameter in self.parameters.items():
                if isinstance(parameter, Range) and parameter.steps is None:
                    raise ValueError(f"a grid needs `steps` for the range of {path}, or a list of values")
        return self

    def points(self) -> list[dict[str, Any]]:
        """The values of each training by path, in order; the same points for the same file."""
        if self.method == "grid":
            grids = [parameter.grid() for parameter in self.parameters.values()]
            count = math.prod(len(grid) for grid in grids)
            if count > LARGEST:
                raise SweepError(
                    f"the grid has {count:,} points, at most {LARGEST:,} are trained: use method random"
                )
            return [dict(zip(self.parameters, chosen, strict=True)) for chosen in itertools.product(*grids)]
        generator = random.Random(self.seed)
        return [
            {path: parameter.draw(generator) for path, parameter in self.parameters.items()}
            for _ in range(self.runs or 0)
        ]


def load_sweep(path: Path) -> Sweep:
    """Read a sweep file; its `name` is by default the file's. Raises `SweepError` listing every wrong field."""
    try:
        content = parse_yaml(path.read_text())
    except OSError as error:
        raise SweepError(f"{path}: cannot be read: {error.strerror}") from error
    except (NotYAML, UnicodeDecodeError) as error:
        raise SweepError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise SweepError(f"{path}: must be a mapping with `method` and `parameters`")
    try:
        return Sweep.model_validate({"name": path.stem, **content})
    except ValidationError as error:
        raise SweepError(
            "\n".join(dict.fromkeys(f"{path}: {_explain(one)}" for one in error.errors()))
        ) from error


def recipes_of(sweep: Sweep, recipe: Recipe, path: Path) -> list[tuple[dict[str, Any], Recipe]]:
    """Each point with its recipe. All are checked, and the ends of each range even where none is drawn.

    Raises `SweepError` naming the file, the field and what was expected.
    """
    points = sweep.points()
    try:
        for parameter, declared in sweep.parameters.items():
            for end in declared.ends():
                overridden(recipe, {**points[0], parameter: end}, f"{path}: parameters")
        return [(point, overridden(recipe, point, f"{path}: parameters")) for point in points]
    except OverrideError as error:
        raise SweepError(str(error)) from error


def _explain(found: Any) -> str:
    place = [str(part) for part in found["loc"]]
    if place[:1] == ["parameters"]:
        # Which kind of a parameter it was taken for stands in no file.
        del place[2:3]
    field = ".".join(place) or "the file"
    if found["type"] == "extra_forbidden":
        return f"{field}: is not a field of a sweep file; remove it or correct its spelling"
    if found["type"] == "missing":
        return f"{field}: is required"
    said = found["msg"].removeprefix("Value error, ")
    return f"{field}: {said[0].lower()}{said[1:]}"
