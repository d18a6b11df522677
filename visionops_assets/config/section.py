"""What all parts of a project file have in common: how YAML is read, and what a section takes."""

from collections.abc import Iterator
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from resources.error_family import Invalid


class NotYAML(Invalid):
    """A text is no YAML; the message says in one line what is wrong, and in which line and column."""


class Section(BaseModel):
    """Fields of a project file. Only those that are declared, and nothing changes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GrownSection(Section):
    """A part of a recipe of which fields came `later`. They are left out of what is written where they have their
    default: recipes of before keep their digest, and recorded code of before reads them.
    """

    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _as_before(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialise(self)
        for name in self._unsaid():
            content.pop(name, None)
        return content

    def _unsaid(self) -> Iterator[str]:
        for name in self.later:
            if getattr(self, name) == type(self).model_fields[name].get_default(call_default_factory=True):
                yield name


def parse_yaml(text: str) -> Any:
    """What a YAML text says. Raises `NotYAML`."""
    try:
        return yaml.load(text, Loader=_PlainNumbers)
    except yaml.YAMLError as error:
        raise NotYAML(_in_one_line(error)) from error


class _PlainNumbers(yaml.SafeLoader):
    """YAML in which a number is written plainly: YAML 1.1 reads `1_0` as 10, which a person may have typed for 1.0, or
    for a name."""

    def plain(self, node: yaml.ScalarNode) -> Any:
        if "_" in node.value:
            said = f"{node.value} is no number: write {node.value.replace('_', '')}, or '{node.value}' for a name"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark)
        whole = node.tag == "tag:yaml.org,2002:int"
        return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)


for _kind in ("int", "float"):
    _PlainNumbers.add_constructor(f"tag:yaml.org,2002:{_kind}", _PlainNumbers.plain)


def _in_one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    said = [getattr(error, "context", None), getattr(error, "problem", None)]
    if said[1] is not None and r"'\t'" in said[1]:
        said = ["a tab, where YAML takes spaces only"]
    return f"line {mark.line + 1}, column {mark.column + 1}: {', '.join(each for each in said if each)}"
