"""Registered models in MLflow: versions of a project, their tags, and which one an alias names."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from resources.escaping import storable
from resources.model_connection import ModelConnection
from resources.model_errors import ModelNotFound, RegistryRefused
from resources.model_records import TAG_ONNX, TAG_WEIGHTS, ModelVersion, RegisteredModel
from resources.nearest import listed, there_are

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

# The column's width in Postgres and MySQL; sqlite would take more.
TAG_LENGTH = 5000


class Models:
    """One registered model a project, of the project's name."""

    def __init__(self, connection: ModelConnection) -> None:
        self._connection = connection

    def get(self, project: str) -> RegisteredModel:
        """The project's tags and aliases; empty ones if nothing was ever registered."""
        try:
            with self._connection.client(f"registered model {project}", missing=ModelNotFound) as client:
                found = client.get_registered_model(project)
        except ModelNotFound:
            return RegisteredModel(project)
        aliases = {name: int(version) for name, version in found.aliases.items()}
        return RegisteredModel(project, dict(found.tags), aliases)

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
        """Give a registered model another name, with its versions, tags and aliases. Raises `ModelNotFound`.

        An entry without versions that has the name already makes room.
        """
        with self._connection.client(f"registered model {project}", missing=ModelNotFound) as client:
            taken = name in self.projects() and not self.versions(name)
            if taken:
                client.delete_registered_model(name)
            client.rename_registered_model(project, name)

    def ensure(self, project: str) -> None:
        """Create the registered model unless it is there."""
        from mlflow.exceptions import MlflowException

        with self._connection.client(f"registered model {project}") as client:
            try:
                client.create_registered_model(project)
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

    def versions(self, project: str) -> list[ModelVersion]:
        """All versions, oldest first."""
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
                return _record(client.get_model_version(project, str(version)))
        except ModelNotFound as error:
            raise ModelNotFound(f"{error}; {self.in_words(project)}") from error

    def in_words(self, project: str) -> str:
        """Which versions of a project there are; of an unknown one, which projects have some."""
        numbers = [str(each.version) for each in self.versions(project)]
        if not numbers:
            others = there_are(project, registered) if (registered := self.projects()) else ""
            return f"no version of {project} is registered" + (f"; {others}" if others else "")
        return f"{project} has version{'s' if len(numbers) > 1 else ''} {listed(numbers)}"

    def create_version(self, project: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """The version of these files: the one registered before, else a new one.

        `tags` must carry the digests of weights and ONNX file: they are what makes two versions the same.
        """
        weights, onnx = tags[TAG_WEIGHTS], tags[TAG_ONNX]
        for each in self.versions(project):
            if each.weights_sha256 == weights and each.onnx_sha256 == onnx:
                return each
        self.ensure(project)
        with self._connection.client(f"a new version of {project}") as client:
            made = client.create_model_version(
                project,
                source=f"runs:/{run_id}/model",
                run_id=run_id,
                tags={key: storable(value) for key, value in tags.items()},
                await_creation_for=0,
            )
        return _record(made)

    def set_version_tags(self, project: str, version: int, tags: Mapping[str, str]) -> None:
        """Add or replace tags of one version. Raises `ModelNotFound`."""
        with self._connection.client(f"version {version} of {project}", missing=ModelNotFound) as client:
            for key, value in tags.items():
                client.set_model_version_tag(project, str(version), key, storable(value))

    def set_alias(self, project: str, alias: str, version: int) -> None:
        """Let an alias name a version. Raises `ModelNotFound`."""
        with self._connection.client(f"version {version} of {project}", missing=ModelNotFound) as client:
            client.set_registered_model_alias(project, alias, str(version))


def _record(found: "MlflowVersion") -> ModelVersion:
    return ModelVersion(
        project=found.name,
        version=int(found.version),
        run_id=found.run_id or "",
        created=datetime.fromtimestamp((found.creation_timestamp or 0) / 1000, UTC),
        tags=dict(found.tags),
    )
