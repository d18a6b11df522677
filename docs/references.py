"""Writes what docs/ and README say of settings, of the project file and of the command line, out of the code.

`make docs` runs it. In a page a table of settings stands between two comments, the first of which names its groups of
`resources.settings`, or its variables: `<!-- settings: LakeFS VISIONOPS_HOME -->` … `<!-- end of settings -->`.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from typer import Context
from typer.cli import get_docs_for_click
from typer.core import TyperGroup
from typer.main import get_command

from resources.home import ROOT
from resources.settings import GROUPS, VARIABLES
from resources.variables import takes
from visionops.cli.command_line import app
from visionops_assets.config.project import Project

DOCS = ROOT / "docs"
_MADE = "<!-- Written by `make docs`, out of the code: change it there. -->\n\n"
_ON_PATH = "`. .venv/bin/activate`, once in a terminal, puts `visionops` on its PATH.\n\n"
_TABLE = re.compile(r"(<!-- settings: ([^>]*) -->\n).*?(<!-- end of settings -->)", re.DOTALL)


def pages() -> dict[Path, str]:
    """Every page that is made, or has a part that is, as it has to be."""
    found = {
        DOCS / "project-file.md": project_file(),
        DOCS / "command-line.md": command_line(),
    }
    for page in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))):
        text = page.read_text()
        if page not in found and _TABLE.search(text):
            found[page] = with_settings(text, "docs/" if page.parent == ROOT else "")
    return found


def with_settings(text: str, folder: str) -> str:
    """A page with its tables of settings as they are now; `folder` leads from the page to docs/."""
    return _TABLE.sub(lambda found: f"{found[1]}{_settings(found[2].split(), folder)}{found[3]}", text)


def _settings(named: list[str], folder: str) -> str:
    groups = {group.__name__: list(group.fields()) for group in GROUPS}
    rows = []
    for variable in (each for name in named for each in groups.get(name, [name])):
        field = VARIABLES[variable]
        told: Any = field.json_schema_extra
        default = told["without"] or "none" if field.default is None else f"`{_number(field.default)}`"
        more = f" ([more]({folder}{told['see']}))" if told["see"] else ""
        rows.append((f"`{variable}`", f"{field.description}{more}", takes(field), default))
    return _table(("variable", "is", "takes", "with nothing set"), rows)


def _number(value: object) -> object:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else value


def project_file() -> str:
    """The reference of the project file: a section for the file and one for each part of it."""
    schema = Project.model_json_schema()
    sections = list(_sections("", schema, schema["$defs"]))
    head = (
        "# The project file\n\n"
        + _MADE
        + _ON_PATH
        + "One YAML file a project, in `projects/`. A part that is left out, "
        "and a field that is, has its default. A duration is `10s`, `00:10:00`, `PT10M` or a number of seconds. "
        "`visionops init` writes a first file; `visionops project list` and `.venv/bin/dg check defs` say what is "
        "wrong in one.\n"
    )
    return head + "".join(sections)


def _sections(path: str, schema: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[str]:
    rows, below = [], []
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        where = f"{path}.{name}" if path else name
        inner = [parts[each] for each in _names(field)]
        below += [(_inside(where, field, each), each) for each in inner]
        default = "required" if name in required else _default(field)
        kind = _kind(field, parts)
        if len(inner) == 1:
            kind = kind.replace("a part", f"[a part](#{re.sub(r'[^a-z_]', '', below[-1][0].lower())})")
        rows.append((f"`{name}`", field.get("description", ""), kind, default))
    title = f"`{path}`" if path else "The file"
    yield f"\n## {title}\n\n{schema.get('description', '')}\n\n"
    yield _table(("field", "is", "takes", "default"), rows)
    for where, part in below:
        yield from _sections(where, part, parts)


def _inside(where: str, field: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """How a part is written that stands in a list or under names."""
    if field.get("type") == "array":
        return f"{where}[] {part['properties']['name']['const']}"
    return f"{where}.NAME" if "additionalProperties" in field or "patternProperties" in field else where


def _names(field: Mapping[str, Any]) -> list[str]:
    """The parts that a field's value is made of, in order."""
    return list(dict.fromkeys(re.findall(r"'\$ref': '#/\$defs/(\w+)'", repr(field))))


def _default(field: Mapping[str, Any]) -> str:
    if "default" not in field:
        return "each field's" if "$ref" in field else "none"
    value = field["default"]
    if value in (None, "", [], {}):
        return "none"
    if isinstance(value, dict):
        return "each field's"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


_WORDS = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
_BOUNDS = {
    "minimum": "of at least",
    "exclusiveMinimum": "above",
    "maximum": "of at most",
    "exclusiveMaximum": "below",
}


def _kind(field: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """What a value is, in words, from its JSON schema."""
    if "$ref" in field:
        return "a part"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " or ".join(f"`{each}`" for each in field["enum"])
    several = field.get("anyOf") or field.get("oneOf")
    if several:
        kinds = [_kind(each, parts) for each in several if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    match field.get("type"):
        case "array":
            items = field.get("prefixItems")
            if items:
                return f"[{', '.join(_kind(each, parts) for each in items)}]"
            return f"a list of: {_kind(field['items'], parts)}" if field.get("items") else "a list"
        case "object":
            values = field.get("additionalProperties") or next(
                iter(field.get("patternProperties", {}).values()), None
            )
            return f"by name: {_kind(values, parts)}" if isinstance(values, dict) else "a mapping"
        case "string" if "format" in field:
            return f"a {field['format']}"
    bounds = [f"{words} {field[key]}" for key, words in _BOUNDS.items() if key in field]
    words = _WORDS.get(str(field.get("type")), "anything")
    pattern = f", `{field['pattern']}`".replace("|", "\\|") if "pattern" in field else ""
    return f"{words} {' and '.join(bounds)}".strip() + pattern


def _table(head: tuple[str, ...], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |\n" for line in lines)


def command_line() -> str:
    """The reference of the command line, as typer writes it, with each command's first sentence whole."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    text = get_docs_for_click(obj=group, ctx=Context(group), name="visionops", title="The command line")
    for name, command in group.commands.items():
        cut, whole = command.get_short_help_str(), command.get_short_help_str(1000)
        text = text.replace(f"* `{name}`: {cut}\n", f"* [`{name}`](#visionops-{name}): {whole}\n", 1)
    title, _, rest = text.partition("\n\n")
    return f"{title}\n\n{_MADE}{_ON_PATH}{rest.rstrip()}\n"


def main() -> None:
    """Write the pages that differ, and name them."""
    for page, text in pages().items():
        if not page.is_file() or page.read_text() != text:
            page.write_text(text)
            print(page.relative_to(ROOT), file=sys.stderr)


if __name__ == "__main__":
    main()
