"""A dataset version: the commit and its manifest, read from lakeFS or from what the `manifest` asset stored."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from resources.error_family import NotFound
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import Commit, LakeFSNotFound
from resources.nearest import did_you_mean, listed
from resources.storage import ArtifactStore
from visionops_assets.common.keys import asset_key, commit_of, commit_prefix, dataset_version
from visionops_assets.common.tables import read_table
from visionops_assets.config.project import Project
from visionops_assets.dataset.versions.commit_log import newest_commit, publications
from visionops_assets.dataset.versions.layout import BATCHES, is_annotations
from visionops_assets.dataset.versions.manifest import AnnotationsFile, Manifest, build_manifest


class EmptyVersion(NotFound, ValueError):
    """A commit without annotations of this project."""


class UnknownVersion(LakeFSNotFound):
    """Nothing of the data is called so; the message names what comes near."""


@dataclass(frozen=True)
class DatasetVersion:
    """One dataset version. `samples` is the manifest table, one row a sample."""

    partition: str
    commit: Commit
    manifest: Manifest
    samples: pd.DataFrame

    @cached_property
    def used(self) -> pd.DataFrame:
        """The samples that take part: all but the excluded ones."""
        return self.samples[~self.samples["excluded"].astype(bool)].reset_index(drop=True)

    def split(self, *names: str) -> pd.DataFrame:
        """The samples of these sides that take part."""
        return self.used[self.used["split"].isin(names)].reset_index(drop=True)


def build_version(
    lakefs: LakeFSResource, store: ArtifactStore, project: Project, partition: str
) -> DatasetVersion:
    """Read a dataset version from lakeFS; only annotations that no earlier version shares are fetched.

    Raises `EmptyVersion`, `AnnotationsError` naming the file, and what lakeFS raises.
    """
    commit = lakefs.head(project.repository, commit_prefix(partition))
    manifest = manifest_at(lakefs, store, project, commit.id)
    if not manifest.fragments:
        raise EmptyVersion(
            f"commit {commit.id[:12]} of {project.repository} has no annotations called {project.annotations}: "
            f"import a batch with `visionops import {project.project} SOURCE --batch NAME`, or correct "
            "`annotations` in the project file"
        )
    return DatasetVersion(partition, commit, manifest, read_table(store, manifest.to_json()))


def named_version(
    lakefs: LakeFSResource, store: ArtifactStore, project: Project, name: str | None = None
) -> DatasetVersion:
    """The dataset version that a key, commit, branch, tag or batch names; by default the newest on main.

    Raises `UnknownVersion`, and what `build_version` raises.
    """
    commit = named_commit(lakefs, project, name) if name else newest_commit(lakefs, project)
    if commit is None:
        raise EmptyVersion(
            f"{project.repository}/{MAIN} has no samples yet: import a batch with "
            f"`visionops import {project.project} SOURCE --batch NAME`"
        )
    return build_version(lakefs, store, project, dataset_version(commit.id, commit.created_at))


def named_commit(lakefs: LakeFSResource, project: Project, name: str) -> Commit:
    """The commit that a dataset version's key, a commit, branch, tag or batch names.

    A batch names the state of `main` that its newest publication made. Raises `UnknownVersion`, what lakeFS raises.
    """
    repository = project.repository
    try:
        found = lakefs.head(repository, commit_of(name))
    except LakeFSNotFound as error:
        published = publications(lakefs, project)
        if (merge := published.newest(name)) is not None:
            return merge
        batches = sorted({*published.standing, *published.retracted})
        raise UnknownVersion(
            f"{repository} has no dataset version, commit, branch, tag or batch called {name}"
            f"{did_you_mean(name, names_of_data(lakefs, project), '.')} Its batches are {listed(batches)}"
        ) from error
    # A batch called 7 is not the one commit whose id happens to begin so.
    if found.id.startswith(name) and found.id != name:
        return publications(lakefs, project).newest(name) or found
    return found


def names_of_data(lakefs: LakeFSResource, project: Project) -> list[str]:
    """What states of the data are called: batches, branches, and dataset versions that published a batch."""
    published = publications(lakefs, project)
    batches = sorted({*published.standing, *published.retracted})
    merges = [*published.standing.values(), *published.retracted.values()]
    keys = sorted(dataset_version(merge.id, merge.created_at) for found in merges for merge in found)
    return [*batches, *lakefs.branches(project.repository), *keys]


def manifest_at(lakefs: LakeFSResource, store: ArtifactStore, project: Project, reference: str) -> Manifest:
    """The manifest of any commit or branch; without fragments where there are no annotations."""
    files = [
        AnnotationsFile(entry.path, entry.checksum)
        for entry in lakefs.objects(project.repository, reference, BATCHES)
        if is_annotations(entry.path, project.annotations)
    ]
    return build_manifest(files, lambda paths: lakefs.read_many(project.repository, reference, paths), store)


def read_version(
    lakefs: LakeFSResource, store: ArtifactStore, project: Project, partition: str
) -> DatasetVersion:
    """The dataset version that the `manifest` asset stored. Raises `ArtifactNotFound` where it did not yet."""
    listing = store.read_json(asset_key(project.project, "manifest", partition))
    commit = lakefs.head(project.repository, commit_prefix(partition))
    return DatasetVersion(partition, commit, Manifest.from_json(listing), read_table(store, listing))
