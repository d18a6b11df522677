"""The process that trains again: the recorded code and packages, this machine, and no state of the caller's.

Its environment is made of what is named here. The code was somebody's, perhaps long ago: of secrets it gets the key
that reads the data.

What is asked of the recorded code, and what that answers; both sides may be of different revisions. In the folder
given to `python -m visionops_assets.reproduction.retrain FOLDER`, format 1: `request.json`, read by the recorded
code; `report.json`, written by it. What was trained lies in `training/`: `weights.safetensors`, and `model.onnx`,
which code from before 2026-12 did not write. On standard output each line is a sentence, or says how far the
training is.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from resources.error_family import Refused
from resources.escaping import is_secret
from resources.lakefs.client import LakeFSResource
from visionops_assets.common.progress import tell
from visionops_assets.training import code_digest
from visionops_assets.training.provenance import Difference, Provenance

REQUEST = "request.json"
REPORT = "report.json"
# An artifact store of its own: weights to start from lie there, so that no hub is asked for them.
KEPT = "artifacts"
TRAINING, WEIGHTS, ONNX = "training", "weights.safetensors", "model.onnx"
# Done, of how much, and in words; code from before 2026-12 writes none.
HOW_FAR = re.compile(r"how far: ([\d.]+) of ([\d.]+): (.+)")
MODULE = "visionops_assets.reproduction.retrain"
# What a process needs to run on this machine, and where libraries keep what they computed or fetched.
_KEPT = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TERM", "TMPDIR", "TEMP", "TMP",
    "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHASHSEED",
    "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONWARNINGS", "XDG_CACHE_HOME", "TORCH_HOME",
    "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE",
)  # fmt: skip
# Settings of what computes.
_KEPT_FAMILIES = (
    "LC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "DNNL_", "ONEDNN_", "CUDA_", "CUBLAS_", "CUDNN_",
    "NCCL_", "PYTORCH_", "TORCH_", "MALLOC_",
)  # fmt: skip
# How another machine is reached, with a proxy's password where it has one.
_WAYS = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
)
# Chosen anew, for the recorded hardware.
_KERNELS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
_HERE = ("localhost", "127.0.0.1", "::1")
_TRACEBACK = "Traceback (most recent call last)"
_CLASS = re.compile(r"[A-Za-z_][\w.]*")


def how_far(doing: str, done: float, of: float) -> str:
    """The line that `HOW_FAR` reads."""
    return f"how far: {done:.4f} of {of:.4f}: {doing}"


class Request(BaseModel):
    """Make the model of `original` again; with `train` false, only look at what it would be made of."""

    model_config = ConfigDict(frozen=True)

    format: Literal["1"] = "1"
    original: Provenance
    train: bool


class Report(BaseModel):
    """What became of a request. Without `trained`, `provenance` has inputs only.

    `missing` is an input that could not be had, and then there is no provenance.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal["1"] = "1"
    provenance: Provenance | None = None
    trained: bool = False
    missing: Difference | None = None


_SHOWN_LINES, _MESSAGE_LINES = 3, 8


class ReproductionFailed(Refused, RuntimeError):
    """A version cannot even be tried: it is not ours, its record was altered, or the training broke off."""


def ask_recorded_code(
    request: Request,
    folder: Path,
    *,
    python: str,
    sources: Path,
    packages: Path | None,
    lakefs: LakeFSResource,
    say: Callable[[str], None],
) -> Report:
    """Let the recorded code carry out a request in `folder`. Raises `ReproductionFailed` with its last words."""
    (folder / REQUEST).write_text(request.model_dump_json(indent=1))
    command = [python, "-m", MODULE, str(folder)]
    # The embedded server is started by this code, not by that of then.
    environment = environment_of(request.original.hardware, sources, packages, lakefs.access(), os.environ)
    environment["VISIONOPS_HOME"] = str(folder / "home")
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            cwd=sources,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                far = HOW_FAR.fullmatch(line.rstrip())
                if far is None:
                    say(line.rstrip())
                else:
                    tell(far[3], float(far[1]), float(far[2]))
        except BaseException:
            process.kill()
            raise
        status = process.wait()
        errors.seek(0)
        said = last_words(errors.read())
    # The report appears whole or not at all. A native library may still abort while Python takes it down.
    if not (folder / REPORT).exists():
        raise ReproductionFailed(
            f"the process that makes the version again stopped with status {status}: {said or 'it said nothing'}"
        )
    return Report.model_validate_json((folder / REPORT).read_text())


def last_words(errors: str) -> str:
    """What a process said last, on one line: of a traceback the message alone, without its class's module."""
    lines = [line for line in errors.splitlines() if line.strip()]
    start = max((number for number, line in enumerate(lines) if line.startswith(_TRACEBACK)), default=None)
    if start is None:
        return " ".join(line.strip() for line in lines[-_SHOWN_LINES:])
    # Frames are indented; the message follows them, of as many lines as its author wrote.
    message = next((at for at in range(start + 1, len(lines)) if not lines[at][0].isspace()), len(lines) - 1)
    said = " ".join(line.strip() for line in lines[message:][:_MESSAGE_LINES])
    named, _, rest = said.partition(": ")
    if not _CLASS.fullmatch(named):
        return said
    # The sentence of an error of our own needs no class; Python's own say little without theirs.
    return rest if "." in named and rest else said


def environment_of(
    recorded_hardware: Mapping[str, str],
    sources: Path,
    packages: Path | None,
    access: tuple[str, str, str],
    present: Mapping[str, str],
) -> dict[str, str]:
    """The environment of the clean process; `access` is address, key and secret of lakeFS."""
    endpoint, key, secret = access
    away = urlsplit(endpoint).hostname not in _HERE
    kept = {
        name: value
        for name, value in present.items()
        if name not in _KERNELS
        and not is_secret(name)
        and (name in _KEPT or name.startswith(_KEPT_FAMILIES) or (away and name.upper() in _WAYS))
    }
    # Foreign model code may lie on the caller's path; this project's must come from `sources`.
    others = [path for path in present.get("PYTHONPATH", "").split(os.pathsep) if path and not _is_ours(path)]
    path = [str(sources), *([str(packages)] if packages is not None else []), *others]
    return {
        **kept,
        "LAKEFS_ENDPOINT": endpoint,
        "LAKEFS_ACCESS_KEY_ID": key,
        "LAKEFS_SECRET_ACCESS_KEY": secret,
        "PYTHONPATH": os.pathsep.join(path),
        **code_digest.kernel_settings(recorded_hardware),
    }


def _is_ours(path: str) -> bool:
    return (Path(path) / "visionops_assets").is_dir()
