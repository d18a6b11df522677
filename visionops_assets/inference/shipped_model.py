"""The ONNX file that ships: held to its recorded digest, then opened as what it says of itself."""

import hashlib
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import onnx_model as edge_model
from edge.onnx_model import ModelFileError
from resources.models.records import (
    EVERYWHERE,
    FOREIGN,
    ONNX_ARTIFACT,
    PROVENANCE_ARTIFACT,
    TAG_KIND,
    TAG_PROVENANCE,
    ModelNotFound,
    ModelVersion,
    RunNotFound,
    alias_of,
    group_option,
)
from visionops_assets.champions.disagreements import lacking, way_back
from visionops_assets.champions.history import groups
from visionops_assets.champions.registered_model import Registry
from visionops_assets.config.recipe import InputSpec
from visionops_assets.tasks.task_registry import names

# What a network computes of so many takes some hundred megabytes.
_PIXELS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class ShippedModel:
    """An opened ONNX file: ONNX Runtime's session, its task and classes, and how it wants images decoded.

    `min_score` is from where a detector's boxes are meant, as its validation told; None where the file does not say.
    """

    path: Path
    session: Any
    task: str
    classes: tuple[str, ...]
    input: InputSpec
    min_score: float | None = None

    def run(self, batches: Iterable[NDArray[np.uint8]], outputs: Sequence[str]) -> list[list[NDArray[Any]]]:
        """The asked outputs, each a list of one array a batch of images uint8 [N, H, W, C].

        Only answers are kept, and large images are computed a few at a time, so memory holds one batch of images and
        little more. Raises `ModelFileError` for images of another
        shape or type than the file states.
        """
        shape = (self.input.height, self.input.width, self.input.channels)
        answers: list[list[NDArray[Any]]] = [[] for _ in outputs]
        for images in batches:
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
                raise ModelFileError(
                    f"{self.path}: takes uint8 images of {_by(shape)}, was given {images.dtype} of "
                    f"{_by(images.shape[1:])}; decode them as the file's `visionops.input` says"
                )
            if len(images):
                step = images_at_once(self.input)
                parts = [
                    self.session.run(list(outputs), {"images": images[start : start + step]})
                    for start in range(0, len(images), step)
                ]
                for kept, found in zip(answers, zip(*parts, strict=True), strict=True):
                    kept.append(found[0] if len(found) == 1 else np.concatenate(found))
        return answers


def images_at_once(size: InputSpec, most: int | None = None) -> int:
    """How many images of an input's size memory takes together."""
    fitting = max(1, _PIXELS_AT_ONCE // (size.height * size.width))
    return fitting if most is None else min(most, fitting)


def how_back(registry: Registry, project: str, version: int, error: Exception) -> str:
    """What is said of a registered version whose files cannot be used, with what leads back to one that can."""
    model = registry.models.get(project)
    known = model.remembered.get(version)
    if known is None and model.has(version):
        known = registry.models.version(project, version)
    group = next((each for each in groups(model) if model.aliases.get(alias_of(each)) == version), EVERYWHERE)
    again = ""
    if isinstance(error, RunNotFound) and known is not None and registry.runs.lost.lacking(known) is None:
        command = f"visionops rollback {project} --model-version {version}{group_option(group)} --why TEXT"
        again = f"`{command}` records the run again from its files; "
    elif known is not None and known.tags.get(TAG_KIND) == FOREIGN:
        again = (
            "it was made elsewhere: submit its ONNX file once more, as it was submitted, which puts it back; "
        )
    elif known is not None and _has_provenance(registry, known, error):
        unverified = "" if TAG_PROVENANCE in known.tags else " --unverified"
        again = f"`visionops reproduce {project} --model-version {version} --register{unverified}` makes them again; "
    other = way_back(model, group, partial(lacking, registry), without=version)
    return f"the files of version {version} of {project} cannot be used: {error}; {again}{other}"


def _has_provenance(registry: Registry, version: ModelVersion, error: Exception) -> bool:
    """Whether a version can be made again; with its run its provenance is gone."""
    if isinstance(error, RunNotFound | ModelNotFound):
        return False
    return registry.artifacts.exists(version.run_id, PROVENANCE_ARTIFACT)


def fetch_model(registry: Registry, run_id: str, onnx_sha256: str, who: str, folder: Path) -> Path:
    """Copy the file of the `who` (champion or challenger) into a folder, unless it was altered.

    Raises `ModelFileError` where its SHA-256 is not the recorded one, `ArtifactMissing` where it is gone.
    """
    content = registry.artifacts.read_bytes(run_id, ONNX_ARTIFACT)
    found = hashlib.sha256(content).hexdigest()
    if found != onnx_sha256:
        raise ModelFileError(
            f"{ONNX_ARTIFACT} of run {run_id}, the {who}, was altered: its SHA-256 is {found[:12]}, "
            f"{onnx_sha256[:12]} was recorded; restore the artifact"
        )
    file = folder / "model.onnx"
    file.write_bytes(content)
    return file


class _AloneOrNot:
    """ONNX Runtime's session for a batch that runs alone, by all processors, and the one for batches that run at once,
    by a share of them each, which wait less for each other. Their answers are the same, bit for bit."""

    def __init__(self, alone: Any, together: Any) -> None:
        self._alone, self._together = alone, together
        self._lock, self._running = threading.Lock(), 0
        self.get_outputs = alone.get_outputs

    def run(self, outputs: Sequence[str], given: Mapping[str, Any]) -> list[Any]:
        """As a session's."""
        with self._lock:
            session = self._together if self._running else self._alone
            self._running += 1
        try:
            found: list[Any] = session.run(outputs, given)
        finally:
            with self._lock:
                self._running -= 1
        return found


def processors() -> int:
    """How many this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def open_model(model: Path, threads: int = 0, at_once: int = 1) -> ShippedModel:
    """Open a file of format 1. `threads` 0 lets ONNX Runtime choose; of several batches `at_once` each has a share.

    Raises `ModelFileError` where it is unreadable or of another format, FileNotFoundError where it is missing.
    """
    if not model.is_file():
        raise FileNotFoundError(f"{model}: there is no such model file")
    try:
        # Where several run, a thread that spins takes the processor from another batch.
        opened = edge_model.open_model(model, threads, spinning=at_once == 1, tasks=names())
        session = opened.session
        if at_once > 1 and threads == 0:
            share = max(1, processors() // at_once)
            session = _AloneOrNot(session, edge_model.open_model(model, share, tasks=names()).session)
        spec = InputSpec.model_validate(opened.input)
    except ModelFileError as error:
        raise ModelFileError(f"{model}: {error}; export it again") from error
    except ValueError as error:
        raise ModelFileError(
            f"{model}: its VisionOps metadata is incomplete ({error!r}); export it again"
        ) from error
    return ShippedModel(model, session, opened.task, opened.classes, spec, opened.min_score)


def _by(shape: Sequence[int]) -> str:
    return "×".join(str(side) for side in shape)
