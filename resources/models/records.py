"""Runs, registered models and versions as plain data, the one home of every tag and artifact name, and what can go
wrong between us and MLflow.

Light on purpose: no MLflow, no Dagster, so that pure modules may import it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from resources.error_family import NotFound, Refused, Unavailable, VisionOpsError

TAG_PROJECT = "visionops.project"
TAG_PARTITION = "visionops.partition"
TAG_COMMIT = "visionops.commit"
TAG_IDENTITY = "visionops.identity"
TAG_WEIGHTS = "visionops.weights_sha256"
TAG_ONNX = "visionops.onnx_sha256"
TAG_MANIFEST = "visionops.manifest_digest"
TAG_RECIPE = "visionops.recipe_digest"
TAG_CODE = "visionops.code_digest"
# Of the stored provenance, which names the digest of the uncommitted change beside it.
TAG_PROVENANCE = "visionops.provenance_sha256"
TAG_DAGSTER_RUN = "dagster.run_id"
# What a run was made as, where it is not a challenger's, and the sweeps that it is a part of, by name.
TAG_KIND = "visionops.kind"
TAG_SWEEP = "visionops.sweep"
# What MLflow shows as a run's description, and the outcome of the newest verdict on its model.
TAG_DESCRIPTION = "mlflow.note.content"
TAG_VERDICT = "visionops.verdict"
# Of a run whose record MLflow lost, and that was recorded again.
TAG_RESTORED = "visionops.restored"
# And under another id, where a server keeps the records: the id of the run whose place it takes.
TAG_RECORDED_FOR = "visionops.recorded_for"
# Of a version: what its last reproduction found, when, and which artifact of its run says so.
TAG_REPRODUCTION = "visionops.reproduction.result"
TAG_REPRODUCTION_WHEN = "visionops.reproduction.when"
TAG_REPRODUCTION_PAGE = "visionops.reproduction.page"

# Of the run of a foreign file, of which nobody knows what it was trained on: who says that the holdout is new to it.
TAG_UNSEEN = "visionops.unseen"

WEIGHTS_ARTIFACT = "model/weights.safetensors"
ONNX_ARTIFACT = "model/model.onnx"
PROVENANCE_ARTIFACT = "model/provenance.json"
MODEL_CARD_ARTIFACT = "model_card.md"

# Values of TAG_KIND: trained by `visionops train`, by somebody's own script, or a finished file from elsewhere.
EXPERIMENT = "experiment"
SCRIPT = "script"
FOREIGN = "onnx"

# Tags of a registered model that are numbered entries, written once: every change of what runs.
HISTORY = "visionops.history."

# The device group that exists from the start.
EVERYWHERE = "all"

RUNNING = "RUNNING"
FINISHED = "FINISHED"
FAILED = "FAILED"
KILLED = "KILLED"


@dataclass(frozen=True)
class Run:
    """One MLflow run: a training with its parameters, last metrics, tags and artifacts."""

    id: str
    experiment_id: str
    name: str
    status: str
    started: datetime
    ended: datetime | None
    artifact_uri: str
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Everything the run had to write is written."""
        return self.status == FINISHED


@dataclass(frozen=True)
class ModelVersion:
    """One registered version: the model of one run, known by the digests of its files."""

    project: str
    version: int
    run_id: str
    created: datetime
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def weights_sha256(self) -> str:
        """The model's identity; empty for a version that somebody else registered."""
        return self.tags.get(TAG_WEIGHTS, "")

    @property
    def onnx_sha256(self) -> str:
        """The digest of the file that ships."""
        return self.tags.get(TAG_ONNX, "")

    @property
    def partition(self) -> str | None:
        """The dataset version it was trained on."""
        return self.tags.get(TAG_PARTITION)


def weights_artifact(tags: Mapping[str, str]) -> str:
    """Which file of a run the digest of its weights is of: a foreign file that ships is weights and all."""
    return ONNX_ARTIFACT if tags.get(TAG_KIND) == FOREIGN else WEIGHTS_ARTIFACT


@dataclass(frozen=True)
class RegisteredModel:
    """A project's entry in the registry: its tags, and which version each alias names.

    What follows is known where a memory is kept (`resources.models.memory`), and else None or empty: `there` are the
    versions that MLflow has now; `remembered` all that it ever had; `confirmed` what each alias named when it last
    agreed with the history, of which `assumed` never did where it was seen; `recalled` the tags that MLflow has no
    more, which `tags` has all the same, or has with another value, though they are written once: `altered`.
    `relabelled` are versions whose digests are others in MLflow. `gone` is set where MLflow does not know the project
    any more. A version that took the number of another is not `there`, nor named by `aliases`.
    """

    project: str
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    there: frozenset[int] | None = None
    remembered: Mapping[int, ModelVersion] = field(default_factory=dict)
    confirmed: Mapping[str, int] | None = None
    assumed: frozenset[str] = frozenset()
    recalled: frozenset[str] = frozenset()
    altered: frozenset[str] = frozenset()
    relabelled: frozenset[int] = frozenset()
    gone: bool = False

    def has(self, version: int) -> bool:
        """Whether MLflow has a version now, as far as that is known."""
        return self.there is None or version in self.there


@dataclass(frozen=True)
class Artifact:
    """One file of a run; `size` in bytes."""

    path: str
    size: int


def group_option(group: str) -> str:
    """How a command that is advised names a device group; nothing for all devices."""
    return "" if group == EVERYWHERE else f" --group {group}"


def alias_of(group: str) -> str:
    """The alias that names a device group's champion."""
    return "champion" if group == EVERYWHERE else f"champion-{group}"


def version_on(model: RegisteredModel, group: str = EVERYWHERE) -> int | None:
    """The version that runs on a device group: its own champion, else that of `all`."""
    own = model.aliases.get(alias_of(group))
    return own if own is not None else model.aliases.get(alias_of(EVERYWHERE))


class RegistryError(VisionOpsError, RuntimeError):
    """Base of everything the model registry raises."""


class RegistryUnavailable(Unavailable, RegistryError):
    """MLflow does not answer, or its database is locked, unreadable or of another MLflow release."""


class RegistryRefused(Refused, RegistryError):
    """MLflow answered and said no: a wrong name, a value too long, missing rights."""


class RunNotFound(NotFound, RegistryError):
    """No run has this id."""


class ArtifactMissing(NotFound, RegistryError):
    """The run holds no artifact at this path."""


class ModelNotFound(NotFound, RegistryError):
    """No registered model, or no such version of it."""
