"""The ONNX file that ships, opened: images in, answers in the words that a device, `predict`, `serve`, the log and
the gate all use.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge import EdgeError
from edge.images.decode import Resize, Target, decode_with_header, placement
from edge.images.header import Header
from edge.images.statistics import STATISTICS, image_statistics

_FORMAT = "1"
_OUTPUTS = {"classification": ["probabilities"], "detection": ["boxes", "scores", "labels"]}
TASKS = tuple(_OUTPUTS)
# What a file may answer beside: what an image is like, in numbers.
EMBEDDING = "embedding"
_BOX = ("x", "y", "w", "h", "score")
# From where boxes are meant where a detector's validation did not tell.
DEFAULT_MIN_SCORE = 0.3
# How an image is called that came without a name.
NAME = "the image"


class ModelFileError(EdgeError, ValueError):
    """A file is not what VisionOps ships."""


class NotFinite(EdgeError, ValueError):
    """A model answered what is no number."""


class Accelerator(Protocol):
    """What opens a file otherwise than the CPU provider does: an `edge.engines.Engine`."""

    @property
    def provider(self) -> str:
        """As ONNX Runtime calls it."""

    def providers(self) -> list[Any]:
        """As a session of ONNX Runtime takes them."""


@dataclass(frozen=True)
class Model:
    """An opened file, its task and classes, and how it takes images. `input` is all that the file says of that.

    `min_score` is from where a detector's boxes are meant; None where the file does not say.
    """

    session: Any
    task: str
    classes: tuple[str, ...]
    height: int
    width: int
    channels: int
    resize: Resize
    min_score: float | None
    input: Mapping[str, Any]

    @property
    def outputs(self) -> list[str]:
        """What is asked of the file."""
        return _OUTPUTS[self.task]

    @cached_property
    def embeds(self) -> bool:
        """Whether the file says what an image is like, too."""
        return any(each.name == EMBEDDING for each in self.session.get_outputs())

    def run(self, images: NDArray[np.uint8], also: Sequence[str] = ()) -> list[NDArray[Any]]:
        """The outputs for images uint8 [N, H, W, C], and these others behind them. Raises `NotFinite`."""
        found: list[NDArray[Any]] = self.session.run([*self.outputs, *also], {"images": images})
        if not all(np.isfinite(each).all() for each in found[: len(self.outputs)]):
            raise NotFinite("the model answered what is no number")
        return found

    def decode(self, data: bytes) -> tuple[Header, NDArray[np.uint8]]:
        """An image as this model takes it. Raises `UnreadableImage`, and OSError where no decoder can be started."""
        target = Target(self.height, self.width, self.resize)
        return decode_with_header(data, NAME, target, self.channels)

    def answer(self, header: Header, pixels: NDArray[np.uint8]) -> tuple[dict[str, Any], Observed]:
        """What the model says of a decoded image, and the processor time that took; and what it was said of. Raises
        `NotFinite`."""
        started = time.thread_time()
        found = self.run(pixels[None], [EMBEDDING] if self.embeds else [])
        took = (time.thread_time() - started) * 1000
        outputs = found[: len(self.outputs)]
        told = {**_TELLING[self.task](self, header, *outputs), "cpu_ms": round(took, 3)}
        return told, Observed(self, header, pixels, found)


@dataclass(frozen=True)
class Observed:
    """An image that was answered: pixels uint8 [H, W, C] as the model saw them, and all that it said."""

    model: Model
    header: Header
    pixels: NDArray[np.uint8]
    found: Sequence[NDArray[Any]]

    def measured(self) -> dict[str, Any]:
        """What the inference log has of it beside the answer: image statistics, embedding, all boxes of a detector."""
        size = (self.header.width, self.header.height)
        statistics = image_statistics(self.pixels[None], [size])[0]
        model = self.model
        outputs, embedding = self.found[: len(model.outputs)], self.found[len(model.outputs) :]
        return {
            **dict(zip(STATISTICS, _rounded(statistics.tolist()), strict=True)),
            EMBEDDING: _rounded(embedding[0][0].tolist()) if embedding else None,
            **_LOGGING[model.task](model, self.header, *outputs),
        }


def _tell_class(model: Model, header: Header, probabilities: NDArray[Any]) -> dict[str, Any]:
    return classified(model.classes, probabilities[0])


def _tell_boxes(
    model: Model, header: Header, boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any]
) -> dict[str, Any]:
    """Boxes from `min_score` on."""
    foreign = unknown_class(model.classes, scores, labels)
    if foreign is not None:
        raise NotFinite(f"the model {foreign}")
    least = DEFAULT_MIN_SCORE if model.min_score is None else model.min_score
    size = (header.height, header.width)
    found = boxes_in_image(model, model.classes, boxes[0], scores[0], labels[0], size)
    return detected([each for each in found if each["score"] >= least])


def _log_class(model: Model, header: Header, probabilities: NDArray[Any]) -> dict[str, Any]:
    return {"probabilities": _rounded(probabilities[0].tolist())}


def _log_boxes(
    model: Model, header: Header, boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any]
) -> dict[str, Any]:
    """All boxes, those that are not meant too: as of a server, so that the numbers of both are of one kind."""
    size = (header.height, header.width)
    found = boxes_in_image(model, model.classes, boxes[0], scores[0], labels[0], size)
    best = detected(found)
    logged = [
        {
            **dict(zip(_BOX, _rounded([box[name] for name in _BOX]), strict=True)),
            "class": box["label"],
        }
        for box in found
    ]
    return {"prediction": best["prediction"], "confidence": best["confidence"], "boxes": logged}


def _rounded(values: Sequence[float]) -> list[float]:
    """As many digits as float32 has: the rest would be most of a report."""
    return [float(f"{value:.7g}") for value in values]


# One image's answer in words, and what the log has of it, by task, of the outputs in their order.
_TELLING: Mapping[str, Callable[..., dict[str, Any]]] = {
    "classification": _tell_class,
    "detection": _tell_boxes,
}
_LOGGING: Mapping[str, Callable[..., dict[str, Any]]] = {
    "classification": _log_class,
    "detection": _log_boxes,
}


def open_model(
    path: Path,
    threads: int = 1,
    *,
    spinning: bool = False,
    engine: Accelerator | None = None,
    tasks: Collection[str] = TASKS,
) -> Model:
    """Open a file of format 1, by the CPU provider or by that of an engine; `threads` 0 lets ONNX Runtime choose.

    Raises `ModelFileError`, naming no file; also for a file of none of the `tasks`, of which a `Model` answers `TASKS`.

    Threads that spin while they wait answer sooner, and take the processor from whatever else runs, as a camera.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not spinning:
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        providers = ["CPUExecutionProvider"] if engine is None else engine.providers()
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        described = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # ONNX Runtime's errors share no other base.
        raise ModelFileError(f"ONNX Runtime cannot open it ({error})"[:500]) from error
    if engine is not None and engine.provider not in session.get_providers():
        # ONNX Runtime takes another one without a word.
        raise ModelFileError(f"this ONNX Runtime does not run it by {engine.provider}")
    if described.get("visionops.format") != _FORMAT:
        raise ModelFileError(
            f"its `visionops.format` should be {_FORMAT!r}, is {described.get('visionops.format')!r}"
        )
    try:
        spec = json.loads(described["visionops.input"])
        least = described.get("visionops.min_score")
        found = Model(
            session=session,
            task=described.get("visionops.task", "classification"),
            classes=tuple(json.loads(described["visionops.classes"])),
            height=int(spec["height"]),
            width=int(spec["width"]),
            channels=int(spec["channels"]),
            resize=spec.get("resize", "fit"),
            min_score=None if least is None else float(least),
            input=spec,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"its VisionOps metadata is incomplete ({error!r})") from error
    possible = found.channels in (1, 3) and found.resize in ("fit", "stretch")
    if not possible or found.task not in tasks or min(found.height, found.width) < 1:
        raise ModelFileError(f"its VisionOps metadata is of no model that is known: {found.task}, {spec}")
    return found


class Frame(Protocol):
    """How a model takes images, in pixels."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def resize(self) -> Resize: ...


def likeliest(classes: Sequence[str], probabilities: NDArray[np.float32]) -> tuple[str, float]:
    """The first class of the highest of its probabilities [classes], and that probability."""
    best = int(probabilities.argmax())
    return classes[best], float(probabilities[best])


def classified(classes: Sequence[str], probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """A classifier's answer: its likeliest class, and the probabilities [classes] of all."""
    prediction, confidence = likeliest(classes, probabilities)
    return {
        "prediction": prediction,
        "confidence": confidence,
        "probabilities": dict(zip(classes, probabilities.tolist(), strict=True)),
    }


def detected(boxes: list[dict[str, Any]]) -> dict[str, Any]:
    """A detector's answer: the class of its best box, and all boxes, best first."""
    best = boxes[0] if boxes else {"label": None, "score": None}
    return {"prediction": best["label"], "confidence": best["score"], "boxes": boxes}


def unknown_class(
    classes: Sequence[str], scores: NDArray[np.float32], labels: NDArray[np.int64]
) -> str | None:
    """What is said of a detector that names a class it does not have in a box of a score above 0; None if it does not.

    `scores` and `labels` are of one shape.
    """
    foreign = (scores > 0) & ~((labels >= 0) & (labels < len(classes)))
    if not foreign.any():
        return None
    return f"answers class number {labels[foreign][0]}, but names {len(classes)} classes"


def boxes_in_image(
    frame: Frame,
    classes: Sequence[str],
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    size: tuple[int, int],
) -> list[dict[str, Any]]:
    """The boxes of one answer, best first: `x, y, w, h` in pixels of the upright image, `label` and `score`.

    `boxes` [K, 4] are left, top, width and height in pixels of the frame, `size` is the image's height and width.
    A score of 0 is no box; one that is no number stays, so that somebody says so.
    """
    height, width = size
    top, left, inner_height, inner_width = placement(height, width, frame.height, frame.width, frame.resize)
    across, down = width / inner_width, height / inner_height
    kept = np.flatnonzero(~(scores <= 0))
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    sides = (boxes[kept].astype(np.float64) - [left, top, 0, 0]) * [across, down, across, down]
    return [
        {
            **dict(zip(("x", "y", "w", "h"), box, strict=True)),
            "label": classes[label] if 0 <= label < len(classes) else "",
            "score": float(score),
        }
        for box, label, score in zip(sides.tolist(), labels[kept], scores[kept], strict=True)
    ]
