"""The code digest follows what computes and nothing else; an uncommitted change can be put back."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

from resources.home import ROOT
from tests.test_architecture import imports
from visionops_assets.training import code_digest as code
from visionops_assets.training.errors import ModelError

DEFAULT = "visionops_assets.training.models.SmallConvNet"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the layout that the digest reads, the decoder's modules as they are imported."""
    own = tmp_path / "visionops_assets"
    for stage, name in (("dataset", "rows.py"), ("training", "train.py"), ("training", "code_digest.py")):
        (own / stage).mkdir(parents=True, exist_ok=True)
        (own / stage / name).write_text(f"# {name}\n")
    (own / "dataset" / "rows.py").write_text("from edge.images.decode import decode\n\nROWS = 1\n")
    shutil.copytree(ROOT / "edge", tmp_path / "edge", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "__file__", str(own / "training" / "code_digest.py"))
    return own


def imported(module: str, found: set[str]) -> set[str]:
    """The modules of `edge` that one of them leads to, read as Python reads them."""
    if module not in found:
        found.add(module)
        for name, _ in imports(ast.parse((ROOT / "edge" / f"{module}.py").read_text())):
            parts = name.split(".")
            if parts[0] == "edge" and len(parts) > 1 and (ROOT / "edge" / f"{parts[1]}.py").is_file():
                imported(parts[1], found)
    return found


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


@pytest.mark.parametrize("changed", ["dataset/rows.py", "training/train.py", "training/new.py"])
def test_a_changed_or_added_source_changes_the_digest(changed: str, package: Path) -> None:
    before = code.code_digest(DEFAULT)
    (package / changed).write_text("other = 1\n")
    assert code.code_digest(DEFAULT) != before


@pytest.mark.parametrize(
    "changed", ["training/assets.py", "dataset/checks.py", "README.md", "training/notes.md"]
)
def test_a_shell_or_a_text_does_not_change_the_digest(changed: str, package: Path) -> None:
    before = code.code_digest(DEFAULT)
    (package / changed).write_text("other\n")
    assert code.code_digest(DEFAULT) == before


def test_what_is_taken_from_edge_changes_the_digest_and_nothing_else_of_it(package: Path) -> None:
    edge = package.parent / "edge"
    # The worker is named only in the code that its process is started with.
    taken = imported("decode", set()) | imported("decode_worker", set())
    assert {"decode", "png", "image_header", "image_limits", "pillow_images", "decode_pool"} <= taken
    assert not {"agent", "states", "trust", "model", "runner", "__main__"} & taken
    before = code.code_digest(DEFAULT)
    for file in edge.glob("*.py"):
        content = file.read_bytes()
        file.write_bytes(content + b"\n")
        assert (code.code_digest(DEFAULT) != before) == (file.stem in taken), file.name
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
def test_however_a_module_of_edge_is_imported_it_counts(line: str, package: Path) -> None:
    (package / "training" / "new.py").write_text(line)
    before = code.code_digest(DEFAULT)
    (package.parent / "edge" / "files.py").write_text("other = 1\n")
    assert code.code_digest(DEFAULT) != before


def test_training_and_data_take_only_what_the_digest_covers_of_edge() -> None:
    """Of this checkout: every module of `edge` that an import of these stages leads to, is covered."""
    taken: set[str] = set()
    for stage in ("dataset", "training"):
        for file in (ROOT / "visionops_assets" / stage).glob("*.py"):
            for name, _ in imports(ast.parse(file.read_text())):
                parts = name.split(".")
                if parts[0] == "edge" and len(parts) > 1 and (ROOT / "edge" / f"{parts[1]}.py").is_file():
                    imported(parts[1], taken)
    sources = [
        file.read_bytes()
        for stage in ("dataset", "training")
        for file in (ROOT / "visionops_assets" / stage).glob("*.py")
    ]
    covered = {Path(name).stem for name in code._of_edge(ROOT / "edge", sources)}
    assert "decode" in taken and taken <= covered


def test_a_renamed_source_changes_the_digest(package: Path) -> None:
    before = code.code_digest(DEFAULT)
    (package / "training" / "train.py").rename(package / "training" / "fit.py")
    assert code.code_digest(DEFAULT) != before


def test_the_module_of_a_foreign_model_counts(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    model = tmp_path / "someones_model.py"
    model.write_text("width = 1\n")
    before = code.code_digest("someones_model.Net")
    model.write_text("width = 2\n")
    assert code.code_digest("someones_model.Net") != before


def test_a_model_whose_module_is_absent_is_named() -> None:
    with pytest.raises(ModelError, match="cannot find module 'no_such_module'"):
        code.code_digest("no_such_module.Net")


def test_a_clean_checkout_has_a_revision_and_no_change(checkout: Path) -> None:
    state = code.code_state(checkout)
    assert state is not None
    assert state.revision == git(checkout, "rev-parse", "HEAD").strip()
    assert state.uncommitted == "" and state.uncommitted_sha256 is None


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
