"""Keys: of tables and records in the artifact store, and of partitions.

An address in the store holds ids; what it names is written once.
"""

import datetime
import re

SHORT = 12
KEY = re.compile(rf"\d{{8}}T\d{{6}}-[0-9a-f]{{{SHORT}}}")


def asset_folder(project: str, asset: str) -> str:
    """Where the partitions of an asset are."""
    return f"assets/{project}/{asset}"


def asset_key(project: str, asset: str, partition: str) -> str:
    """What the IO managers wrote for a partition of an asset."""
    return f"{asset_folder(project, asset)}/{partition}.json"


def verdict_key(kind: str, project: str, partition: str) -> str:
    """The latest decision or what-if on a dataset version: `{identity, verdict, run_id, training_version}`."""
    folder = {"decision": "decisions", "what_if": "what_ifs"}[kind]
    return f"{folder}/{project}/{partition}.json"


def devices_run_key(project: str) -> str:
    """What the devices of each group of a project said last that they run, in words; the project as devices know it."""
    return f"fleet/{project}/groups.json"


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
