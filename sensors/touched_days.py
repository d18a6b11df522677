"""Which production days are to be looked at: those that commits touched since they were looked at last.

Labels that came to `main` with a batch, of images that production captured, are told to production.
"""

import contextlib
import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import dagster as dg

from resources import clocks
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSNotFound
from resources.models.lock import PromotionLocked
from resources.models.records import RegistryUnavailable
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore, Spool
from visionops_assets.common import run_tags
from visionops_assets.config.project import Project
from visionops_assets.monitoring.inference_log import (
    LABELS,
    LOGGED,
    belongs_to,
    day_of,
    production_repository,
)
from visionops_assets.shells.asset_options import production_days

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class Touched(NamedTuple):
    """Days of which anything is new, and those among all that have labels which the newest day has not seen."""

    days: frozenset[str]
    labelled: frozenset[str]


def touched_days(
    project: Project, lakefs: LakeFSResource, instance: dg.DagsterInstance, seen: str | None, head: str
) -> Touched:
    """What commits touched from `seen` to `head`. Without `seen`, each day counts from the commit that its last good
    run looked at, and labels from that of the newest day. Raises what lakeFS raises."""
    partitions = production_days(project.production.since)

    @cache
    def since(commit: str | None, prefixes: Sequence[str]) -> frozenset[str]:
        found = _days_of_paths(lakefs, project, commit, head, prefixes)
        return frozenset(day for day in found if partitions.has_partition_key(day) or _to_come(day))

    if seen is not None:
        return Touched(since(seen, LOGGED), since(seen, (LABELS,)))
    looked_at = _looked_at(project, instance)
    days = frozenset(day for day in since(None, LOGGED) if day in since(looked_at.get(day), LOGGED))
    newest = max(looked_at, default="")
    return Touched(days, since(looked_at.get(newest), (LABELS,)))


def _to_come(day: str) -> bool:
    """A day that is none yet: it is looked at when it has begun, though nothing more may come for it."""
    return _DAY.fullmatch(day) is not None and day > f"{clocks.now():%Y-%m-%d}"


def _looked_at(project: Project, instance: dg.DagsterInstance) -> dict[str, str]:
    """The commit that the last good run of each day looked at."""
    filters = dg.RunsFilter(tags={run_tags.PROJECT: project.project}, statuses=[dg.DagsterRunStatus.SUCCESS])
    found: dict[str, str] = {}
    for run in instance.get_runs(filters):
        if run_tags.DAY in run.tags and run_tags.COMMIT in run.tags:
            found.setdefault(run.tags[run_tags.DAY], run.tags[run_tags.COMMIT])
    return found


def _days_of_paths(
    lakefs: LakeFSResource, project: Project, seen: str | None, head: str, prefixes: Sequence[str]
) -> set[str]:
    """The days of which something under the prefixes differs; every day there is where nothing was seen yet."""
    repository = production_repository(project.repository)
    return {
        day
        for prefix in (each.format(project=project.project) for each in prefixes)
        for path in _changed_paths(lakefs, repository, seen, head, prefix)
        if belongs_to(path, project.project) and (day := day_of(path)) is not None
    }


def _changed_paths(
    lakefs: LakeFSResource, repository: str, seen: str | None, head: str, prefix: str
) -> list[str]:
    if seen == head:
        return []
    if seen is not None:
        # A repository that was made anew does not know what was seen of the old one.
        with contextlib.suppress(LakeFSNotFound):
            changes = lakefs.diff(repository, seen, head, prefix)
            # What is removed was too old to be kept.
            return [change.path for change in changes if change.kind != "removed"]
    return [entry.path for entry in lakefs.objects(repository, head, prefix)]


@dataclass(frozen=True)
class TakenLabels:
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
) -> TakenLabels:
    """Record which requests the labels since the commit `seen` answer, then leave them in the spool.

    Predictions are collected though this cannot be done. Raises what lakeFS raises.
    """
    from visionops_assets.dataset.versions.annotations import AnnotationsError
    from visionops_assets.monitoring.inference_log import production_repository
    from visionops_assets.monitoring.production_day import head_of
    from visionops_assets.monitoring.response.labels_of_batches import (
        changed_labels,
        record_answers,
        spool_labels,
    )

    who = f"VisionOps, sensor {project.project}_production"
    if head_of(lakefs, production_repository(project.repository)) is None:
        # Nothing was captured, so that no label of `main` is of production.
        return TakenLabels(head_of(lakefs, project.repository))
    try:
        found = changed_labels(lakefs, project, seen)
        record_answers(project, found, registry=registry, artifacts=artifacts, who=who, now=now)
        spool_labels(lakefs, project, spool, found)
    except LakeFSNotFound:
        return TakenLabels(seen)
    except (AnnotationsError, RegistryUnavailable, PromotionLocked) as error:
        return TakenLabels(seen, (f"labels of batches wait: {error}",))
    return TakenLabels(found.commit)
