"""Which code made a model: a digest of the sources that can change the weights, and the state of the checkout.

Light: assets use the digest as their `code_version`, wherever definitions load.
"""

import hashlib
import importlib.util
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from visionops_assets.training.errors import ModelError

ROOT = Path(__file__).resolve().parents[2]
_STAGES = ("dataset", "training")
_SHELLS = ("assets.py", "checks.py")
# One module by its name, or several of the package.
_FROM_EDGE = re.compile(rb"\b(?:from|import)\s+edge\.(\w+)|\bfrom\s+edge\s+import\s+(\([^)]*\)|[^\n;\"']+)")
# Sources that git does not know yet count as uncommitted changes; data and pictures do not.
_SOURCES = ("*.py", "*.yaml", "*.yml", "*.toml", "*.txt", "*.cfg")


@dataclass(frozen=True)
class CodeState:
    """The checkout a process runs from: full revision, and the change against it as a patch (empty when clean)."""

    revision: str
    uncommitted: str

    @property
    def uncommitted_sha256(self) -> str | None:
        """Digest of the patch, None when there is none."""
        content = self.uncommitted.encode(errors="surrogateescape")
        return hashlib.sha256(content).hexdigest() if content else None


def code_digest(model_class_path: str) -> str:
    """Return the SHA-256 (hex) over the pure modules of `dataset` and `training`, the model class's module, and what
    these take from `edge`, the decoder above all.

    The shells (assets, checks) are left out: they arrange, they do not compute. Raises ModelError where the
    module is not found.
    """
    package = Path(__file__).resolve().parents[1]
    sources = {
        f"visionops_assets/{stage}/{file.name}": file
        for stage in _STAGES
        for file in (package / stage).glob("*.py")
        if file.name not in _SHELLS
    }
    module = model_class_path.rpartition(".")[0]
    sources.setdefault(f"{module.replace('.', '/')}.py", _module_file(module))
    contents = {name: file.read_bytes() for name, file in sources.items()}
    contents |= _of_edge(package.parent / "edge", contents.values())
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _of_edge(folder: Path, sources: Iterable[bytes]) -> dict[str, bytes]:
    """The modules of `edge` that sources import, and that those import, by path; also in code that a process is
    started with."""
    found: dict[str, bytes] = {}
    waiting = list(sources)
    while waiting:
        for one, several in _FROM_EDGE.findall(waiting.pop()):
            for module in re.findall(rb"\w+", one or several):
                name = f"edge/{module.decode()}.py"
                file = folder / f"{module.decode()}.py"
                if name not in found and file.is_file():
                    found[name] = file.read_bytes()
                    waiting.append(found[name])
    return found


def code_state(root: Path = ROOT) -> CodeState | None:
    """Return revision and uncommitted change of a checkout; None where `root` is in no git checkout.

    The patch includes sources git does not track yet, and applies with `git apply` on a clean worktree of the
    revision.
    """
    try:
        revision = git(root, "rev-parse", "HEAD").strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    top = Path(git(root, "rev-parse", "--show-toplevel").strip())
    untracked = git(top, "ls-files", "-z", "--others", "--exclude-standard", "--", *_SOURCES).split("\0")
    with tempfile.TemporaryDirectory() as scratch:
        # A throw-away index and object folder: the user's staging area and repository stay as they are.
        objects = git(top, "rev-parse", "--path-format=absolute", "--git-path", "objects").strip()
        own = {
            "GIT_INDEX_FILE": f"{scratch}/index",
            "GIT_OBJECT_DIRECTORY": scratch,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects,
        }
        git(top, "read-tree", "HEAD", environment=own)
        git(top, "add", "--update", environment=own)
        git(top, "add", "--pathspec-from-file=-", "--pathspec-file-nul", environment=own, given=untracked)
        patch = git(
            top, "diff", "--cached", "--binary", "--full-index", "--no-ext-diff", "--no-textconv",
            "--no-color", "--src-prefix=a/", "--dst-prefix=b/", "HEAD", environment=own,
        )  # fmt: skip
    return CodeState(revision, patch)


def why_no_revision(root: Path = ROOT) -> tuple[str, str] | None:
    """Why models that are trained from here record no revision, and what mends it; None where they do."""
    try:
        git(root, "rev-parse", "HEAD")
    except OSError as error:
        return f"git cannot be run ({error.strerror or error})", "install git"
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines()
        if "dubious ownership" in (error.stderr or ""):
            return (
                f"git refuses {root}, which belongs to another user",
                f"git config --global --add safe.directory {root}, or let its owner run this",
            )
        if "not a git repository" in (error.stderr or ""):
            return f"{root} is no git checkout", "run from a clone of the repository"
        return (
            f"git knows no revision of {root} ({said[0] if said else 'it says nothing'})",
            f"git -C {root} log",
        )
    return None


def git(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None, given: list[str] | None = None
) -> str:
    """Run git in a folder and return what it prints; raises OSError or CalledProcessError."""
    # surrogateescape carries sources in another encoding through unharmed.
    return subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env={**os.environ, **(environment or {})},
        input="\0".join(given or []),
        capture_output=True,
        check=True,
        encoding="utf-8",
        errors="surrogateescape",
    ).stdout


def _module_file(module: str) -> Path:
    try:
        found = importlib.util.find_spec(module)
    except ImportError as error:
        raise ModelError(f"model.class_path: cannot find module {module!r} ({error})") from error
    if found is None or found.origin is None or not Path(found.origin).is_file():
        raise ModelError(f"model.class_path: cannot find module {module!r}; is its folder on PYTHONPATH?")
    return Path(found.origin)
