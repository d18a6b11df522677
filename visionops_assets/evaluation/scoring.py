"""How shipped files answer on rows of a dataset version, the one way in which models are scored, and the champion's
opinion of images that no model was trained on yet.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
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
from visionops_assets.config.project import Project
from visionops_assets.config.recipe import InputSpec
from visionops_assets.dataset.cache.samples import load_samples
from visionops_assets.dataset.suspect_labels import Opinion
from visionops_assets.evaluation.evaluation_task import EvaluationTask, evaluation_task
from visionops_assets.inference.shipped_model import ShippedModel, fetch_model, images_at_once, open_model

BATCH = 256
OPINION_BATCH = 256


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
    with tempfile.TemporaryDirectory(prefix="visionops-champion-") as folder:
        shipped = open_model(fetch_model(registry, run_id, onnx_sha256, "champion", Path(folder)))
    return Opinion(shipped.classes, lambda images: _predict(shipped, images))


def _predict(shipped: ShippedModel, images: Iterable[tuple[str, bytes]]) -> pd.DataFrame:
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

    task = evaluation_task(shipped.task)
    found = task.run(shipped, batches())
    return task.opinion(found, sides).assign(path=paths)
