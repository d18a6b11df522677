"""What `champion` and `in_production` show in the UI."""

from typing import Any

import dagster as dg

from resources.model_records import MODEL_CARD_ARTIFACT
from resources.model_registry import ModelRegistry
from visionops_assets.evaluation.verdicts import ListedVerdict
from visionops_assets.project import Project
from visionops_assets.promotion.change import Change
from visionops_assets.promotion.history import production
from visionops_assets.promotion.intervals import COLUMNS, intervals_table
from visionops_assets.promotion.model_card import About, keep_model_card
from visionops_assets.promotion.production_report import ProductionReport

_HOW = {"promotion": "promoted", "override": "promoted against its verdict", "rollback": "rolled back to"}


def history_table(registry: ModelRegistry, project: str, group: str) -> dg.TableMetadataValue:
    """The whole history of what was in production from when to when, newest first."""
    table = intervals_table(production(registry.models.get(project), group).intervals)
    return dg.MetadataValue.table(
        [dg.TableRecord(dict(zip(COLUMNS, map(str, row), strict=True))) for row in table.rows],
        schema=dg.TableSchema(columns=[dg.TableColumn(name) for name in COLUMNS]),
    )


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
        "registered_version": dg.MetadataValue.url(registry.version_url(project, version)),
        "history": history_table(registry, project, entry.group if entry is not None else "all"),
        **({"note": change.note} if change.note else {}),
    }


def champion_metadata(
    registry: ModelRegistry, project: Project, change: Change, decision: ListedVerdict
) -> dict[str, Any]:
    """What became champion and why, its card, and the history it stands in. Writes a card that is missing."""
    name, version = project.project, change.version or 0
    about = About(project.description, project.task, project.owners, project.licence)
    card = keep_model_card(registry, name, version, about)
    run = registry.runs.get(registry.models.version(name, version).run_id)
    return {
        "why": decision.summary,
        **change_metadata(registry, name, change),
        "verdict": decision.identity,
        "model_card": dg.MetadataValue.md(card),
        "model_card_file": dg.MetadataValue.url(registry.run_url(run, MODEL_CARD_ARTIFACT)),
        "mlflow_run": dg.MetadataValue.url(registry.run_url(run)),
    }


def production_metadata(registry: ModelRegistry, project: str, report: ProductionReport) -> dict[str, Any]:
    """Why this model runs, and where everything that belongs to it is. Only text and tables show without a click."""
    return {
        "why": report.why,
        "trained_on": report.trained_on,
        "what_changed": report.what_changed,
        "in_detail": dg.MetadataValue.md(report.markdown),
        "version": report.version,
        "group": report.group,
        "report": dg.MetadataValue.url(report.url),
        "commit": dg.MetadataValue.url(report.commit_url),
        "registered_version": dg.MetadataValue.url(registry.version_url(project, report.version)),
        "weights_sha256": report.weights_sha256,
    }
