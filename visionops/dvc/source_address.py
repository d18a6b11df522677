"""A DVC repository as it is named, `dvc://PATH[@REV]` on this machine, `dvc://GIT-URL//PATH[@REV]` elsewhere; and
what it says of its data, held to be no larger than it looks before DVC reads it.
"""

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from edge.files import named_path
from resources.error_family import Invalid
from resources.escaping import masked

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem


SCHEME = "dvc://"
# git@host:organisation/repository
_SCP = re.compile(r"[\w.-]+@[\w.-]+:")
_PIPELINE = "dvc.yaml"
_MOST_STAGES = 10_000


class DVCError(Invalid):
    """A DVC repository that cannot be read or written; the message names it and the fix."""


@dataclass(frozen=True)
class DVCAddress:
    """A path in a DVC repository. `path` is relative to the repository, `""` all of it; no `revision`: its HEAD."""

    repository: str
    path: str
    revision: str | None

    @property
    def is_local(self) -> bool:
        return not _is_url(self.repository)

    @property
    def shown(self) -> str:
        """The address for messages and records: without what a URL has of passwords and tokens."""
        return f"{SCHEME}{self.shown_repository}//{self.path}" + (
            f"@{self.revision}" if self.revision else ""
        )

    @property
    def shown_repository(self) -> str:
        return masked(self.repository)


def parse_address(text: str) -> DVCAddress:
    """Read an address. A repository on this machine is found above its path. Raises `DVCError`."""
    place, revision = _split_revision(text.removeprefix(SCHEME))
    if not place:
        raise DVCError(f"{text}: names no path, for example dvc://datasets/parts@v1.2")
    if _is_url(place):
        start = place.find("://") + 3 if "://" in place else 0
        at = place.find("//", start)
        repository, path = (place, "") if at < 0 else (place[:at], place[at + 2 :])
        return DVCAddress(repository, _inside(path, text), revision)
    before, divided, path = place.partition("//")
    if divided and before:
        return DVCAddress(str(named_path(before).absolute()), _inside(path, text), revision)
    local = Path(os.path.normpath(named_path(place).absolute()))
    # At the revision asked for there may be what is not checked out now.
    for folder in (local, *local.parents):
        if (folder / ".dvc").is_dir():
            return DVCAddress(str(folder), _inside(local.relative_to(folder).as_posix(), text), revision)
    raise DVCError(
        f"{text}: neither {local} nor a folder above it is a DVC repository (has a folder .dvc); "
        "a repository elsewhere is dvc://GIT-URL//PATH@REV"
    )


def _is_url(place: str) -> bool:
    return "://" in place or _SCP.match(place) is not None


def _split_revision(place: str) -> tuple[str, str | None]:
    """The last `@` divides, unless it belongs to a user's name or to a path that is there."""
    head, at, revision = place.rpartition("@")
    of_user = ":" in revision or ("://" in head and "/" not in head.partition("://")[2])
    if not at or of_user or named_path(place).exists():
        return place, None
    if not revision:
        raise DVCError(f"{SCHEME}{place}: names no revision after @")
    return head, revision


def _inside(path: str, text: str) -> str:
    parts = [part for part in PurePosixPath(path).parts if part != "."]
    if ".." in parts or path.startswith("/"):
        raise DVCError(f"{text}: {path} leads out of the repository")
    # The file that tracks a folder is as good a name for it.
    return "/".join(parts).removesuffix(".dvc")


# What DVC reads of a repository, besides `NAME.dvc` and what a pipeline names under `vars`.
_OWN_FILES, _LARGEST_BYTES = (_PIPELINE, "dvc.lock", "params.yaml"), 64 << 20


def check_own_files(found: "DVCFileSystem", address: DVCAddress) -> None:
    """Raise `DVCError` for a repository whose own files make much of little."""
    files = found.repo.fs
    paths = [
        f"{folder.rstrip('/')}/{name}"
        for folder, _, names in files.walk(found.repo.root_dir)
        for name in names
    ]
    own = {path for path in paths if path.endswith(".dvc") or PurePosixPath(path).name in _OWN_FILES}
    read = {path: _plain(files, path, address) for path in own}
    pipelines = [content for path, content in read.items() if PurePosixPath(path).name == _PIPELINE]
    # By their last part: from which folder DVC reads them is its own matter.
    named = {PurePosixPath(name).name for content in pipelines for name in _named_by_vars(content)}
    more = {path for path in paths if PurePosixPath(path).name in named} - own
    read |= {path: _plain(files, path, address) for path in more}
    _check_stages(pipelines, max(map(_longest, read.values()), default=0), address)


def _check_stages(pipelines: Sequence[Any], longest: int, address: DVCAddress) -> None:
    """Raise `DVCError` for more stages than are followed; `longest` is the most items of a list that is named."""
    for matrix in (each for content in pipelines for each in _values_of("matrix", content)):
        if isinstance(matrix, dict):
            # A dimension that is named may be any list of these files.
            sides = [len(side) if isinstance(side, list) else longest for side in matrix.values()]
            if math.prod(sides) > _MOST_STAGES:
                raise DVCError(
                    f"{_PIPELINE} of {address.shown_repository} may have more than {_MOST_STAGES:,} stages by its "
                    "`matrix`, which are not followed: take a smaller one, and commit"
                )


def _plain(files: Any, path: str, address: DVCAddress) -> Any:
    """What a file says; its text where it is no YAML, which DVC says then. Raises `DVCError`."""
    import yaml

    name = f"{PurePosixPath(path).name} of {address.shown_repository}"
    with files.open(path, "rb") as stream:
        content = stream.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise DVCError(f"{name} has more than {_LARGEST_BYTES:,} bytes")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, Loader=loader)):
            raise DVCError(
                f"{name} has aliases, which are not followed: write out what they stand for, and commit"
            )
        return yaml.load(content, Loader=loader)
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, DVCError):
            raise
        return content


def _named_by_vars(pipeline: Any) -> Iterator[str]:
    for listed in _values_of("vars", pipeline):
        for each in listed if isinstance(listed, list) else ():
            if isinstance(each, str):
                # `file:key,key` takes only these keys of it.
                yield each.partition(":")[0]


def _values_of(key: str, content: Any) -> Iterator[Any]:
    """What stands under a key, wherever it is."""
    for inner in _collections(content):
        if isinstance(inner, dict) and key in inner:
            yield inner[key]


def _longest(content: Any) -> int:
    """The most items that a list of these has; of what is no YAML, as many as it can be."""
    if isinstance(content, bytes):
        return content.count(b",") + content.count(b"\n") + 1
    return max((len(inner) for inner in _collections(content)), default=0)


def _collections(content: Any) -> Iterator[Any]:
    waiting = [content]
    while waiting:
        each = waiting.pop()
        if isinstance(each, (dict, list)):
            yield each
            waiting += each.values() if isinstance(each, dict) else each
