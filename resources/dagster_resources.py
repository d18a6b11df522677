"""The clients as Dagster's resources: what is configured is shown on its pages, secrets by the name of their variable
alone, and read when a run begins.

The clients themselves know no Dagster; this is the one file around them that does.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from resources.drop import Drop
from resources.lakefs.client import LakeFSResource
from resources.models.registry import ModelRegistry
from resources.service_clients import Services
from resources.settings import given
from resources.storage import ArtifactStore, Scratch, Spool
from resources.webhooks import VARIABLES, Webhooks


class BoundLakeFS(dg.ConfigurableResource[LakeFSResource]):
    """lakeFS; with no endpoint, the embedded one, started when needed."""

    endpoint: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    ui_url: str | None = None

    def create_resource(self, context: dg.InitResourceContext) -> LakeFSResource:
        """The client of this server."""
        return LakeFSResource(
            endpoint=self.endpoint,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            ui_url=self.ui_url,
        )


class BoundRegistry(dg.ConfigurableResource[ModelRegistry]):
    """MLflow; with no address, the store under VISIONOPS_HOME."""

    tracking_uri: str | None = None
    ui_url: str | None = None
    memory: str | None = None

    def create_resource(self, context: dg.InitResourceContext) -> ModelRegistry:
        """The client of this registry."""
        return ModelRegistry(tracking_uri=self.tracking_uri, ui_url=self.ui_url, memory=self.memory)


class BoundArtifacts(dg.ConfigurableResource[ArtifactStore]):
    """Tables and records: a folder or any address that fsspec opens."""

    root: str

    def create_resource(self, context: dg.InitResourceContext) -> ArtifactStore:
        """The store at this root."""
        return ArtifactStore(root=self.root)


class BoundSpool(dg.ConfigurableResource[Spool]):
    """Where predictions wait for the collector."""

    root: str

    def create_resource(self, context: dg.InitResourceContext) -> Spool:
        """The spool at this root."""
        return Spool(root=self.root)


class BoundScratch(dg.ConfigurableResource[Scratch]):
    """Decoded samples and unfinished trainings, on a disk of this machine."""

    root: str

    def create_resource(self, context: dg.InitResourceContext) -> Scratch:
        """The folder at this root."""
        return Scratch(root=self.root)


class BoundDrop(dg.ConfigurableResource[Drop]):
    """Where labelling teams put batches."""

    root: str
    staging: str

    def create_resource(self, context: dg.InitResourceContext) -> Drop:
        """The drop at this root."""
        return Drop(root=self.root, staging=self.staging)


class BoundWebhooks(dg.ConfigurableResource[Webhooks]):
    """Who is told how runs ended."""

    errors_url: str | None = None
    verdicts_url: str | None = None

    def create_resource(self, context: dg.InitResourceContext) -> Webhooks:
        """The client of these addresses."""
        return Webhooks(errors_url=self.errors_url, verdicts_url=self.verdicts_url)


def bound_resources(services: Services) -> Mapping[str, Any]:
    """What `definitions.py` gives assets and sensors, by the name of their parameter: `services`, with each secret as
    the variable it stands in, so that Dagster stores none.
    """
    return {
        "lakefs": BoundLakeFS(
            endpoint=_from_environment("LAKEFS_ENDPOINT"),
            access_key_id=_from_environment("LAKEFS_ACCESS_KEY_ID"),
            secret_access_key=_from_environment("LAKEFS_SECRET_ACCESS_KEY"),
            ui_url=_from_environment("LAKEFS_UI_URL"),
        ),
        "registry": BoundRegistry(
            tracking_uri=_from_environment("MLFLOW_TRACKING_URI"),
            ui_url=_from_environment("MLFLOW_UI_URL"),
            memory=services.registry.memory,
        ),
        "drop": BoundDrop(root=services.drop.root, staging=services.drop.staging),
        "artifacts": BoundArtifacts(root=services.artifacts.root),
        "edge": BoundArtifacts(root=services.edge.root),
        "spool": BoundSpool(root=services.spool.root),
        "webhooks": BoundWebhooks(
            errors_url=_from_environment(VARIABLES["errors"]),
            verdicts_url=_from_environment(VARIABLES["verdicts"]),
        ),
        "scratch": BoundScratch(root=services.scratch.root),
    }


def _from_environment(name: str) -> dg.EnvVar | None:
    return dg.EnvVar(name) if given(name) else None
