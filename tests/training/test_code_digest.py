"""The code digest follows what computes and nothing else; an uncommitted change can be put back."""

import subprocess
from pathlib import Path

import pytest

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
    """A copy of the layout that the digest reads."""
    for stage, name in (("dataset", "decode.py"), ("training", "train.py"), ("training", "code_digest.py")):
        (tmp_path / stage).mkdir(exist_ok=True)
        (tmp_path / stage / name).write_text(f"# {name}\n")
    monkeypatch.setattr(code, "__file__", str(tmp_path / "training" / "code_digest.py"))
    return tmp_path


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


@pytest.mark.parametrize("changed", ["dataset/decode.py", "training/train.py", "training/new.py"])
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
