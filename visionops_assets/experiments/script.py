"""A run of somebody's own training script: opened with what it is made with, closed with who is told, and between
these the same records as a recipe's, so that the gate can judge its model.
"""

import copy
import hashlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy, nn

from resources.error_family import Invalid
from resources.escaping import markdown
from resources.models.records import (
    FAILED,
    FINISHED,
    KILLED,
    SCRIPT,
    TAG_CODE,
    TAG_COMMIT,
    TAG_DESCRIPTION,
    TAG_IDENTITY,
    TAG_KIND,
    TAG_MANIFEST,
    TAG_PARTITION,
    TAG_RECIPE,
    Run,
)
from resources.models.trackers import Tracking
from resources.service_clients import Stores
from visionops_assets.common.errors import ModelError
from visionops_assets.config.project import Project
from visionops_assets.config.recipe import InputSpec, ModelSpec, Recipe, canonical_json
from visionops_assets.dataset.cache.samples import load_samples
from visionops_assets.dataset.versions.dataset_version import DatasetVersion
from visionops_assets.training.batches import LabelledImages, channel_statistics
from visionops_assets.training.challenge import identity_of
from visionops_assets.training.code_digest import code_state, describe_machine
from visionops_assets.training.model_files import export_onnx, golden_images, parity, save_weights
from visionops_assets.training.models import Shipped
from visionops_assets.training.provenance import (
    CodeOrigin,
    EpochReport,
    Provenance,
    ScriptOrigin,
    installed_packages,
)
from visionops_assets.training.recording import FinishedModel, data_origin, flattened, put_model
from visionops_assets.training.training_task import training_task

_SIDES = ("train", "val")
_SIDE_NAMES = {"train": "training", "val": "validation"}


class ScriptRun:
    """One run, while its script trains. `id` is the MLflow run that `visionops submit` takes; `params` are by path."""

    def __init__(
        self,
        project: Project,
        version: DatasetVersion,
        params: Mapping[str, Any],
        *,
        run: Run,
        tracking: Tracking,
        stores: Stores,
        normalise: bool,
    ) -> None:
        self.id, self.classes, self.version = run.id, project.classes, version.partition
        self._project, self._version, self._params, self._run = project, version, params, run
        self._tracking, self._stores, self._normalise = tracking, stores, normalise
        self._task = training_task(project.task)
        self._history: list[EpochReport] = []
        self._epoch = 0
        self._is_recorded = False

    @property
    def is_recorded(self) -> bool:
        """Whether the model was recorded, so that it can be submitted."""
        return self._is_recorded

    def images(self, side: str) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """The decoded images of `train` or `val`, uint8 [N, H, W, C] at the recipe's size, with their targets.

        Targets are class indices int64 [N], or boxes float32 [N, M, 5] (`training/models.py`). The holdout is the
        gate's alone: raises `ValueError` for it.
        """
        found = self._side(side)
        return found.source.gather(found.rows), found.labels

    def prepared(self, images: NDArray[np.uint8]) -> Tensor:
        """Images as the model gets them when it ships: float [N, C, H, W], normalised."""
        spec = self._input
        mean = np.array(spec.mean or [0.0] * spec.channels, np.float32)
        std = np.array(spec.std or [1.0] * spec.channels, np.float32)
        pixels = np.ascontiguousarray(((images / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))
        return from_numpy(pixels)

    def log(self, epoch: int, **metrics: float) -> None:
        """Record an epoch's metrics. `train_loss`, `validation_loss` and `validation_accuracy` (or `validation_mAP50`)
        are the names that recipes use, and draw the learning curves."""
        numbers = {name: float(value) for name, value in metrics.items()}
        self._tracking.log(numbers, epoch)
        self._epoch = max(epoch, self._epoch)
        if "train_loss" in numbers:
            self._history.append(
                EpochReport(
                    epoch=epoch,
                    epochs=epoch,
                    train_loss=numbers["train_loss"],
                    validation_loss=numbers.get("validation_loss"),
                    validation_score=numbers.get(f"validation_{self._task.score}"),
                    learning_rate=numbers.get("learning_rate", 0.0),
                    seconds=numbers.get("epoch_seconds", 0.0),
                    score=self._task.score,
                )
            )

    def log_model(self, model: nn.Module) -> str:
        """Record the trained model: weights, the ONNX file that ships with the proof that it agrees, provenance.

        Its validation is measured here, as of every model. Returns the SHA-256 of the weights. Raises `ModelError`
        where it does not fit the protocol, `ExportError`, `WeightsError`.
        """
        project, run_id = self._project, self.id
        if not isinstance(model, nn.Module):
            raise ModelError(
                f"log_model takes the trained torch.nn.Module, not {type(model).__name__}: load what you have into one"
            )
        shipped = self._task.ship(copy.deepcopy(model).cpu(), project.classes, self._input).eval()
        metrics = self._measured(shipped)
        train, validation = self._side("train"), self._side("val")
        with tempfile.TemporaryDirectory() as folder:
            weights, onnx = Path(folder, "weights.safetensors"), Path(folder, "model.onnx")
            weights_sha256 = save_weights(shipped, weights)
            onnx_sha256 = export_onnx(shipped, onnx, metrics.get("min_score"))
            made = Recipe(input=self._input, model=ModelSpec(class_path=_path_of(model)))
            checkout = code_state(script_file().parent)
            provenance = Provenance(
                project=project.project,
                task=project.task,
                identity=self._run.tags[TAG_IDENTITY],
                data=data_origin(project, self._version, train, validation),
                recipe=made,
                recipe_digest=self._run.tags[TAG_RECIPE],
                code=CodeOrigin.of(self._run.tags[TAG_CODE], checkout),
                packages=installed_packages(),
                hardware=describe_machine(),
                weights_sha256=weights_sha256,
                onnx_sha256=onnx_sha256,
                metrics=metrics,
                script=ScriptOrigin(name=script_file().name, parameters=dict(self._params)),
            )
            proof = parity(onnx, shipped, golden_images(train))
            finished = FinishedModel(
                weights, onnx, proof, provenance, self._version.manifest, checkout, self._history
            )
            put_model(self._stores.registry, run_id, finished)
        self._is_recorded = True
        return weights_sha256

    def _measured(self, shipped: Shipped) -> dict[str, float]:
        validation = self._side("val")
        if not len(validation):
            return {}
        measured = self._task.validate(shipped, validation)
        found = {f"validation_{self._task.score}": measured.score, "validation_loss": measured.loss}
        if measured.threshold is not None:
            found |= {"validation_F1": measured.threshold.f1, "min_score": measured.threshold.min_score}
        metrics = {name: float(value) for name, value in found.items() if value is not None}
        self._tracking.log(metrics, self._epoch)
        return metrics

    def _side(self, side: str) -> LabelledImages:
        if side not in _SIDES:
            raise Invalid(f"expected train or val, got {side!r}: the holdout is the gate's alone")
        return self._sides[side]

    @cached_property
    def _sides(self) -> dict[str, LabelledImages]:
        used, spec = self._version.split(*_SIDES), self._project.recipe.input
        view, _ = load_samples(
            self._stores.lakefs,
            self._project.repository,
            self._version.commit.id,
            used,
            self._stores.scratch.samples,
            spec,
        )
        targets = self._task.targets(used, self._project.classes, spec)
        rows = {side: np.flatnonzero((used["split"] == side).to_numpy()).astype(np.int64) for side in _SIDES}
        return {side: LabelledImages(view, found, targets[found]) for side, found in rows.items()}

    @cached_property
    def _input(self) -> InputSpec:
        """The project's input, normalised as a recipe would: as declared, else as measured on the training images."""
        spec = self._project.recipe.input
        if not self._normalise:
            return spec.model_copy(update={"mean": None, "std": None})
        if spec.mean is not None:
            return spec
        mean, std = channel_statistics(self._side("train"))
        return spec.model_copy(update={"mean": mean, "std": std})


def script_file() -> Path:
    """The file that this process runs; of a notebook, its kernel's."""
    return Path(getattr(sys.modules["__main__"], "__file__", None) or sys.argv[0] or "script").absolute()


def _path_of(model: nn.Module) -> str:
    return f"{type(model).__module__}.{type(model).__name__}"


@contextmanager
def open_script_run(
    project: Project,
    version: DatasetVersion,
    params: Mapping[str, Any],
    stores: Stores,
    *,
    name: str | None,
    normalise: bool,
) -> Iterator[ScriptRun]:
    """A new run of a script on a dataset version, closed at the end of the block, as failed by an exception."""
    script, registry = script_file(), stores.registry
    runs = registry.runs
    content = script.read_bytes() if script.is_file() else b""
    code = hashlib.sha256(content).hexdigest()
    parameters = made_with(project, params)
    if untrue := [name for name, value in flattened(params).items() if parameters[name] != value]:
        say_in_script(
            f"{', '.join(untrue)}: recorded as they are, not as the script says: the images come as the recipe of "
            f"{project.project} has them"
        )
    content_of_recipe = canonical_json({"script": script.name, "parameters": parameters})
    recipe = hashlib.sha256(content_of_recipe.encode()).hexdigest()
    run = runs.start(
        project.project,
        name or f"{project.project} {script.name}",
        {
            TAG_KIND: SCRIPT,
            TAG_PARTITION: version.partition,
            TAG_COMMIT: version.commit.id,
            TAG_MANIFEST: version.manifest.digest,
            TAG_RECIPE: recipe,
            TAG_CODE: code,
            TAG_IDENTITY: identity_of(project, version.manifest.digest, recipe, code),
            TAG_DESCRIPTION: markdown(f"{script.name}: {_told(project, version)}."),
        },
    )
    say_in_script(f"run {run.id} of {project.project} ({registry.run_url(run)}): {_told(project, version)}")
    tracking = Tracking(project.tracking, runs, project.project, run, say_in_script)
    status = FINISHED
    try:
        tracking.start({"script": script.name, **parameters}, run.tags)
        address = f"lakefs://{project.repository}/{version.commit.id}/"
        runs.log_dataset(run.id, address, project.repository, version.manifest.digest)
        made = ScriptRun(
            project,
            version,
            parameters,
            run=run,
            tracking=tracking,
            stores=stores,
            normalise=normalise,
        )
        yield made
    except Exception:
        status = FAILED
        raise
    except BaseException:
        status = KILLED
        raise
    finally:
        tracking.end(status)
    # The result, where `visionops train` prints its own.
    if made.is_recorded:
        print(f"run {run.id} is recorded: `visionops submit {project.project} {run.id}` has it judged")
    else:
        print(f"run {run.id} is recorded without a model: with `run.log_model(model)` it can be submitted")


def made_with(project: Project, params: Mapping[str, Any]) -> dict[str, Any]:
    """What a script's run is made with, by dotted path: its parameters, and the input that its images come in."""
    spec = project.recipe.input.model_dump(mode="json", include={"height", "width", "channels", "resize"})
    return {**flattened(params), **flattened(spec, "input.")}


def say_in_script(text: str) -> None:
    """Tell whoever runs the script, beside what it prints itself."""
    print(text, file=sys.stderr)


def _told(project: Project, version: DatasetVersion) -> str:
    spec, used = project.recipe.input, version.used["split"]
    counts = " and ".join(f"{int((used == side).sum()):,} {name}" for side, name in _SIDE_NAMES.items())
    colour = "grey" if spec.channels == 1 else "colour"
    return f"{counts} images, {spec.width}×{spec.height}, {colour}, of dataset version {version.partition}"
