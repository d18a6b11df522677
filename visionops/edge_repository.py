"""The repositories that devices follow, as commands open them: where they lie, and one writer at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from resources import home

if TYPE_CHECKING:
    from visionops_assets.delivery.repository import Repository
    from visionops_assets.delivery.signers import Keys


def projects_with_repository() -> list[str]:
    """The projects that have a repository."""
    from resources.artifact_store import ArtifactStore
    from visionops_assets.delivery.tuf_files import TIMESTAMP

    store = ArtifactStore(root=home.edge())
    return [name for name in store.names("") if store.exists(f"{name}/{TIMESTAMP}")]


def where(project: str) -> str:

    root = home.edge().rstrip("/")
    return f"{root}/{project}" if "://" in root else str(Path(root).expanduser().absolute() / project)


def repository_of(project: str, keys: "Keys | None" = None) -> "Repository":
    from resources.artifact_store import ArtifactStore
    from visionops_assets.delivery.repository import Repository
    from visionops_assets.delivery.signers import load_keys

    return Repository(ArtifactStore(root=home.edge()), project, keys or load_keys())


def expiries() -> Iterator[tuple[str, dict[str, datetime]]]:
    """Each project's repository, and when what a role signed there ends. Takes no key.

    Raises `CannotPublish` for one that is damaged.
    """
    if "://" not in home.edge() and not Path(home.edge()).is_dir():
        return
    from visionops_assets.delivery.signers import Keys

    for project in projects_with_repository():
        yield project, repository_of(project, Keys({})).read().expiries()


@contextmanager
def changing(project: str, keys: "Keys | None" = None) -> "Iterator[Repository]":
    """A project's repository, while nobody else changes it."""
    from visionops import services
    from visionops_assets.delivery.repository import lock_name

    repository = repository_of(project, keys)
    with services.registry().lock(lock_name(project)):
        yield repository
