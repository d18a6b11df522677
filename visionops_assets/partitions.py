"""The partition sets, and the only place that knows how their keys look."""

import datetime
import re

import dagster as dg

SHORT = 12
KEY = re.compile(rf"\d{{8}}T\d{{6}}-[0-9a-f]{{{SHORT}}}")


def dataset_versions(project: str) -> dg.DynamicPartitionsDefinition:
    """One partition per lakeFS commit on `main` that changed samples."""
    return dg.DynamicPartitionsDefinition(name=f"{project}_dataset_versions")


def batches(project: str) -> dg.DynamicPartitionsDefinition:
    """One partition per batch that was taken from the drop."""
    return dg.DynamicPartitionsDefinition(name=f"{project}_batches")


def production_days(since: datetime.date) -> dg.DailyPartitionsDefinition:
    """One partition a day (UTC) from `since` to today, today included though it is not over."""
    return dg.DailyPartitionsDefinition(start_date=since.isoformat(), end_offset=1)


def dataset_version(commit: str, created_at: datetime.datetime) -> str:
    """The key of a commit: `YYYYMMDDTHHMMSS-<first 12 hex>` in UTC, so keys sort by time."""
    return f"{created_at.astimezone(datetime.UTC):%Y%m%dT%H%M%S}-{commit[:SHORT]}"


def committed_at(partition_key: str) -> datetime.datetime:
    """What a key tells of when its commit was made."""
    moment = datetime.datetime.strptime(partition_key.partition("-")[0], "%Y%m%dT%H%M%S")
    return moment.replace(tzinfo=datetime.UTC)


def commit_prefix(partition_key: str) -> str:
    """What a key tells of its commit; lakeFS resolves a unique prefix to the whole id."""
    return partition_key.rpartition("-")[2]


def commit_of(text: str) -> str:
    """The reference that `text` means: the commit of a dataset version's key, or `text` itself."""
    return commit_prefix(text) if KEY.fullmatch(text) else text
