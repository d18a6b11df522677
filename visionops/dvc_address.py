"""Addresses of DVC data: `dvc://PATH[@REV]` on this machine, `dvc://GIT-URL//PATH[@REV]` elsewhere."""

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from resources.masking import shown

SCHEME = "dvc://"
# git@host:organisation/repository
_SCP = re.compile(r"[\w.-]+@[\w.-]+:")


class DVCError(ValueError):
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
        return shown(self.repository)


def parse(text: str) -> DVCAddress:
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
        return DVCAddress(str(Path(before).expanduser().absolute()), _inside(path, text), revision)
    local = Path(os.path.normpath(Path(place).expanduser().absolute()))
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
    if not at or of_user or Path(place).expanduser().exists():
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
