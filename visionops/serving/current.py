"""Which model answers: the one in production, looked up again and again, and swapped between two batches."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from edge.model import ModelFileError
from resources.model_errors import RegistryError
from visionops_assets.inference.shipped_model import processors
from visionops_assets.monitoring.prediction import (
    NothingInProduction,
    RunningModel,
    open_version,
    running_version,
)
from visionops_assets.registry import Registry

_log = logging.getLogger(__name__)


# Each holds what a network computes of a batch.
_MOST_AT_ONCE = 4


def batches_at_once(threads: int) -> int:
    """How many batches of so many threads each, 0 for as many as it takes, keep this machine's processors busy."""
    return min(_MOST_AT_ONCE, max(1, processors() // max(1, threads)))


class CurrentModel:
    """The model that answers now. A batch takes it once, so each answer is of one model, whole; `at_once` of them may
    be answered."""

    def __init__(self, registry: Registry, project: str, group: str, threads: int) -> None:
        """Opens what is in production. Raises `NothingInProduction`, `ModelFileError`, and what MLflow raises."""
        self.at_once = batches_at_once(threads)
        self._registry, self._project, self._group, self._threads = registry, project, group, threads
        self.problem: str | None = None
        self._set(open_version(registry, running_version(registry, project, group), threads, self.at_once))

    @property
    def model(self) -> RunningModel:
        """The model."""
        return self._model

    def look(self) -> bool:
        """Look what is in production and change to it, opened before the change. True if the model changed.

        Where that fails the present one goes on answering, and `problem` says why.
        """
        try:
            wanted = running_version(self._registry, self._project, self._group)
            if (wanted.version, wanted.onnx_sha256) != (self._model.version, self._model.onnx_sha256):
                self._set(open_version(self._registry, wanted, self._threads, self.at_once))
                _log.info("version %s of %s answers now", wanted.version, self._project)
                return True
            self.problem = None
        except (RegistryError, NothingInProduction, ModelFileError, OSError) as error:
            if self.problem != str(error):
                _log.warning("version %s goes on answering: %s", self._model.version, error)
            self.problem = str(error)
        return False

    async def watch(self, every: float, changed: Callable[[RunningModel], None]) -> None:
        """Look every so many seconds, for ever."""
        while True:
            await asyncio.sleep(every)
            if await asyncio.to_thread(self.look):
                changed(self._model)

    def _set(self, model: RunningModel) -> None:
        self._model, self.since, self.problem = model, datetime.now(UTC), None
