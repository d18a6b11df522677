"""Keys in the artifact store that several stages share. An address holds ids; what it names is written once."""


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
