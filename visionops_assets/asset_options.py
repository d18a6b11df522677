"""What all assets of a project have in common."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from visionops_assets.partitions import dataset_versions, production_days
from visionops_assets.project import Project

# The asset that says what runs now, whoever changes it.
IN_PRODUCTION = "in_production"
INCOMING_BATCH = "incoming_batch"
# The asset that says what device groups are given.
EDGE_BUNDLE = "edge_bundle"
# Which of its metadata says what was given to whom.
SAID = "said"


def asset_key(project: Project, name: str) -> dg.AssetKey:
    """`[project, name]`."""
    return dg.AssetKey([project.project, name])


def asset_options(project: Project, name: str, kinds: Sequence[str]) -> dict[str, Any]:
    """Key, group, owners and kinds."""
    return {
        "key": asset_key(project, name),
        "group_name": project.project,
        "owners": list(project.owners),
        "kinds": set(kinds),
    }


def versioned(project: Project, name: str, kinds: Sequence[str]) -> dict[str, Any]:
    """The same for an asset with one partition per dataset version."""
    return {**asset_options(project, name, kinds), "partitions_def": dataset_versions(project.project)}


def daily(project: Project, name: str, kinds: Sequence[str]) -> dict[str, Any]:
    """The same for an asset with one partition a production day. Their group is their own: one lineage of both is too
    wide to be read on a screen."""
    return {
        **asset_options(project, name, kinds),
        "group_name": f"{project.project}_production",
        "partitions_def": production_days(project.production.since),
    }
