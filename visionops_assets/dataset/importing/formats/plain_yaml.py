"""YAML whose scalars are text as they stand: `off`, `007` and `1.10` are names of classes, not values."""

from pathlib import Path
from typing import Any

import yaml

from visionops_assets.dataset.importing.plain_text import read_text
from visionops_assets.dataset.importing.source import SourceError


def read_yaml(path: Path, encoding: str | None = None) -> dict[str, Any]:
    """A mapping whose scalars are text; nothing at all is an empty one. Raises `SourceError`."""
    text = read_text(path, encoding)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise SourceError(f"{path}: is not YAML with a mapping: {problem}{place}") from error
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise SourceError(f"{path}: is not YAML with a mapping")
    found: dict[str, Any] = _value(node, path)
    return found


def _value(node: yaml.Node, path: Path) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_value(one, path) for one in node.value]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = str(_value(key, path))
            if name in found:
                line = key.start_mark.line + 1
                raise SourceError(f"{path}: line {line}: {name!r} stands twice; keep one")
            found[name] = _value(value, path)
        return found
    # Nothing written, or written as YAML writes nothing.
    plain = isinstance(node, yaml.ScalarNode) and node.style is None and node.value in ("", "~")
    return None if plain else node.value
