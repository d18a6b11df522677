"""Runs of one's own training script, recorded as `visionops train` records its own, so that they compare and can be
submitted:

    from visionops import tracking

    with tracking.start("digits", params={"lr": 0.001}) as run:
        run.log(epoch, train_loss=loss, validation_accuracy=accuracy)  # once an epoch
        run.log_model(model)

Light: torch, MLflow and lakeFS are imported when a run starts.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visionops_assets.experiments.script import ScriptRun


@contextmanager
def start(
    project: str,
    *,
    params: Mapping[str, Any] | None = None,
    version: str | None = None,
    name: str | None = None,
    normalise: bool = True,
) -> "Iterator[ScriptRun]":
    """A run of a project on a dataset version: a key, commit, branch, tag or batch, by default the newest.

    `params` may be nested. `normalise` says that the model takes what `run.prepared` gives; without it, images are
    float [N, C, H, W] in 0..1. An exception ends the run as failed.

    Raises `ProjectError`, `EmptyVersion`, `WandbMissing`, and what lakeFS and MLflow raise.
    """
    from visionops import bootstrap, services

    bootstrap.prepare()
    from visionops_assets.dataset.versions.dataset_version import named_version
    from visionops_assets.experiments.script import open_script_run

    found, stores = services.project(project), services.stores()
    with open_script_run(
        found,
        named_version(stores.lakefs, stores.artifacts, found, version),
        dict(params or {}),
        stores,
        name=name,
        normalise=normalise,
    ) as run:
        yield run
