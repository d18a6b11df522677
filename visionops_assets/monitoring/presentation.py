"""What the assets of production days show in the UI."""

from typing import Any

import dagster as dg

from resources.lakefs import LakeFSResource
from visionops_assets import metadata
from visionops_assets.daily import DayCheck
from visionops_assets.dataset.findings import findings_in_words
from visionops_assets.monitoring.inference_log import day_folder, production_repository
from visionops_assets.monitoring.production_day import ProductionDay, summary
from visionops_assets.project import Project

FINDINGS_SHOWN = 50


def log_metadata(lakefs: LakeFSResource, project: Project, found: ProductionDay) -> dict[str, Any]:
    """How much a day's log has, by model and device group, and where it was read."""
    shown: dict[str, Any] = {
        "rows": len(found.rows),
        "quarantined": found.quarantined,
        "devices": int(found.rows["device"].nunique()),
        "captures": int(found.rows["capture"].notna().sum()),
        "labels": int(found.rows["label"].notna().sum()),
        "by_model": metadata.table(summary(found.rows)),
    }
    if found.commit is not None:
        repository = production_repository(project.repository)
        where = {"ref": found.commit, "path": day_folder(project.project, found.day)}
        shown["commit"] = dg.MetadataValue.url(lakefs.link(repository, f"commits/{found.commit}"))
        shown["files"] = dg.MetadataValue.url(lakefs.link(repository, "objects", **where))
    return shown


def log_check(found: ProductionDay) -> DayCheck:
    """Whether anything of the day was left out. A warning: the rows that are there can be used."""
    return DayCheck(
        passed=found.findings.empty,
        description=f"{len(found.rows):,} rows. {findings_in_words(found.findings)}",
        metadata={
            "findings": len(found.findings),
            "shown": metadata.table(found.findings.head(FINDINGS_SHOWN), ["image", "what", "why"]),
        },
    )
