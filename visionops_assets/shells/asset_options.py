"""What assets and checks of a project have in common: keys, groups, partitions; days that one run makes as a range."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from resources.storage import ArtifactStore
from visionops_assets.common import keys
from visionops_assets.config.project import Project
from visionops_assets.shells.unstable_dagster import unwarned

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


# The asset that says what runs now, whoever changes it.
IN_PRODUCTION = "in_production"
INCOMING_BATCH = "incoming_batch"
# The asset that says what device groups are given.
EDGE_BUNDLE = "edge_bundle"
# The asset that says what answers on devices.
DEVICES = "devices"
# The asset that shows each rollout.
ROLLOUT = "rollout"
# Which of its metadata says what was given to whom.
SAID = "said"


def dataset_versions(project: str) -> dg.DynamicPartitionsDefinition:
    """One partition per lakeFS commit on `main` that changed samples."""
    return dg.DynamicPartitionsDefinition(name=f"{project}_dataset_versions")


def batches(project: str) -> dg.DynamicPartitionsDefinition:
    """One partition per batch that was taken from the drop."""
    return dg.DynamicPartitionsDefinition(name=f"{project}_batches")


def rollouts_of_project(project: str) -> dg.DynamicPartitionsDefinition:
    """One partition per rollout of a version to a device group."""
    return dg.DynamicPartitionsDefinition(name=f"{project}_rollouts")


def production_days(since: datetime.date) -> dg.DailyPartitionsDefinition:
    """One partition a day (UTC) from `since` to today, today included though it is not over."""
    return dg.DailyPartitionsDefinition(start_date=since.isoformat(), end_offset=1)


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


@dataclass(frozen=True)
class DayCheck:
    """What a check says of one day."""

    passed: bool
    description: str
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN
    metadata: Mapping[str, Any] = field(default_factory=dict)


def daily_asset(
    project: Project, name: str, kinds: Sequence[str], **options: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset` with one partition a production day, a backfill of which is one run.

    Dagster calls backfill policies a beta feature, once an asset and load; said never, as of checks.
    """

    def decorate(compute: Callable[..., Any]) -> dg.AssetsDefinition:
        with unwarned():
            made: dg.AssetsDefinition = dg.asset(
                **daily(project, name, kinds),
                backfill_policy=dg.BackfillPolicy.single_run(),
                io_manager_key="tables",
                **options,
            )(compute)
            return made

    return decorate


def daily_check_spec(project: Project, asset: str, name: str, description: str) -> dg.AssetCheckSpec:
    """A check that an asset makes itself, of each day."""
    with unwarned():
        return dg.AssetCheckSpec(
            name,
            asset=asset_key(project, asset),
            description=description,
            partitions_def=production_days(project.production.since),
        )


def keep_day(
    context: dg.AssetExecutionContext,
    artifacts: ArtifactStore,
    project: Project,
    asset: str,
    day: str,
    table: "pd.DataFrame | pa.Table",
    metadata: Mapping[str, Any],
) -> None:
    """Store a day's table where the IO manager reads it, and show the metadata on that day."""
    from visionops_assets.common.tables import write_table

    artifacts.write_json(keys.asset_key(project.project, asset, day), write_table(artifacts, table))
    context.add_asset_metadata(dict(metadata), partition_key=day)


def check_results(
    context: dg.AssetExecutionContext, project: Project, asset: str, name: str, days: Mapping[str, DayCheck]
) -> list[dg.AssetCheckResult]:
    """What the asset returns of its check. Of a range of days each gets an evaluation of its own.

    Dagster files the result of a step that made a range under no partition.
    """
    key = asset_key(project, asset)
    if len(days) > 1:
        for day, found in days.items():
            context.instance.report_runless_asset_event(
                dg.AssetCheckEvaluation(
                    asset_key=key,
                    check_name=name,
                    passed=found.passed,
                    severity=found.severity,
                    description=found.description,
                    metadata=dict(found.metadata),
                    partition=day,
                )
            )
    failed = {day: found for day, found in days.items() if not found.passed}
    if len(days) == 1:
        (one,) = days.values()
        description, metadata = one.description, dict(one.metadata)
    else:
        description = "; ".join(f"{day}: {found.description}" for day, found in failed.items()) or "every day"
        metadata = {}
    severities = [found.severity for found in failed.values()]
    worst = (
        dg.AssetCheckSeverity.ERROR
        if dg.AssetCheckSeverity.ERROR in severities
        else dg.AssetCheckSeverity.WARN
    )
    return [
        dg.AssetCheckResult(
            asset_key=key,
            check_name=name,
            passed=not failed,
            severity=worst,
            description=description,
            metadata=metadata,
        )
    ]


def partitioned_check(**options: Any) -> Callable[[Callable[..., Any]], dg.AssetChecksDefinition]:
    """`dg.asset_check` for a partitioned asset, without the warning."""

    def decorate(check: Callable[..., Any]) -> dg.AssetChecksDefinition:
        with unwarned():
            return dg.asset_check(**options)(check)

    return decorate
