"""Which training a project asks for now; what a training left behind, by ids and digests, as the `challenger` asset
stores it under a partition; and what must be true of an experiment's run before the gate may look at it as a
challenger.
"""

import hashlib
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Self

from pydantic import ValidationError

from resources.error_family import Invalid, Refused
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSNotFound
from resources.models.records import (
    ONNX_ARTIFACT,
    PROVENANCE_ARTIFACT,
    TAG_CODE,
    TAG_COMMIT,
    TAG_IDENTITY,
    TAG_MANIFEST,
    TAG_ONNX,
    TAG_PROJECT,
    TAG_PROVENANCE,
    TAG_RECIPE,
    TAG_UNSEEN,
    TAG_WEIGHTS,
    ArtifactMissing,
    Run,
    weights_artifact,
)
from resources.models.registry import ModelRegistry
from visionops_assets.config.project import Project
from visionops_assets.config.recipe import canonical_json, recipe_digest
from visionops_assets.training.code_digest import code_digest
from visionops_assets.training.provenance import Provenance

VERSION_LENGTH = 16
FORMAT = 1
CURVES_ARTIFACT = "plots/learning_curves.png"
PARITY_ARTIFACT = "model/parity.json"
PATCH_ARTIFACT = "model/uncommitted.patch"
MANIFEST_ARTIFACT = "data/manifest.json"
_NEEDED = (TAG_IDENTITY, TAG_WEIGHTS, TAG_ONNX, TAG_MANIFEST, TAG_COMMIT, TAG_RECIPE, TAG_CODE)


def training_version(project: Project) -> str:
    """Digest of task, classes, recipe and code: the `code_version` of assets, and part of a run's key."""
    code = loaded_code_digest(project.recipe.model.class_path, project.task)
    return training_version_of(project, recipe_digest(project.recipe), code)


def training_version_of(project: Project, recipe: str, code: str) -> str:
    """The same of any recipe and code, by their digests."""
    content = [project.task, list(project.classes), recipe, code]
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:VERSION_LENGTH]


@cache
def loaded_code_digest(model_class_path: str, task: str) -> str:
    """The digest of the code that this process runs: files edited after they were loaded change nothing here."""
    return code_digest(model_class_path, task)


@dataclass(frozen=True)
class Challenger:
    """A trained model by its MLflow run. Digests are SHA-256 in hex."""

    run_id: str
    identity: str
    weights_sha256: str
    onnx_sha256: str
    manifest_digest: str
    recipe_digest: str
    code_digest: str
    training_version: str

    def to_record(self) -> dict[str, Any]:
        """The stored form."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Read the stored form; raises `ValueError` for another format."""
        if record.get("format") != FORMAT:
            raise Invalid(
                f"the challenger is stored in format {record.get('format')}, this VisionOps reads {FORMAT}: "
                "materialise challenger again"
            )
        return cls(**{name: value for name, value in record.items() if name != "format"})


def challenger_of(run: Run, project: Project) -> Challenger:
    """What a finished run of a project holds, by its tags. Raises `KeyError` where it is no training of ours."""
    return Challenger(
        run_id=run.id,
        identity=run.tags[TAG_IDENTITY],
        weights_sha256=run.tags[TAG_WEIGHTS],
        onnx_sha256=run.tags[TAG_ONNX],
        manifest_digest=run.tags[TAG_MANIFEST],
        recipe_digest=run.tags[TAG_RECIPE],
        code_digest=run.tags[TAG_CODE],
        training_version=training_version_of(project, run.tags[TAG_RECIPE], run.tags[TAG_CODE]),
    )


class SubmissionRefused(Refused, ValueError):
    """A run that cannot become a challenger; the message says why, and what to do."""


def submitted_challenger(
    registry: ModelRegistry, lakefs: LakeFSResource, project: Project, run_id: str
) -> tuple[Challenger, Provenance]:
    """The challenger that a finished run of this project holds, with its provenance.

    Its files must be those that were recorded, and its data must still be there. Raises `SubmissionRefused`,
    `RunNotFound`, and what lakeFS and MLflow raise.
    """
    run = registry.runs.get(run_id)
    _refuse_foreign(run, project)
    challenger = challenger_of(run, project)
    provenance = _sound_files(registry, run, challenger)
    _refuse_other_task(run, provenance, project)
    try:
        lakefs.head(project.repository, run.tags[TAG_COMMIT])
    except LakeFSNotFound as error:
        raise SubmissionRefused(
            f"run {run.id} was trained on commit {run.tags[TAG_COMMIT][:12]} of {project.repository}, which is gone, "
            f"so nobody can tell what it saw ({error}): train it again on a version that exists"
        ) from error
    return challenger, provenance


def _refuse_foreign(run: Run, project: Project) -> None:
    owner = run.tags.get(TAG_PROJECT)
    if owner != project.project:
        whose = f"is of project {owner}" if owner else "is of no project of VisionOps"
        raise SubmissionRefused(
            f"run {run.id} {whose}, not of {project.project}: submit a run that `visionops train {project.project}` "
            "or visionops.tracking made"
        )
    if not run.finished:
        raise SubmissionRefused(
            f"run {run.id} is {run.status}, not FINISHED: run its training again, which goes on where it stopped"
        )
    missing = [tag for tag in _NEEDED if not run.tags.get(tag)]
    if missing:
        raise SubmissionRefused(
            f"run {run.id} of {project.project} holds no model (no tag {missing[0]}): in one's own script, "
            "`run.log_model(model)` records it"
        )


def _sound_files(registry: ModelRegistry, run: Run, challenger: Challenger) -> Provenance:
    files = registry.artifacts
    again = "restore the artifact, or train the run again"
    try:
        for path, recorded in (
            (weights_artifact(run.tags), challenger.weights_sha256),
            (ONNX_ARTIFACT, challenger.onnx_sha256),
            # Runs made before 2026-12 do not say it.
            (PROVENANCE_ARTIFACT, run.tags.get(TAG_PROVENANCE)),
        ):
            found = files.sha256(run.id, path)
            if recorded is not None and found != recorded:
                raise SubmissionRefused(
                    f"{path} of run {run.id} was altered: its SHA-256 is {found[:12]}, {recorded[:12]} was "
                    f"recorded; {again}"
                )
        for path in (PARITY_ARTIFACT, *(() if TAG_UNSEEN in run.tags else (MANIFEST_ARTIFACT,))):
            files.sha256(run.id, path)
        provenance = Provenance.from_json(files.read_bytes(run.id, PROVENANCE_ARTIFACT).decode())
    except ArtifactMissing as error:
        raise SubmissionRefused(f"{error}; {again}") from error
    except ValidationError as error:
        raise SubmissionRefused(f"{PROVENANCE_ARTIFACT} of run {run.id} cannot be read; {again}") from error
    if provenance.weights_sha256 != challenger.weights_sha256:
        raise SubmissionRefused(
            f"{PROVENANCE_ARTIFACT} of run {run.id} is of other weights ({provenance.weights_sha256[:12]}); {again}"
        )
    return provenance


def _refuse_other_task(run: Run, provenance: Provenance, project: Project) -> None:
    data = provenance.data
    for what, theirs, ours in (
        ("task", provenance.task, project.task),
        ("repository", data.repository, project.repository),
        ("annotations", data.annotations, project.annotations),
        ("classes", ", ".join(data.classes), ", ".join(project.classes)),
    ):
        if theirs != ours:
            raise SubmissionRefused(
                f"run {run.id} was trained for {what} {theirs}, {project.project} has {ours} now: train it again"
            )
