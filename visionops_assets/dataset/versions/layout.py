"""Where samples and annotations lie in a lakeFS repository.

batches/<batch>/images/<any path>
batches/<batch>/annotations/<name>.parquet
findings/<batch>/<name>.parquet

`<name>` is that of the project's annotations: projects that share a repository have each their own.
"""

import re
from pathlib import PurePosixPath

from resources.error_family import Invalid

BATCHES = "batches/"

# A batch is imported on a branch named after it, and branches know no slash, dot or space.
_BATCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def check_batch_name(batch: str) -> str:
    """The name, if it may name a batch. Raises `ValueError` saying what may."""
    if not _BATCH.fullmatch(batch):
        raise Invalid(
            f"{batch!r} cannot name a batch: letters, digits, '_' and '-' can, starting with a letter or digit, "
            "at most 100 (for example week-07)"
        )
    return batch


def ingest_branch(repository: str, annotations: str, batch: str) -> str:
    """The branch that a batch is imported on: `ingest-<batch>`, for annotations not named as their repository is
    `ingest_<name>-<batch>`, so that two projects of one repository never write to the same one."""
    own = annotations.replace("_", "-") == repository
    return f"ingest-{batch}" if own else f"ingest_{annotations}-{batch}"


def retraction_branch(annotations: str, batch: str) -> str:
    """The branch that a batch is taken back on."""
    return f"retract_{annotations}-{batch}"


def findings_path(batch: str, name: str) -> str:
    """Where the findings of a batch's audit lie, for the annotations called `name`."""
    return f"findings/{batch}/{name}.parquet"


def images_prefix(batch: str) -> str:
    """What every image of a batch starts with."""
    return f"{BATCHES}{batch}/images/"


def image_path(batch: str, name: str) -> str:
    """Where an image of a batch lies. Raises `ValueError` when `name` would lead out of the batch."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise Invalid(f"{name!r} cannot name an image: it must be a relative path inside its batch")
    path = images_prefix(batch) + "/".join(parts)
    if len(path.encode()) > 1024:
        raise Invalid(f"{name!r} cannot name an image: with its batch it is longer than lakeFS's 1024 bytes")
    return path


def annotations_prefix(batch: str) -> str:
    """What the annotations of a batch start with, whatever they are called."""
    return f"{BATCHES}{batch}/annotations/"


def annotations_name(path: str) -> str | None:
    """The name of the annotations at a path; None for a path that has none."""
    head, _, rest = path.removeprefix(BATCHES).partition("/")
    name = rest.removeprefix("annotations/").removesuffix(".parquet")
    known = (
        path.startswith(BATCHES) and bool(head) and rest == f"annotations/{name}.parquet" and "/" not in name
    )
    return name if known and name else None


def annotations_path(batch: str, name: str) -> str:
    """Where the annotations called `name` of a batch lie."""
    return f"{BATCHES}{batch}/annotations/{name}.parquet"


def batch_of(path: str) -> str:
    """The batch of an image or annotations path. Raises `ValueError` for a path outside all batches."""
    head, _, rest = path.removeprefix(BATCHES).partition("/")
    if not path.startswith(BATCHES) or not head or not rest:
        raise Invalid(f"{path} lies in no batch; expected {BATCHES}<batch>/…")
    return head


def is_image(path: str) -> bool:
    """Whether a path is that of an image of some batch."""
    return path.startswith(BATCHES) and path[len(BATCHES) :].partition("/")[2].startswith("images/")


def is_annotations(path: str, name: str) -> bool:
    """Whether a path is that of the annotations called `name` of some batch."""
    return annotations_name(path) == name
