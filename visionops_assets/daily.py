"""What assets with one partition a production day have in common. A run may make one day or a range of them."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from resources.artifact_store import ArtifactStore
from visionops_assets import addresses
from visionops_assets.asset_options import asset_key, daily
from visionops_assets.partitions import production_days
from visionops_assets.project import Project

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


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
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=dg.BetaWarning)
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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=dg.PreviewWarning)
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

    artifacts.write_json(addresses.asset_key(project.project, asset, day), write_table(artifacts, table))
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
