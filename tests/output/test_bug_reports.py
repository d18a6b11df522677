"""What is ours to say is of one family; what is not is a bug, told as one."""

import importlib
import inspect
import os
import pkgutil
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edge
import resources
import sensors
import visionops
import visionops_assets
from edge import EdgeError
from edge.formats import FormatError
from resources import home
from resources.error_family import Altered, Invalid, NotFound, Refused, Unavailable, VisionOpsError
from resources.escaping import without_secrets
from resources.variables import SettingInvalid
from visionops import bug_report
from visionops.bug_report import EXIT_CODE, is_bug

KINDS = (Refused, Unavailable, NotFound, Invalid, Altered)
# No errors, but what ends something early: they are caught where they are meant, or end the process.
SIGNALS = {"visionops.interruption.Interrupted", "edge.fetch.Paused"}


def modules_of(package: object) -> Iterator[object]:
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):  # type: ignore[attr-defined]
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def errors_of(*packages: object) -> dict[str, type[BaseException]]:
    """All exception classes that the modules define, but those of one module alone (`_Name`)."""
    return {
        f"{each.__module__}.{each.__qualname__}": each
        for package in packages
        for module in modules_of(package)
        for each in vars(module).values()
        if inspect.isclass(each)
        and issubclass(each, BaseException)
        and each.__module__ == module.__name__  # type: ignore[attr-defined]
        and not each.__name__.startswith("_")
    }


def test_every_error_of_the_product_is_of_one_kind_of_the_family():
    found = errors_of(visionops, visionops_assets, resources, sensors)
    assert len(found) > 60
    bases = {
        "resources.lakefs.replies.LakeFSError",
        "resources.models.records.RegistryError",
        "resources.drop_places.DropError",
        "resources.databases.DatabaseError",
        "resources.error_family.VisionOpsError",
    }
    wrong = {
        name: [kind.__name__ for kind in KINDS if issubclass(each, kind)]
        for name, each in found.items()
        if name not in SIGNALS
        and not (
            issubclass(each, VisionOpsError)
            and sum(issubclass(each, kind) for kind in KINDS) == (name not in bases)
        )
    }
    assert wrong == {}


def test_errors_of_a_device_are_of_its_own_family():
    found = errors_of(edge)
    assert len(found) > 10
    assert {name for name, each in found.items() if not issubclass(each, EdgeError)} <= SIGNALS


def test_an_error_keeps_the_builtin_that_callers_know_it_by():
    from resources.lakefs.replies import LakeFSNotFound
    from resources.models.records import RegistryError
    from visionops_assets.config.project import ProjectError
    from visionops_assets.dataset.cache.sample_cache import CacheFull
    from visionops_assets.shells.outputs import NotMade

    for error, builtin in (
        (ProjectError, ValueError),
        (CacheFull, OSError),
        (NotMade, FileNotFoundError),
        (RegistryError, RuntimeError),
        (LakeFSNotFound, RuntimeError),
    ):
        assert issubclass(error, builtin)
    assert str(CacheFull(28, "no room for the samples")) == "[Errno 28] no room for the samples"


@pytest.mark.parametrize(
    ("error", "bug"),
    [
        (KeyError("champion"), True),
        (ValueError("not a number"), True),
        (AssertionError(), True),
        (Refused("not now"), False),
        (FormatError("a document of another format"), False),
        (PermissionError(13, "Permission denied", "/x"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_what_nobody_wrote_a_sentence_for_is_a_bug(error: Exception, bug: bool):
    assert is_bug(error) is bug


def ended(home: Path, error: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = "\n".join(
        [
            "import sys",
            f"sys.argv = ['visionops', 'status', 'shapes', *{list(options)!r}]",
            "import visionops.services",
            "def died(*_):",
            f"    raise {error}",
            "visionops.services.project = died",
            "from visionops.__main__ import main",
            "main()",
        ]
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "VISIONOPS_HOME": str(home), "DAGSTER_HOME": str(home / "dagster"), **environment},
        check=False,
    )


def test_our_own_key_error_is_a_bug_in_one_line_with_its_traceback_in_a_file(tmp_path: Path):
    done = ended(
        tmp_path / "home", "KeyError('champion of s3cr3t-word')", VISIONOPS_SERVE_TOKEN="s3cr3t-word"
    )
    assert (done.returncode, done.stdout) == (EXIT_CODE, "") and EXIT_CODE not in (0, 1, 2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: this is a bug in VisionOps (KeyError: ")
    assert "issue tracker" in line and "Traceback" not in line and "s3cr3t" not in line
    file = Path(re.search(r"attach (\S+)$", line)[1])  # type: ignore[index]
    assert file.parent == tmp_path / "home" / "bugs"
    kept = file.read_text()
    assert "visionops status shapes" in kept and "Traceback (most recent call last)" in kept
    assert "KeyError" in kept and "s3cr3t" not in kept
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_refusal_is_no_bug_and_ends_as_before(tmp_path: Path):
    done = ended(tmp_path / "home", "__import__('resources.error_family').error_family.Refused('not now')")
    assert (done.returncode, done.stderr) == (1, "error: not now\n")
    assert not (tmp_path / "home" / "bugs").exists()


def test_debug_prints_the_traceback_of_a_bug_and_keeps_no_file(tmp_path: Path):
    done = ended(tmp_path / "home", "KeyError('champion')", "--debug")
    assert done.returncode == EXIT_CODE
    assert done.stderr.startswith("Traceback") and "KeyError: 'champion'" in done.stderr
    assert not (tmp_path / "home" / "bugs").exists()


def test_where_the_home_cannot_be_written_the_traceback_goes_to_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    blocked = tmp_path / "home"
    blocked.mkdir()
    # A file where the folder would be: what a privileged user cannot write either.
    (blocked / bug_report.FOLDER).write_text("")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("VISIONOPS_HOME", str(blocked))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    said = bug_report.told(KeyError("champion"), ["status", "shapes"])
    (file,) = temporary.iterdir()
    assert said.endswith(f"attach {file}") and "KeyError" in file.read_text()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert "--debug" in bug_report.told(KeyError("champion"), [])
    assert without_secrets(said) == said


def test_where_nothing_can_be_written_or_the_home_is_nobodys_a_bug_is_still_told(
    monkeypatch: pytest.MonkeyPatch,
):
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setenv("VISIONOPS_HOME", "~nobody-of-that-name/home")
    monkeypatch.setattr("tempfile.gettempdir", none)
    assert "--debug" in bug_report.told(KeyError("champion"), ["status", "shapes"])


@pytest.mark.parametrize(
    ("variable", "ask"),
    [
        ("VISIONOPS_HOME", home.home),
        ("VISIONOPS_PROJECTS", home.projects_folder),
        ("DAGSTER_HOME", home.dagster_home),
    ],
)
def test_a_folder_of_a_user_that_is_not_there_is_a_setting_that_is_wrong(
    variable: str, ask: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(variable, "~nobody-of-that-name/x")
    with pytest.raises(SettingInvalid, match=f"{variable} is '~nobody-of-that-name/x'") as raised:
        ask()
    assert not is_bug(raised.value)
