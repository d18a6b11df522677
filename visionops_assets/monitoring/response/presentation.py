"""What the asset `response` shows in the UI."""

from typing import Any

import dagster as dg
import pandas as pd

from resources.lakefs.client import LakeFSResource
from resources.models.registry import ModelRegistry
from visionops_assets.config.project import Project
from visionops_assets.monitoring.response.actions import SHORT, Action
from visionops_assets.monitoring.response.respond import Response
from visionops_assets.pages.page import Sentence, Words
from visionops_assets.shells import outputs

# Columns of the stored table, with their Arrow types.
RESPONSE_COLUMNS = {
    "model_sha256": "string",
    "device_group": "string",
    "signal": "string",
    "outcome": "string",
    "noticed": "string",
    "response": "string",
}


def response_table(found: Response) -> pd.DataFrame:
    """One row a signal of each champion: what was noticed, and what followed on that day."""
    rows = [
        {
            "model_sha256": each.model_sha256,
            "device_group": each.device_group,
            "signal": each.signal,
            "outcome": each.states[-1].outcome,
            "noticed": each.states[-1].sentence(),
            "response": "; ".join(
                action.title() for action in found.actions if action.model_sha256 == each.model_sha256
            ),
        }
        for each in found.noticed
    ]
    return pd.DataFrame(rows, columns=list(RESPONSE_COLUMNS))


def response_metadata(
    found: Response, project: Project, lakefs: LakeFSResource, registry: ModelRegistry
) -> dict[str, Any]:
    """What was noticed, what was done about it and why, and where its evidence is."""
    noticed = [f"{each.group}, {each.sentence()}" for each in found.noticed]
    done: list[Words] = [
        Sentence(f"{action.why}. {action.done}.", f"{action.title()}:") for action in found.actions
    ]
    notes = [found.reported] if found.reported else list(found.notes)
    shown: dict[str, Any] = {
        "noticed": outputs.bullets(*noticed or ["No champion has rows on these days."]),
        "done": outputs.bullets(*done or [f"Nothing{f': {notes[0]}' if notes else ''}."]),
        "actions": len(found.actions),
        "dry_run": project.drift.dry_run,
        **({"notes": outputs.bullets(*notes)} if notes else {}),
    }
    if found.actions:
        shown["evidence"] = outputs.table(pd.DataFrame([_evidence(action) for action in found.actions]))
        versions = sorted({action.version for action in found.actions if action.version is not None})
        for version in versions:
            shown[f"version_{version}"] = dg.MetadataValue.url(registry.version_url(project.project, version))
        for action in found.actions:
            if action.page is not None:
                shown[f"comparison_{(action.about or action.identity)[:SHORT]}"] = dg.MetadataValue.url(
                    action.page
                )
    return shown


def _evidence(action: Action) -> dict[str, object]:
    return {
        "action": action.identity,
        "what": action.title(),
        "group": action.group,
        "signal": action.signal,
        "day": str(action.day),
        "images": action.images,
        "rests_on": action.about or "",
    }
