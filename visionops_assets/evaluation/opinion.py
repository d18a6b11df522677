"""What the champion says of images that no model was trained on yet: those of a batch being imported."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge.images.decode import Target, decode_with_header
from resources.model_errors import ArtifactMissing, ModelNotFound, RunNotFound
from resources.model_records import version_on
from resources.models.registry import ModelRegistry
from visionops_assets.dataset.suspect_labels import Opinion
from visionops_assets.project import Project

if TYPE_CHECKING:
    from visionops_assets.inference.shipped_model import ShippedModel

BATCH = 256


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
        from edge.model import ModelFileError
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


def _predict(shipped: "ShippedModel", images: Iterable[tuple[str, bytes]]) -> pd.DataFrame:
    from visionops_assets.evaluation.detections import boxes_in_image, detect
    from visionops_assets.evaluation.predictions import scores_of
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
            if len(decoded) == images_at_once(size, BATCH):
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
