"""What the assets of production days show in the UI: tables, words, and pictures small enough for metadata."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from resources.escaping import drawn
from resources.lakefs.client import LakeFSResource
from visionops_assets.common.findings import findings_in_words
from visionops_assets.config.project import Project
from visionops_assets.evaluation.presentation import new_figure, small_png
from visionops_assets.monitoring.inference_log import day_folder, production_repository
from visionops_assets.monitoring.model_days import AlarmState, Where, by_model
from visionops_assets.monitoring.production_day import ProductionDay, described_features, summary_of_log
from visionops_assets.monitoring.watch import WatchedDay
from visionops_assets.shells import outputs
from visionops_assets.shells.asset_options import DayCheck

FINDINGS_SHOWN = 50
# Metadata is loaded with every event.
ROWS_SHOWN, PICTURES_SHOWN = 60, 3
# Farther is as far.
_FARTHEST = 4.0
_LONGEST_TITLE = 80


def log_metadata(lakefs: LakeFSResource, project: Project, found: ProductionDay) -> dict[str, Any]:
    """How much a day's log has, by model and device group, and where it was read."""
    shown: dict[str, Any] = {
        "rows": len(found.rows),
        "quarantined": found.quarantined,
        "devices": int(found.rows["device"].nunique()),
        "captures": int(found.rows["capture"].notna().sum()),
        "labels": int(found.rows["label"].notna().sum()),
        "by_model": outputs.table(summary_of_log(found.rows)),
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
            "shown": outputs.table(found.findings.head(FINDINGS_SHOWN), ["image", "what", "why"]),
        },
    )


def features_metadata(features: pd.DataFrame) -> dict[str, Any]:
    """How many images and rows a day has, and what its numbers are like."""
    return {
        "rows": len(features),
        "images": int(features["image_sha256"].nunique()),
        "with_embedding": int(features["embedding"].notna().sum()),
        "numbers": outputs.table(described_features(features).head(ROWS_SHOWN)),
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
        "columns": outputs.table(table.round({"distance": 4, "threshold": 4, "missing": 4}), columns),
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
        "models": outputs.table(found.table.drop(columns="in_words").head(ROWS_SHOWN)),
    }
    return {**shown, **_pictures(by_model(days), found.states, performance_picture)}


def wanted_metadata(wanted: pd.DataFrame) -> dict[str, Any]:
    """How many labels are wanted, why, and the first of them."""
    columns = ["image_sha256", "device", "prediction", "confidence", "worth", "why"]
    return {
        "wanted": len(wanted),
        "by_reason": outputs.table(
            wanted["why"].value_counts().rename_axis("why").reset_index(name="images")
        ),
        "first": outputs.table(wanted.head(ROWS_SHOWN), columns),
    }


def metadata_text(
    states: Mapping[Where, AlarmState], more: Mapping[Where, str] | None = None
) -> dg.MetadataValue:
    """A line a model: where it stands, and what else is known."""
    lines = [
        f"{where.name()}: {state.sentence()}{f'; {more[where]}' if more else ''}"
        for where, state in states.items()
    ]
    return outputs.bullets(*lines or ["No rows on this day."])


def states_check(states: Mapping[Where, AlarmState]) -> DayCheck:
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
    states: Mapping[Where, AlarmState],
    draw: Callable[[pd.DataFrame, str], bytes | None],
) -> dict[str, dg.MetadataValue]:
    """A picture of each model that is worth a look, of the first where none is; none where there is nothing to draw."""
    there = [each for each in parts if each[0] in states]
    doubtful = [each for each in there if not _is_quiet(states[each[0]])]
    drawn = {where: draw(part, where.name()) for where, part in (doubtful or there[:1])[:PICTURES_SHOWN]}
    return {
        f"picture_{where.key()}": outputs.picture(png, where.name())
        for where, png in drawn.items()
        if png is not None
    }


def _is_quiet(state: AlarmState) -> bool:
    return state.outcome == "PASS" and not state.warning


_QUIET_COLOUR, _DRIFTED_COLOUR = "#57606a", "#cf222e"


def drift_picture(table: pd.DataFrame, title: str) -> bytes | None:
    """Draw how far each column of one model's day is, in thresholds; None where none could be judged."""
    compared = table[table["distance"].notna()]
    if compared.empty:
        return None
    far = (compared["distance"] / compared["threshold"]).clip(upper=_FARTHEST)
    figure, axes = new_figure(6.0, 1.0 + 0.24 * len(compared))
    colours = [_DRIFTED_COLOUR if drifted else _QUIET_COLOUR for drifted in compared["drifted"]]
    axes.barh([drawn(each) for each in compared["column"]], far, color=colours, height=0.65)
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.3, float(far.max()) * 1.05))
    axes.set_xlabel(f"distance from the reference, in thresholds ({_FARTHEST:g} and more)")
    axes.set_title(drawn(title, _LONGEST_TITLE), loc="left", fontsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return small_png(figure)


def performance_picture(rows: pd.DataFrame, title: str) -> bytes | None:
    """Draw one model's days: columns `day, realised, estimated`, each with `_lower` and `_upper`, and `floor`."""
    if not len(rows) or not rows[["realised", "estimated"]].notna().any(axis=None):
        return None
    figure, axes = new_figure(6.4, 2.8)
    for name, colour in (("estimated", _QUIET_COLOUR), ("realised", "#0969da")):
        known = rows[rows[name].notna()]
        if len(known):
            values, lower, upper = (
                known[column].to_numpy(np.float64) for column in (name, f"{name}_lower", f"{name}_upper")
            )
            reach = np.stack([values - lower, upper - values])
            days = pd.to_datetime(known["day"])
            axes.errorbar(
                days, values, yerr=reach, fmt="o", markersize=3, color=colour, label=name, capsize=2
            )
    axes.axhline(
        float(rows["floor"].iloc[-1]), color=_DRIFTED_COLOUR, linewidth=1, linestyle="--", label="floor"
    )
    axes.set_ylim(0, 1.03)
    axes.set_title(drawn(title, _LONGEST_TITLE), loc="left", fontsize=10)
    axes.legend(loc="lower left", frameon=False, fontsize=8)
    axes.tick_params(axis="x", labelrotation=30, labelsize=8)
    return small_png(figure)
