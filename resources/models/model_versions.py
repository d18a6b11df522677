"""Registered models in MLflow: versions of a project, their tags, and which one an alias names."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from resources.escaping import storable
from resources.models.memory import ModelMemory, Remembered, agreed
from resources.models.mlflow_client import ModelConnection
from resources.models.records import (
    TAG_ONNX,
    TAG_WEIGHTS,
    ModelNotFound,
    ModelVersion,
    RegisteredModel,
    RegistryRefused,
)
from resources.nearest import listed, there_are

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

# The column's width in Postgres and MySQL; sqlite would take more.
TAG_LENGTH = 5000
# Of every registered model, under whatever name, as MLflow's page shows it.
_DESCRIPTION = (
    "Models of a VisionOps project, one version each that was promoted; `champion` is the one in production. The card "
    "of a version says why."
)


class Models:
    """One registered model a project, of the project's name; `memory` knows what it was, whoever changes it."""

    def __init__(self, connection: ModelConnection, memory: ModelMemory | None = None) -> None:
        self._connection = connection
        self._memory = memory or ModelMemory()

    def get(self, project: str) -> RegisteredModel:
        """The project's tags and aliases, and what is remembered of it; empty ones if nothing was ever registered."""
        known = self._memory.read(project)
        try:
            with self._connection.client(f"registered model {project}", missing=ModelNotFound) as client:
                found = client.get_registered_model(project)
        except ModelNotFound:
            if known is None:
                return RegisteredModel(project)
            return _remembering(RegisteredModel(project), known, {}, gone=True)
        aliases = {name: int(version) for name, version in found.aliases.items()}
        model = RegisteredModel(project, dict(found.tags), aliases)
        if self._memory.root is None:
            return model
        before = known or Remembered.seen_first(model.tags, aliases)
        versions = self._listed(project)
        others = {each.version for each in versions if before.is_another(each)}
        relabelled = frozenset(each.version for each in versions if before.is_relabelled(each))
        there = {each.version: before.filled(each) for each in versions if each.version not in others}
        model = replace(model, aliases={name: each for name, each in aliases.items() if each not in others})
        altered = before.altered(model.tags)
        kept = {key: value for key, value in model.tags.items() if key not in altered}
        now = before.with_these(kept, agreed({**before.tags, **kept}, model.aliases), there)
        if now != known:
            self._memory.write(project, now)
        return _remembering(replace(model, tags=kept, altered=altered, relabelled=relabelled), now, there)

    def recall(self, project: str) -> None:
        """Write back the tags that MLflow has no more, or not as they were: history, decisions and answers."""
        model = self.get(project)
        if model.recalled:
            self.ensure(project)
            with self._connection.client(f"registered model {project}", missing=ModelNotFound) as client:
                for key in sorted(model.recalled):
                    client.set_registered_model_tag(project, key, model.tags[key])
        for number in model.relabelled:
            self.set_version_tags(project, number, model.remembered[number].tags)

    def projects(self) -> list[str]:
        """The names of all registered models."""
        with self._connection.client("registered models") as client:
            found: list[str] = []
            token: str | None = None
            while True:
                page = client.search_registered_models(max_results=1000, page_token=token)
                found += [each.name for each in page]
                token = page.token
                if not token:
                    return sorted(found)

    def rename(self, project: str, name: str) -> None:
        """Give a registered model another name, with its versions, tags and aliases, and what is remembered of it.

        An entry without versions that has the name already makes room. Raises `ModelNotFound` where there is neither
        name; one that was renamed, and its memory not, is completed.
        """
        with self._connection.client(f"registered model {project}", missing=ModelNotFound) as client:
            known = self.projects()
            if project in known or name not in known:
                if name in known and not self.versions(name):
                    client.delete_registered_model(name)
                client.rename_registered_model(project, name)
        self._memory.rename(project, name)

    def ensure(self, project: str) -> None:
        """Create the registered model unless it is there."""
        from mlflow.exceptions import MlflowException

        with self._connection.client(f"registered model {project}") as client:
            try:
                client.create_registered_model(project, description=_DESCRIPTION)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

    def set_tag(self, project: str, key: str, value: str) -> None:
        """Set one tag of the registered model, which is created if missing; at most 5,000 characters."""
        if len(value) > TAG_LENGTH:
            raise RegistryRefused(
                f"tag {key} of {project} has {len(value)} characters, MLflow takes {TAG_LENGTH}: "
                "shorten the reason"
            )
        self.ensure(project)
        with self._connection.client(f"registered model {project}", missing=ModelNotFound) as client:
            client.set_registered_model_tag(project, key, storable(value))
        self._memory.note(project, tags={key: storable(value)})

    def versions(self, project: str) -> list[ModelVersion]:
        """All versions, oldest first, with what MLflow lost of them."""
        known = self._memory.read(project) or Remembered()
        return [known.filled(each) for each in self._listed(project)]

    def _listed(self, project: str) -> list[ModelVersion]:
        with self._connection.client(f"versions of {project}") as client:
            found: list[ModelVersion] = []
            token: str | None = None
            while True:
                page = client.search_model_versions(f"name='{project}'", max_results=1000, page_token=token)
                found += [_record(each) for each in page]
                token = page.token
                if not token:
                    return sorted(found, key=lambda each: each.version)

    def version(self, project: str, version: int) -> ModelVersion:
        """One version. Raises `ModelNotFound`, which says which there are."""
        try:
            with self._connection.client(f"version {version} of {project}", missing=ModelNotFound) as client:
                found = _record(client.get_model_version(project, str(version)))
            return (self._memory.read(project) or Remembered()).filled(found)
        except ModelNotFound as error:
            raise ModelNotFound(f"{error}; {self.in_words(project)}") from error

    def in_words(self, project: str) -> str:
        """Which versions of a project there are; of an unknown one, which projects have some."""
        numbers = [str(each.version) for each in self.versions(project)]
        if not numbers:
            others = [each for each in self.projects() if each != project]
            return f"no version of {project} is registered" + (
                f"; {there_are(project, others)}" if others else ""
            )
        return f"{project} has version{'s' if len(numbers) > 1 else ''} {listed(numbers)}"

    def create_version(self, project: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """The version of these files: the one registered before, else a new one.

        `tags` must carry the digests of weights and ONNX file: they are what makes two versions the same. A number
        that was another model's is never given again, though MLflow counts anew where the project was deleted.
        """
        weights, onnx = tags[TAG_WEIGHTS], tags[TAG_ONNX]
        known = (self._memory.read(project) or Remembered()).versions

        def anothers(number: int) -> bool:
            return number in known and known[number].weights_sha256 != weights

        for each in self.versions(project):
            if (each.weights_sha256, each.onnx_sha256) == (weights, onnx) and not anothers(each.version):
                return each
        self.ensure(project)
        with self._connection.client(f"a new version of {project}") as client:
            while True:
                made = client.create_model_version(
                    project,
                    source=f"runs:/{run_id}/model",
                    run_id=run_id,
                    tags={key: storable(value) for key, value in tags.items()},
                    await_creation_for=0,
                )
                if not anothers(int(made.version)):
                    break
                client.delete_model_version(project, made.version)
        record = _record(made)
        self._memory.note(project, versions={record.version: record})
        return record

    def set_version_tags(self, project: str, version: int, tags: Mapping[str, str]) -> None:
        """Add or replace tags of one version. Raises `ModelNotFound`."""
        with self._connection.client(f"version {version} of {project}", missing=ModelNotFound) as client:
            for key, value in tags.items():
                client.set_model_version_tag(project, str(version), key, storable(value))

    def set_alias(self, project: str, alias: str, version: int) -> None:
        """Let an alias name a version. Raises `ModelNotFound`."""
        with self._connection.client(f"version {version} of {project}", missing=ModelNotFound) as client:
            client.set_registered_model_alias(project, alias, str(version))
        self._memory.note(project, aliases={alias: version})

    def delete_alias(self, project: str, alias: str) -> None:
        """Let an alias name nothing; one that does so already is as it should be."""
        with self._connection.client(f"registered model {project}", missing=ModelNotFound) as client:
            if alias in client.get_registered_model(project).aliases:
                client.delete_registered_model_alias(project, alias)
        self._memory.note(project, aliases={alias: None})


def _remembering(
    model: RegisteredModel, known: Remembered, there: Mapping[int, ModelVersion], *, gone: bool = False
) -> RegisteredModel:
    """What MLflow says, with what it said before."""
    return replace(
        model,
        tags={**known.tags, **model.tags},
        there=frozenset(there),
        remembered=known.versions,
        confirmed=known.aliases,
        assumed=known.assumed,
        recalled=frozenset(known.tags) - frozenset(model.tags),
        gone=gone,
    )


def _record(found: "MlflowVersion") -> ModelVersion:
    return ModelVersion(
        project=found.name,
        version=int(found.version),
        run_id=found.run_id or "",
        created=datetime.fromtimestamp((found.creation_timestamp or 0) / 1000, UTC),
        tags=dict(found.tags),
    )
