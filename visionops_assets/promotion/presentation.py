"""What `champion` and `in_production` show in the UI."""

from typing import Any

import dagster as dg

from resources.artifact_store import ArtifactStore
from resources.lakefs import LakeFSResource
from resources.model_records import (
    MODEL_CARD_ARTIFACT,
    TAG_REPRODUCTION,
    TAG_REPRODUCTION_PAGE,
    ModelVersion,
)
from resources.model_registry import ModelRegistry
from visionops_assets.evaluation.verdicts import ListedVerdict
from visionops_assets.project import Project
from visionops_assets.promotion.change import Change
from visionops_assets.promotion.history import HistoryEntry, groups, newest_change, production
from visionops_assets.promotion.intervals import COLUMNS, intervals_table
from visionops_assets.promotion.model_card import About, keep_model_card
from visionops_assets.promotion.production_report import ProductionReport, report_on_production

CHANGE = "change"
_HOW = {"promotion": "promoted", "override": "promoted against its verdict", "rollback": "rolled back to"}


def history_table(registry: ModelRegistry, project: str) -> dg.TableMetadataValue:
    """The whole history of what was in production from when to when: every device group, newest first."""
    model = registry.models.get(project)
    columns = ("group", *COLUMNS)
    rows = [
        dg.TableRecord(dict(zip(columns, (group, *map(str, row)), strict=True)))
        for group in groups(model)
        for row in intervals_table(production(model, group).intervals).rows
    ]
    return dg.MetadataValue.table(
        rows, schema=dg.TableSchema(columns=[dg.TableColumn(name) for name in columns])
    )


def version_links(registry: ModelRegistry, version: ModelVersion) -> dict[str, Any]:
    """Where a version's pages are: its registration, its run, its card, its last reproduction."""
    run = registry.runs.get(version.run_id)
    links: dict[str, Any] = {
        "registered_version": dg.MetadataValue.url(registry.version_url(version.project, version.version)),
        "mlflow_run": dg.MetadataValue.url(registry.run_url(run)),
        "model_card_file": dg.MetadataValue.url(registry.run_url(run, MODEL_CARD_ARTIFACT)),
        "reproduction": version.tags.get(TAG_REPRODUCTION)
        or f"never tried: `visionops reproduce {version.project} --version {version.version}`",
    }
    page = version.tags.get(TAG_REPRODUCTION_PAGE)
    return {**links, **({"certificate": dg.MetadataValue.url(registry.run_url(run, page))} if page else {})}


def change_metadata(registry: ModelRegistry, project: str, change: Change) -> dict[str, Any]:
    """What a promotion or rollback did, by whom, in place of what."""
    entry, version = change.entry, change.version or 0
    replaced = entry.from_version if entry is not None else None
    return {
        "version": version,
        "how": _HOW.get(entry.kind, entry.kind) if entry is not None else "not recorded",
        "replaced": f"version {replaced}" if replaced is not None else "nothing: the first champion",
        "changed": change.changed,
        "by": entry.who if entry is not None else "unknown",
        "history": history_table(registry, project),
        **({"note": change.note} if change.note else {}),
    }


def champion_metadata(
    registry: ModelRegistry, project: Project, change: Change, decision: ListedVerdict
) -> dict[str, Any]:
    """What became champion and why, its card, and the history it stands in. Writes a card that is missing."""
    name, version = project.project, change.version or 0
    about = About(project.description, project.task, project.owners, project.licence)
    card = keep_model_card(registry, name, version, about)
    return {
        "why": decision.summary,
        **change_metadata(registry, name, change),
        "verdict": decision.identity,
        "model_card": dg.MetadataValue.md(card),
        **version_links(registry, registry.models.version(name, version)),
    }


def production_materialisation(
    project: Project,
    key: dg.AssetKey,
    group: str,
    *,
    lakefs: LakeFSResource,
    registry: ModelRegistry,
    artifacts: ArtifactStore,
) -> dg.AssetMaterialization:
    """The event that says in the UI what runs after a change. Raises what MLflow and lakeFS raise."""
    found = report_on_production(project, lakefs=lakefs, registry=registry, artifacts=artifacts, group=group)
    return dg.AssetMaterialization(
        asset_key=key,
        description=found.why,
        metadata=production_metadata(registry, project.project, found),
        tags={"dagster/data_version": found.weights_sha256},
    )


def untold_change(
    instance: dg.DagsterInstance, registry: ModelRegistry, project: str, key: dg.AssetKey
) -> HistoryEntry | None:
    """The last change of what runs, where `in_production` does not tell of it: who made it was stopped before, or
    could not reach Dagster. Raises what MLflow raises."""
    newest = newest_change(registry.models.get(project))
    event = instance.get_latest_materialization_event(key)
    shown = event.asset_materialization if event is not None else None
    told = shown.metadata.get(CHANGE) if shown is not None else None
    up_to = int(str(told.value)) if told is not None else -1
    return newest if newest is not None and newest.number > up_to else None


def production_metadata(registry: ModelRegistry, project: str, report: ProductionReport) -> dict[str, Any]:
    """Why this model runs, and where everything that belongs to it is. Only text and tables show without a click."""
    return {
        "why": report.why,
        "trained_on": report.trained_on,
        "what_changed": report.what_changed,
        "in_detail": dg.MetadataValue.md(report.markdown),
        "version": report.version,
        "group": report.group,
        CHANGE: report.change,
        "report": dg.MetadataValue.url(report.url),
        "commit": dg.MetadataValue.url(report.commit_url),
        "history": history_table(registry, project),
        **version_links(registry, registry.models.version(project, report.version)),
        "weights_sha256": report.weights_sha256,
    }
