"""The ONNX file that ships, and the proof that it says what the trained model says."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from visionops_assets.training.batches import LabelledImages
from visionops_assets.training.determinism import deterministic_session, quiet
from visionops_assets.training.errors import ExportError
from visionops_assets.training.protocol import Shipped, evaluating, largest_difference
from visionops_assets.training.weights import write_atomically

FORMAT = "1"
OPSET = 20
# Of which a network computes some hundred megabytes.
_PIXELS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class ParityReport:
    """How far the ONNX file is from the torch model on golden images.

    `agreement` is the share of images with the same first class. Within the tolerance only a tie can differ.
    `compared` says what differs: probabilities, or scores and boxes (these as a share of the image's side).
    """

    images: int
    tolerance: float
    largest_difference: float
    largest_embedding_difference: float
    agreement: float
    compared: str = "probabilities"

    @property
    def passed(self) -> bool:
        return self.largest_difference <= self.tolerance

    @property
    def summary(self) -> str:
        """The result in words."""
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

    Raises ExportError where torch cannot express the model as ONNX.
    """
    spec = shipped.input
    example = torch.zeros(2, spec.height, spec.width, spec.channels, dtype=torch.uint8)
    # Training leaves weights channels_last, loading does not, and the exporter names some operations after it.
    shipped.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
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
    _remove_traces_of_the_exporter(model)
    described = {
        "visionops.task": shipped.task,
        "visionops.classes": json.dumps(list(shipped.classes), ensure_ascii=False),
        "visionops.input": json.dumps(spec.model_dump(include={"height", "width", "channels", "resize"})),
        "visionops.format": FORMAT,
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

    Both run the first image alone and the rest together, or of large ones four at a time, so that a number of images
    fixed in the graph shows.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    differences, embedding_differences, same = [0.0], [0.0], 0
    with evaluating(shipped):
        together = max(4, _PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
        rest = [images[start : start + together] for start in range(1, len(images), together)]
        for part in (images[:1], *rest):
            expected = [tensor.numpy() for tensor in shipped(torch.from_numpy(part))]
            found = session.run(list(shipped.outputs), {"images": part})
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
