"""All that the product talks to, as one value: made from the environment once, and handed on whole."""

from dataclasses import dataclass

from resources import home
from resources.drop import Drop
from resources.lakefs.client import LakeFSResource
from resources.models.registry import ModelRegistry
from resources.settings import given
from resources.storage import ArtifactStore, Scratch, Spool
from resources.webhooks import VARIABLES, Webhooks

LAKEFS_SECONDS = 60.0


@dataclass(frozen=True)
class Stores:
    """What a stage reads from and writes to: a part of `Services`."""

    lakefs: LakeFSResource
    registry: ModelRegistry
    artifacts: ArtifactStore
    scratch: Scratch


@dataclass(frozen=True)
class Services:
    """The clients of a team's services. Each opens its connection when it is first asked, so that making all of them
    costs nothing.

    `artifacts` keeps tables and records, `edge` what devices fetch, `scratch` what may be lost, `spool` predictions
    that wait for the collector, `drop` the batches of labelling teams; `webhooks` are told how runs ended.
    """

    lakefs: LakeFSResource
    registry: ModelRegistry
    artifacts: ArtifactStore
    edge: ArtifactStore
    scratch: Scratch
    spool: Spool
    drop: Drop
    webhooks: Webhooks

    @property
    def stores(self) -> Stores:
        """What stages read from and write to."""
        return Stores(self.lakefs, self.registry, self.artifacts, self.scratch)

    @classmethod
    def from_environment(cls, *, lakefs_seconds: float = LAKEFS_SECONDS) -> "Services":
        """Those that the environment names; else the embedded lakeFS, and MLflow's store and folders under
        VISIONOPS_HOME. A variable that is empty, as CI leaves it, is not set.

        `lakefs_seconds` is how long lakeFS may take to answer.
        """
        return cls(
            lakefs=LakeFSResource(
                timeout_seconds=lakefs_seconds,
                endpoint=_set("LAKEFS_ENDPOINT"),
                access_key_id=_set("LAKEFS_ACCESS_KEY_ID"),
                secret_access_key=_set("LAKEFS_SECRET_ACCESS_KEY"),
                ui_url=_set("LAKEFS_UI_URL"),
            ),
            registry=ModelRegistry(ui_url=_set("MLFLOW_UI_URL"), memory=home.artifacts()),
            artifacts=ArtifactStore(root=home.artifacts()),
            edge=ArtifactStore(root=home.edge()),
            scratch=Scratch(root=str(home.cache())),
            spool=Spool.from_environment(),
            drop=Drop.from_environment(),
            webhooks=Webhooks(errors_url=_set(VARIABLES["errors"]), verdicts_url=_set(VARIABLES["verdicts"])),
        )


def _set(name: str) -> str | None:
    return given(name) or None
