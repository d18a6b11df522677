"""What the assets of production days show in the UI."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dagster as dg
import pandas as pd

from resources.escaping import markdown
from resources.lakefs.client import LakeFSResource
from visionops_assets import metadata
from visionops_assets.common.findings import findings_in_words
from visionops_assets.daily import DayCheck
from visionops_assets.monitoring.features import described
from visionops_assets.monitoring.inference_log import day_folder, production_repository
from visionops_assets.monitoring.judgement import State
from visionops_assets.monitoring.model_days import Where, by_model
from visionops_assets.monitoring.plots import drift_picture, performance_picture
from visionops_assets.monitoring.production_day import ProductionDay, summary
from visionops_assets.monitoring.watch import WatchedDay
from visionops_assets.project import Project

FINDINGS_SHOWN = 50
# Metadata is loaded with every event.
ROWS_SHOWN, PICTURES_SHOWN = 60, 3


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


def features_metadata(features: pd.DataFrame) -> dict[str, Any]:
    """How many images and rows a day has, and what its numbers are like."""
    return {
        "rows": len(features),
        "images": int(features["image_sha256"].nunique()),
        "with_embedding": int(features["embedding"].notna().sum()),
        "numbers": metadata.table(described(features).head(ROWS_SHOWN)),
    }


def drift_metadata(found: WatchedDay, links: Mapping[Where, str]) -> dict[str, Any]:
    """Where each model stands, every column of it, pictures of those worth a look, links to Evidently's pages."""
    table = found.table.assign(model=found.table["model_sha256"].str[:12])
    table = table.sort_values("drifted", ascending=False, kind="stable").head(ROWS_SHOWN)
    columns = [
        "model",
        "device_group",
        "column",
        "method",
        "distance",
        "threshold",
        "drifted",
        "missing",
        "note",
    ]
    shown: dict[str, Any] = {
        "in_words": metadata_text(found.states),
        "drifted_columns": int(found.table["drifted"].astype(bool).sum()),
        "columns": metadata.table(table.round({"distance": 4, "threshold": 4, "missing": 4}), columns),
    }
    reports = {f"report_{where.key()}": dg.MetadataValue.url(link) for where, link in links.items()}
    return {**shown, **_pictures(by_model(found.table), found.states, drift_picture), **reports}


def performance_metadata(found: WatchedDay, days: pd.DataFrame) -> dict[str, Any]:
    """What is known of each model's day; `days` are the rows of the days until then, with their `day`."""
    shown: dict[str, Any] = {
        "in_words": metadata_text(
            found.states, dict(zip(found.states, found.table["in_words"], strict=True))
        ),
        "labelled": int(found.table["labelled"].sum()),
        "models": metadata.table(found.table.drop(columns="in_words").head(ROWS_SHOWN)),
    }
    return {**shown, **_pictures(by_model(days), found.states, performance_picture)}


def wanted_metadata(wanted: pd.DataFrame) -> dict[str, Any]:
    """How many labels are wanted, why, and the first of them."""
    columns = ["image_sha256", "device", "prediction", "confidence", "worth", "why"]
    return {
        "wanted": len(wanted),
        "by_reason": metadata.table(
            wanted["why"].value_counts().rename_axis("why").reset_index(name="images")
        ),
        "first": metadata.table(wanted.head(ROWS_SHOWN), columns),
    }


def metadata_text(states: Mapping[Where, State], more: Mapping[Where, str] | None = None) -> dg.MetadataValue:
    """A line a model: where it stands, and what else is known."""
    lines = [
        f"- {markdown(f'{where.name()}: {state.sentence()}' + (f'; {more[where]}' if more else ''))}"
        for where, state in states.items()
    ]
    return dg.MetadataValue.md("\n".join(lines) or "No rows on this day.")


def states_check(states: Mapping[Where, State]) -> DayCheck:
    """Passed where no model is in alarm and none had a bad day. ERROR once k of n days make an alarm, else WARN.

    A day that cannot be judged is a warning too: nobody is watching.
    """
    alarming = [where for where, state in states.items() if state.outcome == "FAIL"]
    doubtful = {where: state for where, state in states.items() if not _is_quiet(state)}
    said = doubtful or states
    return DayCheck(
        passed=bool(states) and not doubtful,
        severity=dg.AssetCheckSeverity.ERROR if alarming else dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{where.name()}: {state.sentence()}" for where, state in said.items())
        or "no rows on this day",
        metadata={where.key(): state.outcome for where, state in states.items()},
    )


def _pictures(
    parts: Iterable[tuple[Where, pd.DataFrame]],
    states: Mapping[Where, State],
    draw: Callable[[pd.DataFrame, str], bytes | None],
) -> dict[str, dg.MetadataValue]:
    """A picture of each model that is worth a look, of the first where none is; none where there is nothing to draw."""
    there = [each for each in parts if each[0] in states]
    doubtful = [each for each in there if not _is_quiet(states[each[0]])]
    drawn = {where: draw(part, where.name()) for where, part in (doubtful or there[:1])[:PICTURES_SHOWN]}
    return {
        f"picture_{where.key()}": metadata.picture(png, where.name())
        for where, png in drawn.items()
        if png is not None
    }


def _is_quiet(state: State) -> bool:
    return state.outcome == "PASS" and not state.warning
