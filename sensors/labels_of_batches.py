"""Labels that came to `main` with a batch, of images that production captured, are told to production."""

import datetime
from dataclasses import dataclass

from resources.artifact_store import ArtifactStore
from resources.lakefs.client import LakeFSResource
from resources.lakefs_errors import LakeFSNotFound
from resources.model_errors import RegistryUnavailable
from resources.models.lock import PromotionLocked
from resources.models.registry import ModelRegistry
from resources.spool import Spool
from visionops_assets.project import Project


@dataclass(frozen=True)
class Taken:
    """Up to which commit of `main` labels were taken; `problem` says why no further, to be tried at the next tick."""

    seen: str | None
    problem: tuple[str, ...] = ()


def take_labels(
    project: Project,
    lakefs: LakeFSResource,
    registry: ModelRegistry,
    artifacts: ArtifactStore,
    spool: Spool,
    seen: str | None,
    now: datetime.datetime,
) -> Taken:
    """Record which requests the labels since the commit `seen` answer, then leave them in the spool.

    Predictions are collected though this cannot be done. Raises what lakeFS raises.
    """
    from visionops_assets.dataset.versions.annotations import AnnotationsError
    from visionops_assets.monitoring.acting.answers import record_answers
    from visionops_assets.monitoring.batch_labels import changed_labels, spool_labels
    from visionops_assets.monitoring.inference_log import production_repository
    from visionops_assets.monitoring.production_day import head_of

    who = f"VisionOps, sensor {project.project}_production"
    if head_of(lakefs, production_repository(project.repository)) is None:
        # Nothing was captured, so that no label of `main` is of production.
        return Taken(head_of(lakefs, project.repository))
    try:
        found = changed_labels(lakefs, project, seen)
        record_answers(project, found, registry=registry, artifacts=artifacts, who=who, now=now)
        spool_labels(lakefs, project, spool, found)
    except LakeFSNotFound:
        return Taken(seen)
    except (AnnotationsError, RegistryUnavailable, PromotionLocked) as error:
        return Taken(seen, (f"labels of batches wait: {error}",))
    return Taken(found.commit)
