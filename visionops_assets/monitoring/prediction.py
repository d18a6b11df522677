"""What runs in production, run: images in, answers out, and the rows that the log keeps of them."""

import hashlib
import tempfile
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.images.bounds import ImageLimits
from edge.images.decode import Target, decode_with_header
from edge.images.header import Header, UnreadableImage
from edge.onnx_model import ModelFileError, classified, detected
from resources.error_family import NotFound
from resources.models.records import EVERYWHERE, ArtifactMissing, ModelVersion, RunNotFound, version_on
from visionops_assets.champions.disagreements import disagreements
from visionops_assets.champions.registered_model import Registry
from visionops_assets.inference.detection import told_boxes
from visionops_assets.inference.detections import logged_box
from visionops_assets.inference.inference_task import inference_task
from visionops_assets.inference.shipped_model import ShippedModel, fetch_model, how_back, open_model
from visionops_assets.monitoring.signals import STATISTICS, image_statistics


class NothingInProduction(NotFound):
    """The project has no champion on this device group."""


@dataclass(frozen=True)
class RunningModel:
    """A registered version, opened."""

    version: int
    weights_sha256: str
    onnx_sha256: str
    shipped: ShippedModel

    def to_json(self) -> dict[str, Any]:
        """How an answer names its model."""
        return {"version": self.version, "sha256": self.weights_sha256, "onnx_sha256": self.onnx_sha256}


@dataclass(frozen=True)
class Picture:
    """One image as it came, and decoded for a model: uint8 [H, W, C]; `size` is width and height as it came."""

    name: str
    data: bytes
    sha256: str
    size: tuple[int, int]
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Answer:
    """What a model says of one image. `boxes` for a detector, `probabilities` by class for a classifier."""

    model: RunningModel
    prediction: str | None
    confidence: float | None
    probabilities: NDArray[np.float32] | None
    boxes: list[dict[str, Any]] | None
    embedding: NDArray[np.float32] | None

    def to_json(self) -> dict[str, Any]:
        """As `predict` and `serve` give it."""
        told = detected(self.boxes) if self.boxes is not None else {}
        if self.probabilities is not None:
            told = classified(self.model.shipped.classes, self.probabilities)
        return {**told, "model": self.model.to_json()}


def meant(said: Answer, min_score: float) -> Answer:
    """An answer without the boxes below a score; a classifier's is as it was."""
    if said.boxes is None:
        return said
    kept = told_boxes([box for box in said.boxes if box["score"] >= min_score])
    return Answer(said.model, *kept, said.embedding)


def running_version(registry: Registry, project: str, group: str = EVERYWHERE) -> ModelVersion:
    """The version that runs on a device group now. Raises `NothingInProduction`."""
    model = registry.models.get(project)
    number = version_on(model, group)
    if number is None:
        unclear = disagreements(registry, project, EVERYWHERE)
        if unclear:
            raise NothingInProduction(unclear[0].sentence())
        raise NothingInProduction(
            f"{project} has no model in production: `visionops status {project}` says what was judged, "
            f"`visionops tick {project}` trains what was not"
        )
    return registry.models.version(project, number)


def open_version(
    registry: Registry, version: ModelVersion, threads: int = 0, at_once: int = 1
) -> RunningModel:
    """Fetch the file of a registered version, hold it to its digest, and open it as `open_model` does.

    Raises `ModelFileError` where the file is gone, was altered or cannot be opened, naming what leads back.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = fetch_model(registry, version.run_id, version.onnx_sha256, "champion", Path(folder))
            shipped = open_model(file, threads, at_once)
        except (ArtifactMissing, RunNotFound, ModelFileError) as error:
            raise ModelFileError(how_back(registry, version.project, version.version, error)) from error
    return RunningModel(version.version, version.weights_sha256, version.onnx_sha256, shipped)


def picture(
    name: str,
    data: bytes,
    shipped: ShippedModel,
    limits: ImageLimits | None = None,
    header: Header | None = None,
) -> Picture:
    """Decode one image for a model, its `header` looked at already or not. Raises `UnreadableImage` naming it."""
    spec = shipped.input
    target = Target(spec.height, spec.width, spec.resize)
    header, pixels = decode_with_header(data, name, target, spec.channels, limits, header)
    return Picture(name, data, hashlib.sha256(data).hexdigest(), (header.width, header.height), pixels)


def pictures(
    images: Sequence[tuple[str, bytes]], shipped: ShippedModel, threads: Executor | None = None
) -> list[Picture | UnreadableImage]:
    """Decode (name, bytes) pairs, the error in the place of one that cannot be read."""

    def one(image: tuple[str, bytes]) -> Picture | UnreadableImage:
        try:
            return picture(*image, shipped)
        except UnreadableImage as error:
            return error

    return list(threads.map(one, images) if threads is not None and len(images) > 1 else map(one, images))


def answer(model: RunningModel, batch: Sequence[Picture]) -> list[Answer]:
    """Run the model on a batch. Raises `ModelFileError` where its file is not what it says."""
    if not batch:
        return []
    shipped = model.shipped
    task = inference_task(shipped.task)
    embeds = any(each.name == "embedding" for each in shipped.session.get_outputs())
    pixels = np.stack([each.pixels for each in batch])
    found = [part[0] for part in shipped.run([pixels], [*task.outputs, *(["embedding"] if embeds else [])])]
    embeddings = list(found[-1]) if embeds else [None] * len(batch)
    told = task.told(shipped, found[: len(task.outputs)], [each.size for each in batch])
    return [Answer(model, *each, embedding) for each, embedding in zip(told, embeddings, strict=True)]


def log_rows(
    batch: Sequence[Picture], answers: Sequence[Answer], *, device: str, group: str, times: Sequence[datetime]
) -> list[dict[str, Any]]:
    """The rows of the inference log of a batch that one model answered, without frames."""
    if not batch:
        return []
    statistics = image_statistics(np.stack([each.pixels for each in batch]), [each.size for each in batch])
    return [
        {
            "timestamp": when,
            "device": device,
            "device_group": group,
            "model_sha256": said.model.weights_sha256,
            "image_sha256": seen.sha256,
            "prediction": said.prediction,
            "confidence": said.confidence,
            **({"boxes": [logged_box(box) for box in said.boxes]} if said.boxes is not None else {}),
            **({"probabilities": said.probabilities.tolist()} if said.probabilities is not None else {}),
            **dict(zip(STATISTICS, measured, strict=True)),
            "embedding": said.embedding.tolist() if said.embedding is not None else None,
        }
        for seen, said, when, measured in zip(
            batch, answers, times, statistics.to_numpy().tolist(), strict=True
        )
    ]
