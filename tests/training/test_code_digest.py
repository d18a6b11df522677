"""The code digest follows what computes and nothing else; an uncommitted change can be put back."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

from resources.home import ROOT
from tests.test_architecture import imports
from visionops_assets.common.errors import ModelError
from visionops_assets.config.recipe import ModelSpec
from visionops_assets.tasks.task_registry import CLASSIFICATION, names
from visionops_assets.training import code_digest as code

DEFAULT = "visionops_assets.training.models.SmallConvNet"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout


def modules() -> list[str]:
    """Every module of ours that could be followed, by name."""
    return [
        file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for top in ("visionops_assets", "edge")
        for file in sorted((ROOT / top).rglob("*.py"))
    ]


def training_imports(task: str) -> set[str]:
    """The modules that training leads to, read as Python reads them; workers by the code they are started with."""
    known, found = set(modules()), set[str]()
    waiting = ["visionops_assets.training.train", "visionops_assets.training.recording"]
    waiting += [f"visionops_assets.training.{task}", "edge.images.decode_worker"]
    while waiting:
        module = waiting.pop()
        if module in found or module not in known or module == "visionops_assets.config.project":
            continue
        found.add(module)
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
        waiting += [name for name, _ in imports(tree)]
    return found


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources that the digest may read."""
    for top in ("visionops_assets", "edge"):
        shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "__file__", str(tmp_path / "visionops_assets" / "training" / "code_digest.py"))
    return tmp_path / "visionops_assets"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "model.py").write_text("width = 1\n")
    (folder / "naïve.py").write_bytes("name = 'é'\n".encode("latin-1"))
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("task", names())
def test_a_byte_of_what_training_imports_changes_the_digest_and_one_of_nothing_else(
    task: str, package: Path
) -> None:
    taken = training_imports(task)
    others = {f"visionops_assets.training.{other}" for other in names() if other != task}
    assert f"visionops_assets.training.{task}" in taken and not others & taken
    assert {"visionops_assets.dataset.cache.segments", "visionops_assets.config.recipe"} <= taken
    assert {"edge.images.png", "edge.images.decode_worker", "visionops_assets.training.models"} <= taken
    assert not {"visionops_assets.training.assets", "visionops_assets.evaluation.gate", "edge.agent"} & taken
    before = code.code_digest(DEFAULT, task)
    for module in modules():
        file = package.parent / f"{module.replace('.', '/')}.py"
        content = file.read_bytes()
        file.write_bytes(content + b"\n")
        assert (code.code_digest(DEFAULT, task) != before) == (module in taken), module
        file.write_bytes(content)


@pytest.mark.parametrize(
    "line",
    [
        "from edge import files as kept\n",
        "from edge import (\n    states,\n    files,\n)\n",
        "import edge.files as kept\n",
        "    from edge.files import Files\n",
        "code = f'from edge.files import Files; Files({1})'\n",
    ],
)
def test_however_a_module_is_imported_it_counts(line: str, package: Path) -> None:
    with (package / "training" / "train.py").open("a") as file:
        file.write(line)
    before = code.code_digest(DEFAULT, CLASSIFICATION)
    (package.parent / "edge" / "files.py").write_text("other = 1\n")
    assert code.code_digest(DEFAULT, CLASSIFICATION) != before


def test_the_module_of_a_foreign_model_counts(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    model = tmp_path / "someones_model.py"
    model.write_text("width = 1\n")
    before = code.code_digest("someones_model.Net", CLASSIFICATION)
    model.write_text("width = 2\n")
    assert code.code_digest("someones_model.Net", CLASSIFICATION) != before


@pytest.mark.parametrize("path", ["their_package.Net", "their_package.nets.wide.Net"])
def test_the_folder_of_a_foreign_model_and_those_below_it_count(
    path: str, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    nets = tmp_path / "their_package" / "nets"
    (nets / "blocks").mkdir(parents=True)
    for file in ("__init__.py", "nets/__init__.py", "nets/wide.py", "nets/blocks/attention.py"):
        (tmp_path / "their_package" / file).write_text("width = 1\n")
    before = code.code_digest(path, CLASSIFICATION)
    (nets / "blocks" / "attention.py").write_text("width = 2\n")
    assert code.code_digest(path, CLASSIFICATION) != before


def test_the_adapter_of_a_named_model_counts(package: Path) -> None:
    path = ModelSpec(name="timm/resnet18").class_path
    before, default = code.code_digest(path, CLASSIFICATION), code.code_digest(DEFAULT, CLASSIFICATION)
    with (package / "training" / "catalogue" / "timm_classifier.py").open("a") as file:
        file.write("other = 1\n")
    assert code.code_digest(path, CLASSIFICATION) != before
    assert code.code_digest(DEFAULT, CLASSIFICATION) == default


def test_a_model_whose_module_is_absent_is_named() -> None:
    with pytest.raises(ModelError, match="cannot find module 'no_such_module'"):
        code.code_digest("no_such_module.Net", CLASSIFICATION)


def test_a_clean_checkout_has_a_revision_and_no_change(checkout: Path) -> None:
    state = code.code_state(checkout)
    assert state is not None
    assert state.revision == git(checkout, "rev-parse", "HEAD").strip()
    assert state.uncommitted == "" and state.uncommitted_sha256 is None


def test_project_files_are_no_change_of_the_code(checkout: Path) -> None:
    folder = checkout / "projects"
    folder.mkdir(exist_ok=True)
    (folder / "own_parts.yaml").write_text("project: own_parts")
    state = code.code_state(checkout)
    assert state is not None and state.uncommitted == ""


def test_an_uncommitted_change_is_kept_whole_and_applies(checkout: Path, tmp_path: Path) -> None:
    (checkout / "model.py").write_text("width = 2\n")
    (checkout / "naïve.py").write_bytes("name = 'è'\n".encode("latin-1"))
    (checkout / "added.py").write_text("new = True\n")
    (checkout / "picture.png").write_bytes(b"\x89PNG not a source")
    before = git(checkout, "status", "--porcelain")
    state = code.code_state(checkout)
    assert state is not None and state.uncommitted_sha256 is not None
    assert git(checkout, "status", "--porcelain") == before

    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(checkout), str(other))
    patch = tmp_path / "change.patch"
    patch.write_text(state.uncommitted, encoding="utf-8", errors="surrogateescape")
    git(other, "apply", str(patch))
    for name in ("model.py", "naïve.py", "added.py"):
        assert (other / name).read_bytes() == (checkout / name).read_bytes()
    assert not (other / "picture.png").exists()


def test_a_deleted_source_is_part_of_the_change(checkout: Path) -> None:
    (checkout / "model.py").unlink()
    state = code.code_state(checkout)
    assert state is not None
    assert "deleted file" in state.uncommitted


def test_a_folder_without_git_has_no_state(tmp_path: Path) -> None:
    assert code.code_state(tmp_path) is None
