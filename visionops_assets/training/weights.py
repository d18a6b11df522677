"""Weights as safetensors. The SHA-256 of the file is the model's identity, so equal weights give equal files."""

import hashlib
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from visionops_assets.training.errors import WeightsError

# Makes a safetensors file of a PyTorch file's tensors. Of a checkpoint its `state_dict`; no code in it is run.
TO_SAFETENSORS = (
    'python -c "import torch; from safetensors.torch import save_file; '
    "found = torch.load('start.pt', map_location='cpu', weights_only=True); found = found.get('state_dict', found); "
    "save_file({name: found[name].clone().contiguous() for name in found}, 'start.safetensors')\""
)
_HEAD = 512
# Of pickles that begin with their protocol, as all since 2003 do.
_PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")


def save_weights(module: nn.Module, path: Path) -> str:
    """Write all parameters and buffers of a module, atomically, and return the file's SHA-256 (hex).

    Raises WeightsError where a value is not finite: such a model must not become anything's champion.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"weights of {name!r} are not finite; nothing was written to {path.name}")
        # One memory layout and no sharing: bytes follow from values alone.
        tensors[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    content = save_tensors(tensors)
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Return the tensors of a weights file whose digest is known.

    Raises WeightsError where the file is missing, altered, or no safetensors file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"weights {path} cannot be read: {error.strerror}") from error
    return tensors_in(content, sha256, str(path))


def tensors_in(content: bytes, sha256: str, name: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file's bytes, which `name` names for the message. Raises WeightsError."""
    if (kind := _foreign(content)) is not None:
        raise WeightsError(f"weights {name} are {kind}")
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise WeightsError(
            f"weights {name} were altered: SHA-256 is {found}, expected {sha256}; not loaded. "
            "Restore the file from its MLflow run, or reproduce the version"
        )
    try:
        return load_tensors(content)
    except SafetensorError as error:
        raise WeightsError(f"weights {name} are no safetensors file: {error}") from error


def start_from(model: nn.Module, path: Path, sha256: str) -> tuple[list[str], list[str]]:
    """Load what fits by name and shape into a fresh model; return the names loaded and those left as they were.

    A head for other classes stays fresh. Raises WeightsError as `read_weights` does, and where nothing fits.
    """
    own = model.state_dict()
    given = read_weights(path, sha256)
    fitting = {
        name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape
    }
    if not fitting:
        raise WeightsError(
            f"model.init_weights {path.name}: no tensor fits {type(model).__name__} by name and shape; "
            f"it has {', '.join(sorted(own)[:3])}, the file has {', '.join(sorted(given)[:3])}"
        )
    model.load_state_dict(fitting, strict=False)
    return sorted(fitting), sorted(set(own) - set(fitting))


def _foreign(content: bytes) -> str | None:
    """What a file of weights is by its first bytes, where that is known and no safetensors, and what to do."""
    is_zip, is_pickle = (
        content.startswith(b"PK\x03\x04"),
        content[:1] == b"\x80" and content[1:2] in _PROTOCOLS,
    )
    if is_pickle or (is_zip and b"data.pkl" in content[:_HEAD]):
        return (
            "a PyTorch file (.pt, .pth), which is a pickle: loading one runs what code it holds, so it is never opened "
            f"here. Convert it once, where you trust it, as `{TO_SAFETENSORS}`, and name the new file with its SHA-256"
        )
    if is_zip:
        return "a zip archive: unpack it and name the safetensors file in it"
    if content.startswith(b"\x89HDF\r\n"):
        return "an HDF5 file, as Keras writes: name a safetensors file of this model's tensors"
    if content.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file: `git lfs pull` fetches it"
    if content[:_HEAD].lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "an HTML page, such as a login's: fetch the file itself"
    return None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is either whole or absent, also after a kill or power loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
