"""Keys in the artifact store that several stages share. An address holds ids; what it names is written once."""


def decision_key(project: str, partition: str) -> str:
    """The latest verdict of a decision on a dataset version."""
    return f"decisions/{project}/{partition}.json"


def what_if_key(project: str, partition: str) -> str:
    """The latest verdict of a what-if on a dataset version."""
    return f"what_ifs/{project}/{partition}.json"
