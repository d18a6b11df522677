"""Whether the images of a dataset version are there, unaltered and decodable; reads only what no version had."""

from contextlib import suppress

import pandas as pd

from edge.images.header import UnreadableImage
from resources.lakefs.client import LakeFSResource
from resources.lakefs_errors import LakeFSNotFound
from resources.scratch import Scratch
from visionops_assets.common.findings import has_errors
from visionops_assets.dataset.cache.sample_cache import SampleError
from visionops_assets.dataset.cache.samples import load_samples
from visionops_assets.dataset.integrity import check_images_present, check_images_readable
from visionops_assets.dataset.neighbours import claims_of_others
from visionops_assets.dataset.versions.annotations import AnnotationsError
from visionops_assets.dataset.versions.dataset_version import DatasetVersion
from visionops_assets.dataset.versions.layout import BATCHES, batch_of, is_image
from visionops_assets.project import Project


def unreadable(
    lakefs: LakeFSResource, project: Project, version: DatasetVersion, scratch: Scratch
) -> pd.DataFrame:
    """Findings on images that are missing, altered, not decodable (ERROR) or not annotated (WARN).

    Images are fetched into the sample cache, so those of earlier versions were looked at then, and training finds
    all of them there. Only where that fails is every image read, to name all that are wrong.
    """
    repository, commit = project.repository, version.commit.id
    listing = {entry.path for entry in lakefs.objects(repository, commit, BATCHES) if is_image(entry.path)}
    bare = listing.difference(version.samples["path"])
    # What only another project of the repository has labelled lacks nothing.
    for batch in sorted({batch_of(path) for path in bare}):
        with suppress(AnnotationsError):
            claims = claims_of_others(lakefs, repository, commit, batch, project.annotations)
            listing -= bare & claims.sha256s.keys()
    findings = check_images_present(version.samples, listing)
    if has_errors(findings):
        return findings
    try:
        load_samples(lakefs, repository, commit, version.used, scratch.samples, project.recipe.input)
    except (UnreadableImage, SampleError, LakeFSNotFound):
        used = version.used
        arriving = lakefs.read_many(repository, commit, used["path"].tolist())
        found = check_images_readable(arriving, dict(zip(used["path"], used["sha256"], strict=True)))
        return pd.concat([found, findings], ignore_index=True)
    return findings
