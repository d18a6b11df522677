"""What `champion` and `in_production` show in the UI."""

from typing import Any

import dagster as dg

from resources.lakefs.client import LakeFSResource
from resources.models.records import (
    EVERYWHERE,
    MODEL_CARD_ARTIFACT,
    TAG_REPRODUCTION,
    TAG_REPRODUCTION_PAGE,
    ModelVersion,
    RegisteredModel,
    alias_of,
    version_on,
)
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactNotFound, ArtifactStore
from visionops_assets.champions.history import HistoryEntry, groups, newest_change, nothing_runs, production
from visionops_assets.common.keys import devices_run_key
from visionops_assets.config.project import Project
from visionops_assets.evaluation.verdict_store import ListedVerdict
from visionops_assets.promotion.model_card import About, keep_model_card
from visionops_assets.promotion.production_change import INTERVAL_COLUMNS, Change, intervals_table
from visionops_assets.promotion.production_report import ProductionReport, report_on_production
from visionops_assets.shells.asset_options import IN_PRODUCTION, asset_key
from visionops_assets.shells.outputs import lines, text_table
from visionops_assets.shells.unstable_dagster import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    NULL_DATA_VERSION,
    NULL_EVENT_POINTER,
    extract_data_version_from_entry,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)

CHANGE = "change"
# The data version of `in_production` where no model runs.
NOTHING = "none"
_HOW = {
    "promotion": "promoted",
    "override": "promoted against its verdict",
    "delivery": "delivered",
    "rollback": "rolled back to",
    "restoration": "set again",
    "retirement": "taken out of production",
}


def history_table(registry: ModelRegistry, project: str) -> dg.TableMetadataValue:
    """The whole history of what was in production from when to when: every device group, newest first."""
    model = registry.models.get(project)
    columns = ("group", *INTERVAL_COLUMNS)
    rows = [
        (group, *map(str, row))
        for group in groups(model)
        for row in intervals_table(production(model, group).intervals).rows
    ]
    return text_table(columns, rows)


def groups_table(project: Project, model: RegisteredModel, artifacts: ArtifactStore) -> dg.TableMetadataValue:
    """A row a device group, declared ones too: what it runs by the aliases, since when, whether by a champion of its
    own, and what its devices said last that they run."""
    columns = ("group", "version", "since (UTC)", "how", "by", "devices run")
    try:
        run = artifacts.read_json(devices_run_key(project.delivered_as))
    except ArtifactNotFound:
        run = {}
    rows = []
    declared = {EVERYWHERE, *project.delivery.groups, *run}
    for group in dict.fromkeys([*groups(model), *project.delivery.groups, *run]):
        now = production(model, group)
        if group not in declared and now.since is not None and now.since.kind == "retirement":
            # Nobody has to know any more that it was.
            continue
        running = version_on(model, group)
        own = now.version is not None
        since = now.since if own else production(model).since
        how = "unclear: moved by hand" if now.foreign else "" if since is None else _HOW.get(since.kind, "")
        rows.append(
            (
                group,
                "none" if running is None else str(running),
                f"{since.when:%Y-%m-%d %H:%M}" if since is not None else "",
                how if own or group == EVERYWHERE or now.foreign else f"as {EVERYWHERE}",
                since.who if since is not None else "",
                str(run.get(group, "")),
            )
        )
    return text_table(columns, rows)


def version_links(registry: ModelRegistry, version: ModelVersion) -> dict[str, Any]:
    """Where a version's pages are: its registration, its run, its card, its last reproduction."""
    run = registry.runs.get(version.run_id)
    links: dict[str, Any] = {
        "registered_version": dg.MetadataValue.url(registry.version_url(version.project, version.version)),
        "mlflow_run": dg.MetadataValue.url(registry.run_url(run)),
        "model_card_file": dg.MetadataValue.url(registry.run_url(run, MODEL_CARD_ARTIFACT)),
        "reproduction": version.tags.get(TAG_REPRODUCTION)
        or f"never tried: `visionops reproduce {version.project} --model-version {version.version}`",
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
        "reason": lines("reason", decision.summary),
        **change_metadata(registry, name, change),
        "why": decision.summary,
        "verdict": decision.identity,
        "model_card": dg.MetadataValue.md(card),
        **version_links(registry, registry.models.version(name, version)),
    }


def production_materialisation(
    instance: dg.DagsterInstance,
    project: Project,
    key: dg.AssetKey,
    group: str,
    *,
    lakefs: LakeFSResource,
    registry: ModelRegistry,
    artifacts: ArtifactStore,
) -> dg.AssetMaterialization:
    """The event that says in the UI what runs after a change, or that nothing does: what all run, wherever it was that
    something changed, and a row a group. Only where all run nothing is it what the group runs.

    Raises what MLflow and lakeFS raise.
    """
    model = registry.models.get(project.project)
    changed, known = group, newest_change(model)
    group = group if model.aliases.get(alias_of(EVERYWHERE)) is None else EVERYWHERE
    # Where a group lost its own, servers answer by the champion of all, and it has none all the same.
    if model.aliases.get(alias_of(group)) is None:
        return dg.AssetMaterialization(
            asset_key=key,
            description=nothing_in_words(model, group),
            metadata=nothing_metadata(registry, project, model, artifacts, group),
            tags={DATA_VERSION_TAG: NOTHING, **_provenance(instance, project)},
        )
    found = report_on_production(project, lakefs=lakefs, registry=registry, artifacts=artifacts, group=group)
    return dg.AssetMaterialization(
        asset_key=key,
        description=known.sentence() if known is not None and changed != group else found.why,
        metadata=production_metadata(registry, project, found, artifacts),
        tags={DATA_VERSION_TAG: found.weights_sha256, **_provenance(instance, project)},
    )


def groups_told_anew(
    instance: dg.DagsterInstance, registry: ModelRegistry, project: Project, artifacts: ArtifactStore
) -> dg.AssetMaterialization | None:
    """What `in_production` says, with the groups as they are now: for devices that say that they run something else.
    None where it says so, or nothing was ever told. Raises what MLflow raises."""
    key = asset_key(project, IN_PRODUCTION)
    event = instance.get_latest_materialization_event(key)
    told = event.asset_materialization if event is not None else None
    if told is None:
        return None
    table = groups_table(project, registry.models.get(project.project), artifacts)
    if told.metadata.get("groups") == table:
        return None
    return dg.AssetMaterialization(
        key, description=told.description, metadata={**told.metadata, "groups": table}, tags=told.tags
    )


def nothing_in_words(model: RegisteredModel, group: str = EVERYWHERE) -> str:
    """That nothing runs, since when, and who says why."""
    since = production(model, group).since
    return f"{nothing_runs(model, group)}. {since.sentence() if since is not None else 'None ever was.'}"


def nothing_metadata(
    registry: ModelRegistry,
    project: Project,
    model: RegisteredModel,
    artifacts: ArtifactStore,
    group: str = EVERYWHERE,
) -> dict[str, Any]:
    """The same where a model's numbers and links would stand."""
    known, said = newest_change(model), nothing_in_words(model, group)
    return {
        "reason": lines("reason", said),
        "why": said,
        "group": group,
        CHANGE: known.number if known is not None else 0,
        "groups": groups_table(project, model, artifacts),
        "history": history_table(registry, model.project),
    }


def _provenance(instance: dg.DagsterInstance, project: Project) -> dict[str, str]:
    """What it was made from, as Dagster notes of its own steps; else it calls what a refused version left out a new
    input, and the asset unsynced."""
    champion = asset_key(project, "champion")
    made = instance.fetch_materializations(champion, limit=1).records
    return {
        CODE_VERSION_TAG: project.project,
        get_input_event_pointer_tag(champion): str(made[0].storage_id) if made else NULL_EVENT_POINTER,
        get_input_data_version_tag(champion): _data_version(made[0]) if made else NULL_DATA_VERSION.value,
    }


def _data_version(record: dg.EventLogRecord) -> str:
    found = extract_data_version_from_entry(record.event_log_entry)
    return found.value if found is not None else NULL_DATA_VERSION.value


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


def production_metadata(
    registry: ModelRegistry, project: Project, report: ProductionReport, artifacts: ArtifactStore
) -> dict[str, Any]:
    """Why this model runs, and where everything that belongs to it is. Only text and tables show without a click."""
    model = registry.models.get(project.project)
    known = newest_change(model)
    return {
        "reason": lines("reason", report.why),
        "trained_on": report.trained_on,
        "what_changed": report.what_changed,
        "changed_last": known.sentence() if known is not None else "",
        "groups": groups_table(project, model, artifacts),
        "why": report.why,
        "in_detail": dg.MetadataValue.md(report.markdown),
        "version": report.version,
        "group": report.group,
        CHANGE: report.change,
        "report": dg.MetadataValue.url(report.url),
        "commit": dg.MetadataValue.url(report.commit_url),
        "history": history_table(registry, project.project),
        **version_links(registry, registry.models.version(project.project, report.version)),
        "weights_sha256": report.weights_sha256,
    }
