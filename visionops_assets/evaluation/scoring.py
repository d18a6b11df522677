"""How shipped files answer: by task, on rows of a dataset version (the one way in which models are scored), and the
champion's opinion of images that no model was trained on yet.
"""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge.images.decode import Target, decode_with_header
from edge.onnx_model import ModelFileError
from resources.lakefs.client import LakeFSResource
from resources.models.records import ArtifactMissing, ModelNotFound, RunNotFound, version_on
from resources.models.registry import ModelRegistry
from resources.storage import Scratch
from visionops_assets.champions.registered_model import Registry
from visionops_assets.common.progress import tell
from visionops_assets.config.gate_rules import GateRules
from visionops_assets.config.project import Project
from visionops_assets.config.recipe import InputSpec
from visionops_assets.dataset.cache.samples import load_samples
from visionops_assets.dataset.suspect_labels import Opinion
from visionops_assets.evaluation.classification import measure_classification
from visionops_assets.evaluation.context import JudgementContext
from visionops_assets.evaluation.detection import measure_detection
from visionops_assets.evaluation.turned import examples_picture
from visionops_assets.evaluation.verdict import Evidence
from visionops_assets.inference.detections import detect, detection_faults, detections_table
from visionops_assets.inference.predictions import predictions_table, scores_of, table_faults
from visionops_assets.inference.shipped_model import ShippedModel, fetch_model, images_at_once, open_model

Pixels = NDArray[np.uint8]
# Paths -> (path, image uint8 [H, W, 3]).
Images = Callable[[list[str]], Iterable[tuple[str, Pixels]]]


class EvaluationTask(ABC):
    """Classification or detection."""

    name: str

    def answers(self, shipped: ShippedModel, batches: Iterable[Pixels]) -> Any:
        """What a model's file answers, as `table` takes it. Raises ModelFileError for a file of another task."""
        if shipped.task != self.name:
            raise ModelFileError(
                f"{shipped.path} is a model for {shipped.task}, the project's task is {self.name}"
            )
        return self._answers(shipped, batches)

    @abstractmethod
    def _answers(self, shipped: ShippedModel, batches: Iterable[Pixels]) -> Any: ...

    @abstractmethod
    def table(
        self, holdout: pd.DataFrame, *, challenger: Any, champion: Any = None, slices: Sequence[str] = ()
    ) -> pd.DataFrame:
        """The predictions table of the manifest's holdout rows."""

    @abstractmethod
    def faults(self, predictions: pd.DataFrame, rules: GateRules, context: JudgementContext) -> list[str]:
        """Sentences on what makes the table unfit to be judged."""

    def absence(self, predictions: pd.DataFrame) -> str | None:
        """What a sound table lacks altogether, so that nothing can be judged; None where it does not."""
        return "the holdout has no image." if predictions.empty else None

    @abstractmethod
    def measure(self, predictions: pd.DataFrame, rules: GateRules, context: JudgementContext) -> Evidence:
        """All numbers of the verdict, of a sound table with rows."""

    def examples(self, predictions: pd.DataFrame, classes: Sequence[str], images: Images) -> bytes | None:
        """A small PNG of answers against truths; None where a table says it better."""
        return None


class _Classification(EvaluationTask):
    name = "classification"

    def _answers(self, shipped: ShippedModel, batches: Iterable[Pixels]) -> Any:
        return scores_of(shipped, batches)

    def table(
        self, holdout: pd.DataFrame, *, challenger: Any, champion: Any = None, slices: Sequence[str] = ()
    ) -> pd.DataFrame:
        return predictions_table(holdout, challenger=challenger, champion=champion, slices=slices)

    def faults(self, predictions: pd.DataFrame, rules: GateRules, context: JudgementContext) -> list[str]:
        with_champion = context.champion is not None
        return table_faults(predictions, rules, classes=context.classes, with_champion=with_champion)

    def measure(self, predictions: pd.DataFrame, rules: GateRules, context: JudgementContext) -> Evidence:
        return measure_classification(predictions, rules, context)


class _Detection(EvaluationTask):
    name = "detection"

    def _answers(self, shipped: ShippedModel, batches: Iterable[Pixels]) -> Any:
        return detect(shipped, batches)

    def table(
        self, holdout: pd.DataFrame, *, challenger: Any, champion: Any = None, slices: Sequence[str] = ()
    ) -> pd.DataFrame:
        return detections_table(holdout, challenger=challenger, champion=champion, slices=slices)

    def faults(self, predictions: pd.DataFrame, rules: GateRules, context: JudgementContext) -> list[str]:
        with_champion = context.champion is not None
        return detection_faults(predictions, rules, classes=context.classes, with_champion=with_champion)

    def absence(self, predictions: pd.DataFrame) -> str | None:
        if not predictions.empty and predictions["boxes"].map(len).sum() == 0:
            return "the holdout has no box to find."
        return super().absence(predictions)

    def measure(self, predictions: pd.DataFrame, rules: GateRules, context: JudgementContext) -> Evidence:
        return measure_detection(predictions, rules, context)

    def examples(self, predictions: pd.DataFrame, classes: Sequence[str], images: Images) -> bytes | None:
        return examples_picture(predictions, classes, images)


_TASKS: dict[str, EvaluationTask] = {task.name: task for task in (_Classification(), _Detection())}


def evaluation_task(name: str) -> EvaluationTask:
    """The task that a project file names."""
    return _TASKS[name]


BATCH = 256


@dataclass(frozen=True)
class Scorer:
    """Scores models of one task on images of one commit, read through the sample cache."""

    task: EvaluationTask
    repository: str
    commit: str
    lakefs: LakeFSResource
    registry: Registry
    scratch: Scratch

    def answers(self, rows: pd.DataFrame, run_id: str, onnx_sha256: str, who: str) -> Any:
        """What the file of a run answers on the manifest's rows, in their order, as `EvaluationTask.table` takes it.

        `who` names the model in errors. Raises `ModelFileError`, `ArtifactMissing`, and what lakeFS raises.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = fetch_model(self.registry, run_id, onnx_sha256, who, Path(folder))
            shipped = open_model(file)
            return self.task.answers(shipped, self._images(rows, shipped.input))

    def _images(self, rows: pd.DataFrame, size: InputSpec) -> Iterator[NDArray[np.uint8]]:
        view, _ = load_samples(self.lakefs, self.repository, self.commit, rows, self.scratch.samples, size)
        step = images_at_once(size, BATCH)
        for start in range(0, len(view), step):
            end = min(start + step, len(view))
            yield view.gather(np.arange(start, end))
            tell(f"image {end:,} of {len(view):,}", end, len(view))


OPINION_BATCH = 256


def champion_opinion(registry: ModelRegistry, project: Project) -> Callable[[], Opinion | None]:
    """A callable that gives the champion's opinion, by the ONNX file that ships; None where there is no champion.

    A champion whose version, run or file is gone or altered has none, and says why. Calling it raises
    `RegistryUnavailable` where MLflow does not answer.
    """

    def opinion() -> Opinion | None:
        number = version_on(registry.models.get(project.project))
        if number is None:
            return None
        # A batch is no worse for a model that is gone.
        from edge.onnx_model import ModelFileError
        from visionops_assets.inference.shipped_model import how_back

        try:
            champion = registry.models.version(project.project, number)
            return _opinion(registry, champion.run_id, champion.onnx_sha256)
        except (ArtifactMissing, ModelNotFound, RunNotFound, ModelFileError) as error:
            return Opinion(
                (), lambda _: pd.DataFrame(), unheard=how_back(registry, project.project, number, error)
            )

    return opinion


def _opinion(registry: ModelRegistry, run_id: str, onnx_sha256: str) -> Opinion:
    from visionops_assets.inference.shipped_model import fetch_model, open_model

    with tempfile.TemporaryDirectory(prefix="visionops-champion-") as folder:
        shipped = open_model(fetch_model(registry, run_id, onnx_sha256, "champion", Path(folder)))
    return Opinion(shipped.classes, lambda images: _predict(shipped, images))


def _predict(shipped: ShippedModel, images: Iterable[tuple[str, bytes]]) -> pd.DataFrame:
    from visionops_assets.inference.detections import boxes_in_image, detect
    from visionops_assets.inference.predictions import scores_of
    from visionops_assets.inference.shipped_model import images_at_once

    size = shipped.input
    paths: list[str] = []
    sides: list[tuple[int, int]] = []

    def batches() -> Iterator[NDArray[np.uint8]]:
        decoded: list[NDArray[np.uint8]] = []
        for path, data in images:
            target = Target(size.height, size.width, size.resize)
            header, pixels = decode_with_header(data, path, target, size.channels)
            paths.append(path)
            sides.append((header.height, header.width))
            decoded.append(pixels)
            if len(decoded) == images_at_once(size, OPINION_BATCH):
                yield np.stack(decoded)
                decoded.clear()
        if decoded:
            yield np.stack(decoded)

    if shipped.task == "detection":
        found = detect(shipped, batches())
        answers = [boxes_in_image(found, row, *each) for row, each in enumerate(sides)]
        return pd.DataFrame({"path": paths, "boxes": answers})
    scores = scores_of(shipped, batches())
    if not paths:
        return pd.DataFrame({"path": [], "prediction": [], "confidence": []})
    names = np.asarray(scores.classes, dtype=object)
    best = scores.probabilities.argmax(axis=1)
    confidence = scores.probabilities.max(axis=1)
    return pd.DataFrame({"path": paths, "prediction": names[best], "confidence": confidence})
