"""What a shipped file answers on rows of a dataset version: the one way in which models are scored."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resources.lakefs.client import LakeFSResource
from resources.scratch import Scratch
from visionops_assets.common.progress import tell
from visionops_assets.config.recipe import InputSpec
from visionops_assets.dataset.cache.samples import load_samples
from visionops_assets.evaluation.tasks import EvaluationTask
from visionops_assets.inference.shipped_model import fetch_model, images_at_once, open_model
from visionops_assets.registry import Registry

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
