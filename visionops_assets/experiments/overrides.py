"""A recipe with some of its values replaced, checked against its schema before anything is trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from resources.nearest import meant_field
from visionops_assets.config.recipe import Recipe


class OverrideError(ValueError):
    """A value that a recipe cannot have; the message names where it was given, the field and what was expected."""


def overridden(recipe: Recipe, values: Mapping[str, Any], where: str) -> Recipe:
    """The recipe with values at dotted paths (`optimiser.lr`, `augmentations.0.degrees`) replaced.

    `where` names who gives them, for the message. Raises `OverrideError` listing every wrong field.
    """
    content: dict[str, Any] = recipe.model_dump(mode="json")
    for path, value in values.items():
        _put(content, path, value, where)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise OverrideError("\n".join(f"{where}: {_explain(found)}" for found in error.errors())) from error


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Values by path from `path=value` texts; values are YAML. Raises `OverrideError`."""
    values: dict[str, Any] = {}
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise OverrideError(f"--set {text}: expected path=value, such as optimiser.lr=0.01")
        try:
            values[path.strip()] = as_number(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise OverrideError(f"--set {text}: the value is not valid YAML") from error
    return values


def as_number(value: Any) -> Any:
    """A value as YAML meant it: `1e-3`, which YAML 1.1 takes for a text, is a number."""
    if isinstance(value, str):
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


def _explain(found: Any) -> str:
    field = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        meant = meant_field(Recipe, found["loc"], ": correct its spelling")
        return f"{field}: is not a field of a recipe{meant}"
    said = found["msg"].removeprefix("Value error, ")
    return f"{field}: {said[0].lower()}{said[1:]} (found {found.get('input')!r})"
