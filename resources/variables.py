"""How a variable of the environment is declared, read, and named where its value cannot be read."""

import os
from functools import lru_cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import Field, SecretStr, ValidationError, ValidatorFunctionWrapHandler, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from resources.error_family import Invalid
from resources.escaping import HIDDEN, masked

_SHOWN = 40
# What numbers are held to that nobody means.
_MOST = 999_999_999
GroupType = TypeVar("GroupType", bound="Group")


class SettingInvalid(Invalid):
    """A variable has a value that it does not take; the message names it, its value and what was expected."""


def setting(
    variable: str,
    description: str,
    default: Any = None,
    *,
    without: str = "",
    see: str = "",
    ge: float | None = None,
    le: float | None = None,
) -> Any:
    """A variable. `without` says in words what holds where it is not set, `see` which page of docs/ says more."""
    most = le or (_MOST if ge is not None else None)
    told: dict[str, Any] = {"without": without, "see": see}
    return Field(default, alias=variable, description=description, json_schema_extra=told, ge=ge, le=most)


class Group(BaseSettings):
    """Variables that are read together."""

    model_config = SettingsConfigDict(
        case_sensitive=True,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        # Most groups are never read by a process.
        defer_build=True,
    )

    @field_validator("*", mode="wrap")
    @classmethod
    def _numbers_are_plain(cls, given: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        value = validate(given)
        # As Python reads it, 1_0 is 10.
        if isinstance(given, str) and isinstance(value, int | float) and "_" in given:
            raise ValueError("a number is written without underscores")
        return value

    @classmethod
    def read(cls) -> Self:
        """What the environment says now. Raises `SettingInvalid`."""
        found: Self = _read(cls, tuple(os.environ.get(name) for name in cls.fields()))
        return found

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """Its settings by the names of their variables."""
        return {field.alias: field for field in cls.model_fields.values() if field.alias}


@lru_cache(maxsize=64)
def _read(group: type[GroupType], given: tuple[str | None, ...]) -> GroupType:
    """The group of the environment, whose values are `given`; asked again it costs no more than looking them up."""
    try:
        return group()
    except ValidationError as error:
        wrong = [_explained(group, str(found["loc"][0])) for found in error.errors(include_input=False)]
        raise SettingInvalid("; ".join(dict.fromkeys(wrong))) from None


def _explained(group: type[Group], variable: str) -> str:
    field = group.fields()[variable]
    given = os.environ.get(variable, "")
    shown = HIDDEN if type_of(field) is SecretStr else repr(masked(given)[:_SHOWN])
    return f"{variable} is {shown}: it takes {takes(field)}"


def type_of(field: FieldInfo) -> Any:
    """The type of a value that is set."""
    kinds = [each for each in get_args(field.annotation) if each is not NoneType]
    optional = NoneType in get_args(field.annotation)
    return kinds[0] if optional else field.annotation


def takes(field: FieldInfo) -> str:
    """What a setting takes, in words."""
    kind = type_of(field)
    if get_origin(kind) is Literal:
        return " or ".join(repr(each) for each in get_args(kind))
    if kind in (int, float):
        bounds = {
            name: getattr(each, name)
            for each in field.metadata
            for name in ("ge", "le")
            if hasattr(each, name)
        }
        least, most = bounds["ge"], bounds["le"]
        number = "a whole number" if kind is int else "a number"
        return f"{number} of at least {least:g}" if most == _MOST else f"{number} from {least:g} to {most:g}"
    if kind is SecretStr:
        return "a secret"
    if kind is Path:
        return "a path"
    return next((each for each in (*field.metadata, *get_args(kind)) if isinstance(each, str)), "text")
