"""What the two sides of a comparison name: a registered version, a run, a dataset version, a commit or a branch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resources.error_family import Invalid
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSNotFound
from resources.models.records import (
    TAG_COMMIT,
    TAG_KIND,
    TAG_MANIFEST,
    TAG_ONNX,
    TAG_PARTITION,
    TAG_PROJECT,
    TAG_WEIGHTS,
    ModelNotFound,
    ModelVersion,
    Run,
    RunNotFound,
)
from resources.models.registry import ModelRegistry
from resources.nearest import did_you_mean
from resources.storage import ArtifactStore
from visionops_assets.champions.history import production
from visionops_assets.common.keys import KEY
from visionops_assets.config.project import Project
from visionops_assets.dataset.versions.commit_log import publications
from visionops_assets.dataset.versions.dataset_version import manifest_at, named_commit, names_of_data
from visionops_assets.dataset.versions.manifest import Manifest
from visionops_assets.evaluation.run_records import recorded_manifest, recorded_provenance
from visionops_assets.evaluation.verdict import ModelReference
from visionops_assets.training.provenance import Provenance

CHAMPION, CHALLENGER = "champion", "challenger"
_VERSION = re.compile(r"v?(\d{1,6})")
_NAMED_BY = "a run is named by its id in MLflow, data by a dataset version, commit, branch, tag or batch"
_RUN = re.compile(r"[0-9a-f]{32}")


class ComparisonError(Invalid):
    """Something cannot be compared; the message names it and says what can."""


@dataclass(frozen=True)
class Side:
    """One side. `model` is None for data that nothing was trained on.

    `manifest` and `provenance` are None where the run does not hold them. `params` are the run's in MLflow.
    """

    asked: str
    name: str
    model: ModelReference | None = None
    partition: str | None = None
    commit: str | None = None
    manifest: Manifest | None = None
    provenance: Provenance | None = None
    params: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What a program needs to find it again."""
        model = self.model
        return {
            "asked": self.asked,
            "name": self.name,
            "version": model.version if model else None,
            "run_id": model.run_id if model else None,
            "weights_sha256": model.weights_sha256 if model else None,
            "onnx_sha256": model.onnx_sha256 if model else None,
            "dataset_version": self.partition,
            "commit": self.commit,
            "manifest_digest": self.manifest.digest if self.manifest else None,
        }


@dataclass(frozen=True)
class Sides:
    """Finds what a project's people name."""

    project: Project
    registry: ModelRegistry
    lakefs: LakeFSResource
    artifacts: ArtifactStore

    def find(self, text: str) -> Side:
        """The side that `text` names. Raises `ComparisonError`, and what MLflow and lakeFS raise.

        Looked up in this order: an alias (`champion`, `champion-<group>`), `challenger`, a registered version, a run by
        its id, a dataset version, commit, branch, tag or batch, a run by its name.
        """
        registered = self.registry.models.get(self.project.project)
        if text in registered.aliases:
            return self._version(text, registered.aliases[text])
        if text == CHAMPION:
            raise ComparisonError(
                f"{self.project.project} has no champion yet: `visionops tick {self.project.project}` trains and "
                "evaluates what is committed, or name two things to compare"
            )
        if text == CHALLENGER:
            return self.run(text, self._newest_challenger().id)
        if number := _VERSION.fullmatch(text):
            try:
                return self._version(text, int(number[1]))
            except ComparisonError:
                # A batch may be called 7. What begins a commit's id by chance may not.
                if publications(self.lakefs, self.project).newest(text) is None:
                    raise
        if _RUN.fullmatch(text):
            return self.run(text, text)
        try:
            return self._data(text)
        except LakeFSNotFound:
            return self._named_run(text)

    def data(self, text: str) -> Manifest:
        """The data that `text` names, or that the model it names was trained on. Raises as `find`."""
        side = self.find(text)
        if side.manifest is not None:
            return side.manifest
        if side.commit is None:
            raise ComparisonError(
                f"{side.name} does not say what it was trained on: name a commit of its data"
            )
        return manifest_at(self.lakefs, self.artifacts, self.project, side.commit)

    def usual(self) -> tuple[Side, Side, str]:
        """The newest challenger and the champion, and a sentence; once it won, the champion and the version before.

        Raises `ComparisonError` where there is only one model, or none.
        """
        champion = self.find(CHAMPION)
        challenger = self.find(CHALLENGER)
        if _same_model(champion, challenger):
            now = production(self.registry.models.get(self.project.project))
            arrival = now.arrival(now.version) if now.version is not None else None
            if arrival is None or arrival.from_version is None:
                raise ComparisonError(
                    f"{champion.name} is the only model of {self.project.project}: there is nothing to compare it "
                    f"with. `visionops why {self.project.project}` says how it was judged"
                )
            before = self._version(str(arrival.from_version), arrival.from_version)
            return (
                champion,
                before,
                "The newest challenger is champion, so the version before it stands opposite.",
            )
        return challenger, champion, ""

    def run(self, asked: str, run_id: str) -> Side:
        """The model of a run. Raises `ComparisonError` for an unknown run, another project's, or one without model."""
        try:
            run = self.registry.runs.get(run_id)
        except RunNotFound as error:
            raise ComparisonError(f"{error}; {self._what_there_is()}") from error
        owner = run.tags.get(TAG_PROJECT)
        if owner != self.project.project:
            raise ComparisonError(
                f"run {run.id} belongs to {owner or 'no project'}, not to {self.project.project}: its answers are "
                "about other images"
            )
        if TAG_WEIGHTS not in run.tags or TAG_ONNX not in run.tags:
            raise ComparisonError(
                f"run {run.id} ({run.name or 'no name'}, {run.status.lower()}) holds no model: let it finish, or "
                "train it again"
            )
        return self._side(asked, f"run {run.name or run.id[:12]}", run, _reference(run))

    def _version(self, asked: str, number: int) -> Side:
        try:
            version = self.registry.models.version(self.project.project, number)
        except ModelNotFound as error:
            raise ComparisonError(f"{error}; {_NAMED_BY}") from error
        model = _reference_of(version)
        name = f"version {number}" if asked.lstrip("v").isdigit() else f"{asked}, version {number}"
        return self._side(asked, name, self.registry.runs.get(version.run_id), model)

    def _data(self, text: str) -> Side:
        """A state of the data, with the newest model that was trained on the same manifest."""
        commit = named_commit(self.lakefs, self.project, text)
        manifest = manifest_at(self.lakefs, self.artifacts, self.project, commit.id)
        called = f"dataset version {text}" if KEY.fullmatch(text) else f"{text} at {commit.id[:12]}"
        for run in self.registry.runs.search(self.project.project, {TAG_MANIFEST: manifest.digest}):
            if run.finished and TAG_ONNX in run.tags:
                side = self._side(text, f"{called}, run {run.name or run.id[:12]}", run, _reference(run))
                return Side(**{**vars(side), "commit": commit.id, "manifest": manifest})
        return Side(text, called, commit=commit.id, manifest=manifest)

    def _named_run(self, text: str) -> Side:
        named = [run for run in self.registry.runs.search(self.project.project) if _is_called(run, text)]
        if not named:
            registered = self.registry.models.get(self.project.project)
            named_runs = {run.name for run in self.registry.runs.search(self.project.project) if run.name}
            known = [
                *registered.aliases,
                CHALLENGER,
                *names_of_data(self.lakefs, self.project),
                *sorted(named_runs),
            ]
            raise ComparisonError(
                f"{text} is no version, run, dataset version, commit, branch, tag or batch of {self.project.project}"
                f"{did_you_mean(text, known, '.')} {self._what_there_is()}"
            )
        distinct = {run.tags.get(TAG_WEIGHTS) for run in named}
        if len(distinct) > 1:
            ids = ", ".join(run.id for run in named[:5])
            raise ComparisonError(f"{text} names {len(named)} runs: {ids}; give an id")
        return self.run(text, named[0].id)

    def _side(self, asked: str, name: str, run: Run, model: ModelReference) -> Side:
        return Side(
            asked,
            name,
            model,
            partition=run.tags.get(TAG_PARTITION),
            commit=run.tags.get(TAG_COMMIT),
            manifest=recorded_manifest(self.registry, run.id),
            provenance=recorded_provenance(self.registry, run.id),
            params=run.params,
        )

    def _newest_challenger(self) -> Run:
        """Of the trainings that the graph asked for: an experiment is no challenger until it is submitted."""
        for run in self.registry.runs.search(self.project.project):
            if run.finished and TAG_ONNX in run.tags and TAG_KIND not in run.tags:
                return run
        raise ComparisonError(
            f"{self.project.project} has no challenger yet: `visionops tick {self.project.project}` trains one on "
            "what is committed"
        )

    def _what_there_is(self) -> str:
        return f"{self.registry.models.in_words(self.project.project)}; {_NAMED_BY}"


def is_model(text: str) -> bool:
    """Whether `text` is written as a model is, rather than a state of the data."""
    return bool(_VERSION.fullmatch(text) or _RUN.fullmatch(text)) or text.startswith((CHAMPION, CHALLENGER))


def _same_model(one: Side, other: Side) -> bool:
    return bool(one.model and other.model and one.model.weights_sha256 == other.model.weights_sha256)


def _is_called(run: Run, text: str) -> bool:
    return run.finished and TAG_ONNX in run.tags and (run.name == text or run.id.startswith(text))


def _reference(run: Run) -> ModelReference:
    return ModelReference(weights_sha256=run.tags[TAG_WEIGHTS], onnx_sha256=run.tags[TAG_ONNX], run_id=run.id)


def _reference_of(version: ModelVersion) -> ModelReference:
    if not version.weights_sha256 or not version.onnx_sha256:
        raise ComparisonError(
            f"version {version.version} of {version.project} does not say which files it is: somebody else registered "
            "it, so it cannot be compared"
        )
    return ModelReference(
        weights_sha256=version.weights_sha256,
        onnx_sha256=version.onnx_sha256,
        run_id=version.run_id,
        version=version.version,
    )
