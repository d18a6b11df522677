"""The two files of a model: weights as safetensors, and the ONNX file that ships with the proof that it says what
the trained model says.

The SHA-256 of the weights file is the model's identity, so equal weights give equal files.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from visionops_assets.common.errors import ExportError, WeightsError
from visionops_assets.training.batches import LabelledImages
from visionops_assets.training.determinism import deterministic_session, quiet
from visionops_assets.training.models import Shipped, evaluating, largest_difference

# Makes a safetensors file of a PyTorch file's tensors. Of a checkpoint its `state_dict`; no code in it is run.
TO_SAFETENSORS = (
    'python -c "import torch; from safetensors.torch import save_file; '
    "found = torch.load('start.pt', map_location='cpu', weights_only=True); found = found.get('state_dict', found); "
    "save_file({name: found[name].clone().contiguous() for name in found}, 'start.safetensors')\""
)
_HEAD = 512
# Of pickles that begin with their protocol, as all since 2003 do.
_PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")
ONNX_FORMAT = "1"
OPSET = 20
# Where the first, the next two, the next five and the rest of the images compared begin.
_FIRST_STARTS = (0, 1, 3, 8)
# Of which a network computes some hundred megabytes.
_PIXELS_AT_ONCE = 1 << 22


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


@dataclass(frozen=True)
class ParityReport:
    """How far the ONNX file is from the torch model on golden images.

    `agreement` is the share of images with the same first class. Within the tolerance only a tie can differ.
    `compared` says what differs: probabilities, or scores and boxes (these as a share of the image's side). Where the
    runtime could not run the file, `failure` says why, and differences are infinite.
    """

    images: int
    tolerance: float
    largest_difference: float
    largest_embedding_difference: float
    agreement: float
    compared: str = "probabilities"
    failure: str | None = None

    @property
    def passed(self) -> bool:
        return self.failure is None and self.largest_difference <= self.tolerance

    @property
    def summary(self) -> str:
        """The result in words."""
        if self.failure is not None:
            return f"ONNX Runtime cannot run the ONNX file: {self.failure}"
        verdict = "agrees with" if self.passed else "DIFFERS from"
        return (
            f"the ONNX file {verdict} the trained model on {self.images} images: {self.compared} differ by at most "
            f"{self.largest_difference:.2g} (allowed {self.tolerance:.2g}), "
            f"the first class is the same on {self.agreement:.1%}"
        )


def export_onnx(shipped: Shipped, path: Path, min_score: float | None = None) -> str:
    """Write what ships and return the file's SHA-256 (hex). `min_score` is from where a detector's boxes are meant.

    Input `images` uint8 [N, H, W, C] at the recipe's size; outputs by task, N free: `probabilities` float32
    [N, classes], or `boxes` float32 [N, K, 4] (left, top, width, height in pixels of the input), `scores` float32
    [N, K] and `labels` int64 [N, K]; then `embedding` float32 [N, D]. Metadata: `visionops.task`,
    `visionops.classes` (JSON list), `visionops.input` (JSON: height, width, channels, resize), `visionops.format`, and
    `visionops.min_score` where it is known.
    Equal weights give equal bytes under equal versions of torch and onnxscript: names and places of the exporting
    code are removed.

    Raises ExportError where torch cannot express the model as ONNX, or not for any number of images.
    """
    spec = shipped.input
    example = torch.zeros(2, spec.height, spec.width, spec.channels, dtype=torch.uint8)
    # Training leaves weights channels_last, loading does not, and the exporter names some operations after it.
    cast(Any, shipped).to(memory_format=torch.contiguous_format)
    # One thread: the exporter only traces, and constants it folds must not depend on the machine.
    with quiet(), deterministic_session(seed=0, threads=1), evaluating(shipped):
        try:
            program = torch.onnx.export(
                shipped,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=list(shipped.outputs),
                dynamic_shapes=({0: torch.export.Dim("N")},),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(
                f"{type(shipped.model).__name__} cannot be written as ONNX: {_first_line(error)}. Use operations "
                "that torch.export traces, without Python branches on tensor values, for any number of images"
            ) from error
        assert program is not None
        model = program.model_proto
    _refuse_fixed_number_of_images(model, type(shipped.model).__name__)
    _remove_traces_of_the_exporter(model)
    described = {
        "visionops.task": shipped.task,
        "visionops.classes": json.dumps(list(shipped.classes), ensure_ascii=False),
        "visionops.input": json.dumps(spec.model_dump(include={"height", "width", "channels", "resize"})),
        "visionops.format": ONNX_FORMAT,
        **({} if min_score is None else {"visionops.min_score": f"{min_score:g}"}),
    }
    for key in sorted(described):
        model.metadata_props.add(key=key, value=described[key])
    onnx.checker.check_model(model)
    content = model.SerializeToString(deterministic=True)
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def golden_images(images: LabelledImages, count: int = 62) -> NDArray[np.uint8]:
    """Return images spread evenly over a split, and a black and a white one; uint8 [at most count + 2, H, W, C]."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64))
    pixels = images.source.gather(images.rows[chosen])
    return np.concatenate([pixels, np.zeros_like(pixels[:1]), np.full_like(pixels[:1], 255)])


def parity(path: Path, shipped: Shipped, images: NDArray[np.uint8], tolerance: float = 1e-4) -> ParityReport:
    """Compare the ONNX file with the torch model on images uint8 [N, H, W, C], N at least 2.

    Both run the first image alone, then two, five, and the rest together, or of large ones four at a time, so that a
    number of images fixed in the graph shows. What the runtime raises is a report that did not pass.
    """
    differences, embedding_differences, same = [0.0], [0.0], 0
    with evaluating(shipped):
        together = max(4, _PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
        starts = [*(start for start in _FIRST_STARTS if start < len(images))]
        starts += range(_FIRST_STARTS[-1] + together, len(images), together)
        session = None
        for start, end in zip(starts, [*starts[1:], len(images)], strict=True):
            part = images[start:end]
            expected = [tensor.numpy() for tensor in shipped(torch.from_numpy(part))]
            try:
                session = session or _session(path)
                found = session.run(list(shipped.outputs), {"images": part})
            except Exception as error:  # ONNX Runtime's errors share no other base.
                infinite = float("inf")
                failure = f"{len(part)} image(s) together: {_first_line(error)}"
                return ParityReport(
                    len(images), tolerance, infinite, infinite, 0.0, shipped.compared, failure
                )
            difference, agreeing = shipped.differences(found, expected)
            differences.append(difference)
            embedding_differences.append(largest_difference(found[-1], expected[-1]))
            same += agreeing
    return ParityReport(
        len(images),
        tolerance,
        max(differences),
        max(embedding_differences),
        same / len(images),
        shipped.compared,
    )


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _refuse_fixed_number_of_images(model: onnx.ModelProto, name: str) -> None:
    """The exporter falls back to the example's number of images without a word."""
    (images,) = model.graph.input
    fixed = [images] if not images.type.tensor_type.shape.dim[0].dim_param else []
    fixed += [each for each in model.graph.output if each.type.tensor_type.shape.dim[0].HasField("dim_value")]
    if fixed:
        raise ExportError(
            f"{name} cannot be written as ONNX for any number of images: that of the example became a constant in "
            f"{', '.join(each.name for each in fixed)}. Take it from `images.shape[0]`, never by `len` or as a number"
        )


def _remove_traces_of_the_exporter(model: onnx.ModelProto) -> None:
    """Drop doc strings and metadata: they hold paths and stack traces, and nothing that is computed."""
    del model.metadata_props[:]
    model.doc_string = ""
    graph = model.graph
    parts: list[Iterable[Any]] = [
        [graph],
        graph.node,
        graph.input,
        graph.output,
        graph.value_info,
        graph.initializer,
        model.functions,
    ]
    parts += [function.node for function in model.functions]
    for part in parts:
        for item in part:
            item.doc_string = ""
            del item.metadata_props[:]


def _first_line(error: Exception) -> str:
    return str(error.__cause__ or error).strip().splitlines()[0]
