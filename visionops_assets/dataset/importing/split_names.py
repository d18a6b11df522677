"""The splits that names of folders and files say, and what is left of a name without them."""

import functools
import re
from collections.abc import Mapping

# How data sets call the sides of a split that comes with them.
SPLIT_NAMES: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "holdout",
    "testing": "holdout",
    "holdout": "holdout",
}
_SHARD = re.compile(r"[-_]\d{5}-of-\d{5}$")
_BESIDE = re.compile(r"person_keypoints|instances|annotations|captions|coco")
_YEAR = re.compile(r"(?:19|20)\d\d$")
_BETWEEN = " ._-"


def split_of(name: str) -> str | None:
    """The split that a folder, a table or a file (without its suffix) is called after, as a whole: `train2017`,
    `instances_val`, `test-00000-of-00001`, but not `crash-test`."""
    left = _BESIDE.sub("", _SHARD.sub("", name.lower())).strip(_BETWEEN)
    return SPLIT_NAMES.get(left) or SPLIT_NAMES.get(_YEAR.sub("", left).strip(_BETWEEN))


def split_in_folders(folder: str) -> str | None:
    """The split that the innermost folder of a path is called after that is called after one."""
    return next((split for part in reversed(folder.split("/")) if (split := split_of(part))), None)


def splits_in_folders(folder: str) -> list[str]:
    """The splits that folders of a path are called after, each once."""
    return sorted({split for part in folder.split("/") if (split := split_of(part))})


@functools.lru_cache(maxsize=64)
def split_of_file(path: str) -> str | None:
    """The split that an annotation file is about: by its name, else by the folders that it lies in."""
    folder, _, name = path.rpartition("/")
    return split_of(path_stem(name)) or split_in_folders(folder)


@functools.lru_cache(maxsize=64)
def part_of_file(path: str) -> str:
    """The part of the data that an annotation file is called after: `x` of `instances_x.json`."""
    return _BESIDE.sub("", path_stem(path.rpartition("/")[2]).lower()).strip(_BETWEEN)


def path_stem(name: str) -> str:
    """A path without its last suffix."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + (last.rpartition(".")[0] or last)
