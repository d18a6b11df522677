"""What promotion needs of the model registry; `resources.models.registry.ModelRegistry` has it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from resources.model_records import ModelVersion, RegisteredModel, Run


class LostRuns(Protocol):
    """Runs that MLflow does not know any more."""

    def lacking(self, version: ModelVersion) -> str | None: ...

    def read(self, version: ModelVersion, path: str) -> bytes | None: ...


class Runs(Protocol):
    """Training runs."""

    @property
    def lost(self) -> LostRuns: ...

    def get(self, run_id: str) -> Run: ...

    def restore(
        self,
        version: ModelVersion,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        dataset: tuple[str, str, str] | None,
    ) -> None: ...


class Artifacts(Protocol):
    """Files of runs, whole or absent."""

    def put_bytes(self, run_id: str, path: str, data: bytes) -> None: ...

    def read_bytes(self, run_id: str, path: str) -> bytes: ...

    def sha256(self, run_id: str, path: str) -> str: ...

    def exists(self, run_id: str, path: str) -> bool: ...


class Models(Protocol):
    """Registered models; each call is atomic, several are not."""

    def get(self, project: str) -> RegisteredModel: ...

    def projects(self) -> list[str]: ...

    def set_tag(self, project: str, key: str, value: str) -> None: ...

    def version(self, project: str, version: int) -> ModelVersion: ...

    def create_version(self, project: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion: ...

    def set_version_tags(self, project: str, version: int, tags: Mapping[str, str]) -> None: ...

    def set_alias(self, project: str, alias: str, version: int) -> None: ...

    def delete_alias(self, project: str, alias: str) -> None: ...

    def recall(self, project: str) -> None: ...


class Registry(Protocol):
    """Runs, their files, registered models, and a lock per project that dies with its holder."""

    @property
    def runs(self) -> Runs: ...

    @property
    def artifacts(self) -> Artifacts: ...

    @property
    def models(self) -> Models: ...

    def lock(self, project: str) -> AbstractContextManager[None]: ...
