"""The ONNX file that ships, opened: images in, answers in words out."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.decode import Decoded, decode, placement

_FORMAT = "1"
# From where boxes are meant where a detector's validation did not tell.
DEFAULT_MIN_SCORE = 0.3


class ModelFileError(ValueError):
    """A file is not what VisionOps ships."""


class NotFinite(ValueError):
    """A model answered what is no number."""


@dataclass(frozen=True)
class Model:
    """An opened file, its task and classes, and how it takes images."""

    session: Any
    task: str
    classes: tuple[str, ...]
    height: int
    width: int
    channels: int
    resize: str
    min_score: float

    @property
    def outputs(self) -> list[str]:
        """What is asked of the file."""
        return ["boxes", "scores", "labels"] if self.task == "detection" else ["probabilities"]

    def run(self, images: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """The outputs for images uint8 [N, H, W, C]. Raises `NotFinite`."""
        found: list[NDArray[Any]] = self.session.run(self.outputs, {"images": images})
        if not all(np.isfinite(each).all() for each in found):
            raise NotFinite("the model answered what is no number")
        return found

    def answer(self, data: bytes) -> dict[str, Any]:
        """What the model says of one image. Raises `UnreadableImage` and `NotFinite`."""
        image = decode(data, self.height, self.width, self.channels, self.resize)
        started = time.thread_time()
        found = self.run(image.pixels[None])
        took = (time.thread_time() - started) * 1000
        told = self._detected(image, *found) if self.task == "detection" else self._classified(found[0][0])
        return {**told, "cpu_ms": round(took, 3)}

    def _classified(self, probabilities: NDArray[np.float32]) -> dict[str, Any]:
        best = int(probabilities.argmax())
        return {
            "prediction": self.classes[best],
            "confidence": float(probabilities[best]),
            "probabilities": dict(zip(self.classes, probabilities.tolist(), strict=True)),
        }

    def _detected(
        self, image: Decoded, boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any]
    ) -> dict[str, Any]:
        """Boxes from `min_score` on, best first, in pixels of the upright image."""
        top, left, inner_height, inner_width = placement(
            image.height, image.width, self.height, self.width, self.resize
        )
        across, down = image.width / inner_width, image.height / inner_height
        kept = np.flatnonzero((scores[0] > 0) & (scores[0] >= self.min_score))
        kept = kept[np.argsort(-scores[0][kept], kind="stable")]
        sides = (boxes[0, kept].astype(np.float64) - [left, top, 0, 0]) * [across, down, across, down]
        found = []
        for (x, y, w, h), label, score in zip(sides.tolist(), labels[0, kept], scores[0][kept], strict=True):
            if not 0 <= label < len(self.classes):
                raise NotFinite(
                    f"the model answers class number {label}, but names {len(self.classes)} classes"
                )
            found.append(
                {"x": x, "y": y, "w": w, "h": h, "label": self.classes[label], "score": float(score)}
            )
        best = found[0] if found else {"label": None, "score": None}
        return {"prediction": best["label"], "confidence": best["score"], "boxes": found}


def open_model(path: Path, threads: int = 1) -> Model:
    """Open a file of format 1. Raises `ModelFileError`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin while they wait take the processor from the camera.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        described = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # ONNX Runtime's errors share no other base.
        raise ModelFileError(f"ONNX Runtime cannot open the model ({error})"[:500]) from error
    if described.get("visionops.format") != _FORMAT:
        raise ModelFileError(
            f"`visionops.format` of the model is {described.get('visionops.format')!r}, this agent reads {_FORMAT!r}"
        )
    try:
        spec = json.loads(described["visionops.input"])
        return Model(
            session=session,
            task=described.get("visionops.task", "classification"),
            classes=tuple(json.loads(described["visionops.classes"])),
            height=int(spec["height"]),
            width=int(spec["width"]),
            channels=int(spec["channels"]),
            resize=str(spec.get("resize", "stretch")),
            min_score=float(described.get("visionops.min_score", DEFAULT_MIN_SCORE)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"the model's metadata is incomplete ({error!r})") from error
