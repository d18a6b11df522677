"""Whether a file answers here what it answered where the gate judged it, in a process of its own.

Judged by processor time, never by the clock: on a busy machine the clock refuses good models.
"""

from __future__ import annotations

import io
import json
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.engines import Engine, from_arguments
from edge.onnx_model import Model, ModelFileError, NotFinite, open_model

# Beyond it the process is ended by the system: a model that loops takes no machine down.
MOST_CPU_SECONDS = 60
FEWEST_IMAGES = 4
# A box that is meant at all, and one of the same score.
_CLEAR, _SAME_SCORE = 0.1, 0.05


class Golden:
    """Images uint8 [N, H, W, C], and what the file answered on each alone, by output."""

    def __init__(self, images: NDArray[np.uint8], answers: Mapping[str, NDArray[Any]]) -> None:
        self.images, self.answers = images, answers

    @classmethod
    def read(cls, data: bytes) -> Golden:
        """From the bytes of a bundle. Raises ValueError."""
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return cls(arrays.pop("images"), arrays)

    @classmethod
    def of(cls, model: Model, images: NDArray[np.uint8]) -> Golden:
        """What a model answers now."""
        found = [model.run(images[row : row + 1]) for row in range(len(images))]
        return cls(
            images,
            {
                name: np.concatenate(each)
                for name, each in zip(model.outputs, zip(*found, strict=True), strict=True)
            },
        )

    def to_bytes(self) -> bytes:
        """As a bundle holds it."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=self.images, **self.answers)  # type: ignore[arg-type]
        return buffer.getvalue()


def examine(
    model: Path,
    golden: Path,
    rules: Mapping[str, Any],
    budget: Mapping[str, Any],
    engine: Engine | None = None,
) -> tuple[str | None, str]:
    """Why a file is refused, None if it is not, and what was measured, in words."""
    try:
        asked = Golden.read(golden.read_bytes())
        opened = open_model(model, engine=engine)
        if len(asked.images) < FEWEST_IMAGES or set(asked.answers) != set(opened.outputs):
            return "selftest", "the golden images are not what this model answers"
        answers: list[list[NDArray[Any]]] = []
        took = []
        opened.run(asked.images[:1])
        for row in range(len(asked.images)):
            started = time.thread_time()
            answers.append(opened.run(asked.images[row : row + 1]))
            took.append((time.thread_time() - started) * 1000)
    except (ModelFileError, NotFinite) as error:
        return "selftest", str(error)
    except Exception as error:  # Whatever a foreign file makes ONNX Runtime raise.
        return "selftest", f"{type(error).__name__}: {error}"[:300]
    found = {
        name: np.concatenate(each)
        for name, each in zip(opened.outputs, zip(*answers, strict=True), strict=True)
    }
    apart, alike = _compared(opened.task, asked.answers, found, max(opened.height, opened.width))
    cpu_ms = float(np.median(took))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    measured = (
        f"answers differ by {apart:.2g}, the same first class on {alike:.1%} of {len(asked.images)} images, "
        f"{cpu_ms:.2f} ms of processor an image, {peak_mb:.0f} MB"
    )
    if not apart <= float(rules.get("tolerance", 1e-3)) or alike < float(rules.get("same_first_class", 1.0)):
        return "selftest", measured
    if cpu_ms > float(budget.get("cpu_ms", "inf")):
        return "slow", f"{measured}; {budget['cpu_ms']:g} ms are allowed"
    if peak_mb > float(budget.get("memory_mb", "inf")):
        return "memory", f"{measured}; {budget['memory_mb']:g} MB are allowed"
    return None, measured


def _compared(
    task: str, expected: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]], side: int
) -> tuple[float, float]:
    """The largest difference, and the share of images with the same first class."""
    if any(found[name].shape != expected[name].shape for name in expected):
        return float("inf"), 0.0
    return _COMPARING[task](expected, found, side)


def _classes_compared(
    expected: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]], side: int
) -> tuple[float, float]:
    apart = np.abs(found["probabilities"] - expected["probabilities"]).max(initial=0.0)
    same = found["probabilities"].argmax(1) == expected["probabilities"].argmax(1)
    return float(apart), float(same.mean())


def _boxes_compared(
    expected: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]], side: int
) -> tuple[float, float]:
    apart = float(np.abs(np.sort(found["scores"]) - np.sort(expected["scores"])).max(initial=0.0))
    same = 0
    for row, scores in enumerate(expected["scores"]):
        apart = max(apart, _boxes_apart(expected, found, row, side))
        best, was = found["scores"][row].argmax(), scores.argmax()
        same += int(found["labels"][row, best] == expected["labels"][row, was] or scores[was] <= _CLEAR)
    return apart, same / max(1, len(expected["scores"]))


_COMPARING = {"classification": _classes_compared, "detection": _boxes_compared}


def _boxes_apart(
    expected: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]], row: int, side: int
) -> float:
    """How far the clear boxes of an image lie from the nearest found ones of their class, in sides of the image.

    The last of K boxes, and those of the same score, may be others in another runtime.
    """
    largest = 0.0
    scores = expected["scores"][row]
    for place in np.flatnonzero(scores > max(_CLEAR, float(scores.min()) + 1e-3)):
        alike = found["labels"][row] == expected["labels"][row, place]
        alike &= np.abs(found["scores"][row] - scores[place]) <= _SAME_SCORE
        apart = np.abs(found["boxes"][row][alike] - expected["boxes"][row, place]).max(axis=1) / side
        largest = max(largest, float(apart.min(initial=np.inf)))
    return largest


def main() -> None:
    """Examine in this process, within limits, and say what was found as JSON."""
    model, golden, rules, budget, *engine = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_SECONDS, MOST_CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(json.dumps(examine(Path(model), Path(golden), rules, budget, from_arguments(engine))))


if __name__ == "__main__":
    main()
