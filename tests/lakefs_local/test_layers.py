"""Routes know no SQL, the catalog knows no HTTP, merging is a pure function."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import lakefs_local

ROOT = Path(lakefs_local.__file__).parent
# Each may import those to its right; modules directly under lakefs_local stand beside them.
ORDER = ("pages", "http", "maintenance", "hooks", "catalog", "storage")
SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE FROM|PRAGMA)\b")


def modules(folder: str = "") -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path, ast.parse(path.read_text())


def imported(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_each_layer_imports_lower_ones_only() -> None:
    # The application is where pages join the routes.
    joins = {ROOT / "http" / "app.py"}
    for at, layer in enumerate(ORDER):
        above = {f"lakefs_local.{name}" for name in ORDER[:at]}
        for path, module in modules(layer):
            found = {".".join(name.split(".")[:2]) for name in imported(module)}
            assert path in joins or not found & above, path


def test_routes_and_pages_know_no_sql() -> None:
    for layer in ("http", "pages"):
        for path, module in modules(layer):
            texts = [node.value for node in ast.walk(module) if isinstance(node, ast.Constant)]
            assert not [text for text in texts if isinstance(text, str) and SQL.search(text)], path


def test_the_catalog_and_the_storage_know_no_http() -> None:
    for layer in ("catalog", "storage"):
        for path, module in modules(layer):
            assert not {"http", "starlette", "uvicorn", "urllib"} & {
                name.split(".")[0] for name in imported(module)
            }, path


def test_merging_is_a_pure_function() -> None:
    module = ast.parse((ROOT / "catalog" / "merge.py").read_text())
    ours = {name for name in imported(module) if name.startswith("lakefs_local")}
    assert ours == {"lakefs_local.storage.tree"}
    (compare,) = (node for node in module.body if isinstance(node, ast.FunctionDef))
    assert [argument.arg for argument in compare.args.args] == ["source", "destination", "same"]
