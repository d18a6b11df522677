"""Settings stand in one place: each is declared there, read as the environment then is, and refused by its name."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from edge.images import bounds
from resources import home, settings
from resources.environ import OTHER_SETTINGS
from resources.escaping import is_secret
from resources.settings import GROUPS, VARIABLES
from resources.variables import SettingInvalid, takes, type_of
from tests.test_architecture import ORDER
from tests.test_deploy import READ_BY_LIBRARIES
from visionops.bug_report import is_bug
from visionops.diagnosis.checking import settings_checks
from visionops_assets.dataset.importing.source_files import SourceLimits, source_limits

TOPS = [top for top in ORDER if top != "definitions"]
# What reads variables by names that others give it, or passes all of them on.
READS_ANY = {
    "resources/settings.py": "is the place",
    "resources/variables.py": "reads what is declared there",
    "resources/environ.py": "switches, and settings that stand in files",
    "resources/escaping.py": "knows secrets by the names of variables",
    "visionops/diagnosis/checking.py": "shows others' variables too, such as TMPDIR",
}


def modules() -> Iterator[tuple[str, str]]:
    for top in TOPS:
        for file in sorted((home.ROOT / top).rglob("*.py")):
            yield file.relative_to(home.ROOT).as_posix(), file.read_text()


def reads_of_the_environment(text: str) -> Iterator[str]:
    """The keys by which a module reads `os.environ`, as they are written."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get" | "pop" | "__getitem__"),
                args=[key, *_],
            ):
                yield ast.unparse(key)
            case ast.Call(func=ast.Attribute(attr="getenv"), args=[key, *_]):
                yield ast.unparse(key)
            case ast.Subscript(value=ast.Attribute(attr="environ"), slice=key, ctx=ast.Load()):
                yield ast.unparse(key)
            case ast.Compare(left=key, comparators=[ast.Attribute(attr="environ")]):
                yield ast.unparse(key)


def named(key: str, text: str) -> str:
    """The variable that a key of the environment is; a constant of the module is looked up."""
    constant = re.search(rf"^{re.escape(key)}\b[^=\n]*= (\"\w+\")$", text, re.MULTILINE)
    return (constant[1] if constant else key).strip("\"'")


def test_a_setting_is_read_in_one_place() -> None:
    assert list(
        reads_of_the_environment("os.environ.get(A) or os.environ['B']; os.getenv('C'); 'D' in os.environ")
    )
    found = {
        f"{path} reads {named(key, text)}"
        for path, text in modules()
        if path not in READS_ANY
        for key in reads_of_the_environment(text)
        if named(key, text) in VARIABLES or named(key, text).startswith("VISIONOPS_")
    }
    # Asked before anything is imported that could fail.
    assert found == {"visionops/__main__.py reads VISIONOPS_DEBUG"}


def test_every_variable_of_ours_is_declared_and_every_declared_one_is_read() -> None:
    texts = {path: text for path, text in modules() if path != "resources/settings.py"}
    texts["definitions.py"] = (home.ROOT / "definitions.py").read_text()
    for file in (home.ROOT / "edge").rglob("*.py"):
        texts[str(file)] = file.read_text()
    ours = re.compile(r"""["'](VISIONOPS_[A-Z_]+)["']""")
    # What the clean process of a reproduction is told of its folder is no setting.
    assert {name for text in texts.values() for name in ours.findall(text)} - set(VARIABLES) == set()
    unread = set()
    for group in GROUPS:
        for attribute, field in group.model_fields.items():
            reads = re.compile(rf'"{field.alias}"|\b{group.__name__}\.read\(\)(\.{attribute}\b)')
            users = [text for text in texts.values() if f"{group.__name__}.read()" in text]
            if not any(reads.search(text) for text in texts.values()) and not any(
                re.search(rf"\bgiven\.{attribute}\b|_set\(\)\.{attribute}\b", text) for text in users
            ):
                unread.add(field.alias)
    assert unread <= set(READ_BY_LIBRARIES) | set(OTHER_SETTINGS)


def test_each_is_described_and_secrets_are_secrets_by_type_and_by_name() -> None:
    for name, field in VARIABLES.items():
        assert field.description and not field.description.endswith("."), name
        assert takes(field), name
        hidden = type_of(field) is SecretStr
        if is_secret(name):
            assert hidden, f"{name} is masked by its name: declare it a SecretStr"
        if hidden:
            assert name.startswith("VISIONOPS_") or name in OTHER_SETTINGS, f"{name} cannot stand in a file"


def test_a_variable_is_read_as_it_then_is_and_an_empty_one_is_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path))
    assert home.home() == tmp_path
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "other"))
    assert home.home() == tmp_path / "other"
    monkeypatch.setenv("VISIONOPS_HOME", "")
    assert home.home() == home.ROOT / ".visionops"
    monkeypatch.setenv("VISIONOPS_ACTOR", "  ada ")
    assert settings.People.read().actor == "ada"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("VISIONOPS_CACHE_MIB", "much", "a number of at least 1"),
        ("VISIONOPS_CACHE_MIB", "inf", "a number of at least 1"),
        ("VISIONOPS_CACHE_MIB", "nan", "a number of at least 1"),
        ("VISIONOPS_CACHE_MIB", "1_0", "a number of at least 1"),
        ("VISIONOPS_SOURCE_DEPTH", "1_0", "a whole number from 1 to 300"),
        ("VISIONOPS_IMAGE_SECONDS", "1_0", "a number of at least 0.01"),
        ("VISIONOPS_CACHE_KEEPS", "both", "'decoded' or 'encoded'"),
        ("VISIONOPS_SOURCE_DEPTH", "301", "a whole number from 1 to 300"),
        ("VISIONOPS_SOURCE_TABLE_MIB", "1.5", "a whole number of at least 16"),
    ],
)
def test_a_malformed_value_is_one_line_that_names_variable_value_and_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)
    group = next(each for each in GROUPS if name in each.fields())
    with pytest.raises(SettingInvalid) as refused:
        group.read()
    assert str(refused.value) == f"{name} is '{value}': it takes {expected}"
    # Nothing else stops because of it.
    assert settings.Places.read() is not None
    row = next(check for check in settings_checks() if check.subject == "variables").look()
    assert (row.state, row.what) == ("broken", str(refused.value))


def test_the_environment_of_nobody_has_no_problem_and_undeclared_names_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert settings.problems() == []
    with pytest.raises(KeyError):
        settings.given("VISIONOPS_HOMES")


def test_a_secret_is_in_no_text_of_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hunter2-hunter2"
    for name, field in VARIABLES.items():
        if type_of(field) is SecretStr:
            monkeypatch.setenv(name, secret)
    for group in GROUPS:
        found = group.read()
        assert secret not in f"{found!r} {found} {found.model_dump()} {found.model_dump_json()}"


def test_bounds_are_those_of_the_code_that_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    source_limits.cache_clear()
    assert source_limits() == SourceLimits()
    given = settings.ImageBounds.read()
    limits = bounds.ImageLimits()
    assert (given.mib, given.seconds, given.scans) == (limits.memory >> 20, limits.seconds, limits.scans)
    assert (given.frames, given.directories) == (limits.frames, limits.directories)


@pytest.mark.parametrize(
    "value", ["x", "0", "-1", "nan", "inf", "1e9", "0.5", "1", "256.7", " 3 ", "1e3", ""]
)
@pytest.mark.parametrize("name", list(settings.ImageBounds.fields()))
def test_what_a_device_takes_for_an_images_bound_is_what_is_declared(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """The agent has no pydantic and reads its own: no value is good for the one and bad for the other."""
    for other in settings.ImageBounds.fields():
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    said = []
    for read in (
        settings.ImageBounds.read,
        bounds.image_limits.__wrapped__,
        bounds.image_workers.__wrapped__,
    ):
        try:
            read()
        except ValueError as error:
            said.append(str(error))
            assert not is_bug(error)
    assert len(said) in (0, 2)
    assert len(set(said)) <= 1


def test_reading_settings_loads_no_tool_and_no_version_needs_pydantic() -> None:
    code = "import sys, resources.settings; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=home.ROOT, check=True
    )
    assert not {"dagster", "mlflow", "numpy", "boto3", "torch"} & set(loaded.stdout.split())
    code = "import sys, resources, resources.home, resources.environ; print(*sys.modules)"
    light = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=home.ROOT, check=True
    )
    assert "pydantic" not in light.stdout.split()
