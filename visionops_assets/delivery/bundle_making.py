"""What ships of a registered version: its file, golden answers on images, and a manifest that says what it takes."""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.formats import FORMAT, GOLDEN, MODEL
from edge.machine import MACHINES, RUNTIME_OF_IR, RUNTIME_OF_OPSET
from edge.onnx_model import open_model
from edge.selftest import Golden
from resources.error_family import NotFound
from resources.models.records import TAG_PROVENANCE, ModelVersion
from resources.storage import ArtifactStore
from visionops_assets.config.project import Project
from visionops_assets.dataset.cache.samples import load_samples
from visionops_assets.dataset.versions.dataset_version import named_version

GOLDEN_BYTES = 2_000_000
# Of the process that answers, without the model: Python, numpy, Pillow and ONNX Runtime.
RUNNER_MB = 120
GOLDEN_IMAGES, FEWEST_IMAGES = 62, 3


class NoGoldenImages(NotFound):
    """A version cannot be shipped: there is nothing to test it with on a device."""


def validation_images(
    project: Project,
    version: ModelVersion,
    model: bytes,
    *,
    lakefs: Any,
    artifacts: ArtifactStore,
    samples: Path,
) -> NDArray[np.uint8]:
    """Images of the validation side of what a version was trained on, decoded for it, spread evenly.

    Never of the holdout, which does not leave the house. Raises `NoGoldenImages`.
    """
    if version.partition is None:
        raise NoGoldenImages(
            f"version {version.version} of {project.project} does not say what it was trained on: "
            "give images by --golden"
        )
    dataset = named_version(lakefs, artifacts, project, version.partition)
    rows = dataset.split("val")
    spec = _input_spec(model)
    most = max(FEWEST_IMAGES, min(GOLDEN_IMAGES, GOLDEN_BYTES // (spec.height * spec.width * spec.channels)))
    rows = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int))]
    if len(rows) < FEWEST_IMAGES:
        raise NoGoldenImages(
            f"{version.partition} of {project.project} has {len(rows)} validation images, {FEWEST_IMAGES} are needed: "
            "give images by --golden"
        )
    view, _ = load_samples(lakefs, project.repository, dataset.commit.id, rows, samples, spec)
    return view.gather(np.arange(len(rows)))


def images_of_files(files: list[Path], model: bytes) -> NDArray[np.uint8]:
    """Images of one's own, decoded for a model. Raises `UnreadableImage` naming one."""
    from edge.images.decode import decode

    spec = _input_spec(model)
    size = (spec.height, spec.width, spec.channels, spec.resize)
    return np.stack([decode(file.read_bytes(), str(file), *size) for file in files])


def make_bundle(
    version: ModelVersion,
    model: bytes,
    images: NDArray[np.uint8],
    *,
    release: int,
    budget: Mapping[str, float],
    tolerances: Mapping[str, float],
    verdict: str | None,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A manifest, and the files it names. A black and a white image are added to those given.

    `tolerances`: by provider of ONNX Runtime, the most that an answer may differ on a device.
    """
    import onnx

    described = onnx.load_from_string(model)
    opset = max(each.version for each in described.opset_import if each.domain in ("", "ai.onnx"))
    ir = described.ir_version
    asked = np.concatenate([images, np.zeros_like(images[:1]), np.full_like(images[:1], 255)])
    with _OpenedModel(model) as opened:
        golden = Golden.of(opened, asked).to_bytes()
        spec = {
            "task": opened.task,
            "classes": list(opened.classes),
            "input": {
                "height": opened.height,
                "width": opened.width,
                "channels": opened.channels,
                "resize": opened.resize,
            },
        }
    blobs = {MODEL: model, GOLDEN: golden}
    memory = RUNNER_MB + 4 * len(model) // 1_000_000
    manifest = {
        "format": FORMAT,
        "project": version.project,
        "release": release,
        "variant": "fp32",
        "model": {
            "version": version.version,
            "weights_sha256": version.weights_sha256,
            "partition": version.partition,
            "provenance_sha256": version.tags.get(TAG_PROVENANCE),
        },
        "spec": spec,
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for name, data in blobs.items()
        },
        "requires": {
            "onnxruntime": _newest_runtime(RUNTIME_OF_OPSET.get(opset), RUNTIME_OF_IR.get(ir)),
            "opset": opset,
            "ir": ir,
            "machine": list(MACHINES),
            "memory_mb": memory,
            "providers": ["CPUExecutionProvider"],
        },
        "golden": {"tolerance": 0.001, "same_first_class": 1.0, **golden_by_provider(tolerances)},
        "budget": dict(budget),
        "gate": {"verdict": verdict},
    }
    return manifest, blobs


def golden_by_provider(tolerances: Mapping[str, float]) -> dict[str, Any]:
    """What the rules of golden answers in a manifest say of single providers; nothing where none has its own."""
    providers = {name: {"tolerance": value} for name, value in sorted(tolerances.items())}
    return {"providers": providers} if providers else {}


class _OpenedModel:
    """A model of bytes, opened from a file that is gone afterwards."""

    def __init__(self, model: bytes) -> None:
        self._model = model

    def __enter__(self) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / MODEL
            file.write_bytes(self._model)
            return open_model(file)

    def __exit__(self, *_: object) -> None: ...


def _input_spec(model: bytes) -> Any:
    with _OpenedModel(model) as opened:
        return opened


def _newest_runtime(*runtimes: str | None) -> str:
    found = [each for each in runtimes if each is not None]
    return max(found or ["1.20"], key=lambda each: tuple(map(int, each.split("."))))
