"""Which code on which machine makes a model: a digest of the sources that can change the weights, the state of the
checkout, and what the machine can do where it changes the bits.

Light: assets use the digest as their `code_version`, wherever definitions load. torch is imported where it is
asked: which kernels it takes can be chosen only before.
"""

import hashlib
import importlib.util
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from visionops_assets.common.errors import ModelError
from visionops_assets.tasks.task_registry import task

ROOT = Path(__file__).resolve().parents[2]
# What fits the weights, and what brings it the samples: every module of ours that these import counts.
_TRAINS = ("visionops_assets.training.train", "visionops_assets.training.recording")
# The clients carry bytes that are held to digests; what the project file says of training is digested as a recipe.
_NOT_FOLLOWED = re.compile(r"resources\b|visionops_assets\.config\.project$")
_OURS = re.compile(r"(visionops_assets|edge)\b")
# A module by its name, or several of a package; also in code that a process is started with.
_IMPORT = re.compile(
    r"\b(?:from|import)\s+((?:visionops_assets|edge)(?:\.\w+)*)(?:\s+import\s+(\([^)]*\)|[^\n;\"']+))?"
)
# Sources that git does not know yet count as uncommitted changes; data and pictures do not.
_SOURCES = ("*.py", "*.yaml", "*.yml", "*.toml", "*.txt", "*.cfg")
# What they say of a model is in its recipe's record: a team's own are often beside the code, and in no commit.
_PROJECT_FILES = ":(exclude,glob)**/projects/*.y*ml"
# oneDNN's names, best first, with the processor flag that each needs last of all.
_ONEDNN_ISA = (
    ("avx512_core_amx", "amx_bf16"),
    ("avx512_core_bf16", "avx512_bf16"),
    ("avx512_core_vnni", "avx512_vnni"),
    ("avx512_core", "avx512bw"),
    ("avx2_vnni", "avx_vnni"),
    ("avx2", "avx2"),
    ("avx", "avx"),
    ("sse41", "sse4_1"),
)


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


def code_digest(model_class_path: str, task_name: str) -> str:
    """Return the SHA-256 (hex) over what trains, its facet of the task, the model class's module, and every module of
    ours that these import, directly or by others. Where that module lies in a package that is not an installed
    distribution's, whose version is recorded, the sources of its folder and of those below it count too.

    Raises ModelError where the module of the model class is not found.
    """
    model = model_class_path.rpartition(".")[0]
    facet = task(task_name).facet_at("training").partition(":")[0]
    digest = hashlib.sha256()
    for name, content in sorted(_imported(model, facet).items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _imported(*asked: str) -> dict[str, bytes]:
    """The sources of what trains, of the modules that are asked for, and of what these import of ours, by path."""
    root = Path(__file__).resolve().parents[2]
    found: dict[str, bytes] = {}
    waiting = {module: _source(root, module) for module in (*_TRAINS, *asked)}
    for module in asked:
        if not waiting[module].is_file():
            waiting[module] = _module_file(module)
        if not _OURS.match(module):
            found |= _beside(module, waiting[module])
    while waiting:
        module, file = waiting.popitem()
        name = f"{module.replace('.', '/')}.py"
        if name in found or _NOT_FOLLOWED.match(module) or not file.is_file():
            continue
        found[name] = file.read_bytes()
        for package, names in _IMPORT.findall(found[name].decode("utf-8", errors="replace")):
            for each in (package, *(f"{package}.{one}" for one in re.findall(r"\w+", names))):
                waiting[each] = _source(root, each)
    return found


def _beside(module: str, file: Path) -> dict[str, bytes]:
    """The sources of a foreign module's folder and of those below it, by path; none of a module in no package."""
    is_package = file.name == "__init__.py"
    if not (is_package or "." in module) or {"site-packages", "dist-packages"} & set(file.parts):
        return {}
    package = module if is_package else module.rpartition(".")[0]
    return {
        f"{package.replace('.', '/')}/{source.relative_to(file.parent).as_posix()}": source.read_bytes()
        for source in file.parent.rglob("*.py")
        if source != file
    }


def _source(root: Path, module: str) -> Path:
    return root / f"{module.replace('.', '/')}.py"


def code_state(root: Path = ROOT) -> CodeState | None:
    """Return revision and uncommitted change of a checkout; None where `root` is in no git checkout.

    The patch includes sources git does not track yet, project files never, and applies with `git apply` on a clean
    worktree of the revision.
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
            "--no-color", "--src-prefix=a/", "--dst-prefix=b/", "HEAD",
            "--", ".", _PROJECT_FILES, environment=own,
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
                f"`git config --global --add safe.directory {root}`, or let its owner run this",
            )
        if "not a git repository" in (error.stderr or ""):
            return f"{root} is no git checkout", "run from a clone of the repository"
        return (
            f"git knows no revision of {root} ({said[0] if said else 'it says nothing'})",
            f"`git -C {root} log`",
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


def fast_bf16() -> bool:
    """Say whether the device that `accelerator="auto"` takes multiplies bfloat16 in hardware."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_capability() >= (8, 0)
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})


def cpu_flags() -> frozenset[str]:
    """Return the instruction sets the processor names, empty where the system does not say."""
    return frozenset((_cpuinfo("flags") or _cpuinfo("Features")).split())


def onednn_isa() -> str:
    """Return the best instruction set that oneDNN knows for this processor's flags."""
    return next((name for name, flag in _ONEDNN_ISA if flag in cpu_flags()), "unknown")


def kernel_settings(recorded: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which this machine takes the kernels of a machine as `describe` told it.

    Only what this machine could do too is asked for: it never pretends to be a better one.
    """
    settings = {}
    capability = recorded.get("aten_cpu_capability", "").lower()
    if capability == "default" or (capability == "avx2" and "avx2" in cpu_flags()):
        settings["ATEN_CPU_CAPABILITY"] = capability
    isa = recorded.get("onednn_isa", "")
    if isa != onednn_isa() and any(isa == name and flag in cpu_flags() for name, flag in _ONEDNN_ISA):
        settings["ONEDNN_MAX_CPU_ISA"] = isa.upper()
    if recorded.get("device") == "cpu":
        settings["CUDA_VISIBLE_DEVICES"] = ""
    return settings


def describe_machine() -> dict[str, str]:
    """Return what a reproduction compares: machine, processor, device, and the kernels chosen for them.

    `onednn_isa` is the best set that oneDNN picks for the processor's flags, or what ONEDNN_MAX_CPU_ISA asks for.
    """
    import torch

    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": _cpuinfo("model name") or platform.processor() or "unknown",
        "aten_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "onednn_isa": os.environ.get("ONEDNN_MAX_CPU_ISA", onednn_isa()).lower(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


@cache
def _cpuinfo(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == field), "")
