"""What a manifest must hold before anything is trained on it."""

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from resources.artifact_store import ArtifactStore
from resources.lakefs.client import LakeFSResource
from resources.scratch import Scratch
from visionops_assets import metadata
from visionops_assets.common import run_tags
from visionops_assets.dataset.audit_report import SHOWN, by_shown_check
from visionops_assets.failures import clear_failures
from visionops_assets.partitioned_check import partitioned_check
from visionops_assets.partitions import batches, dataset_versions
from visionops_assets.project import Project

if TYPE_CHECKING:
    import pandas as pd

    from visionops_assets.dataset.versions.dataset_version import DatasetVersion

FINDINGS_SHOWN = 50
_SHOWN_COLUMNS = ("image", "label", "suspected", "what", "why", "severity")


def manifest_checks(project: Project, manifest: dg.AssetsDefinition) -> list[dg.AssetChecksDefinition]:
    """The checks on `manifest`; all block where they find an ERROR."""
    options = {
        "asset": manifest,
        "blocking": True,
        "partitions_def": dataset_versions(project.project),
    }

    @partitioned_check(
        **options, description="Every annotated image is there, unaltered, and can be decoded."
    )
    def images_readable(
        context: dg.AssetCheckExecutionContext,
        lakefs: LakeFSResource,
        artifacts: ArtifactStore,
        scratch: Scratch,
    ) -> dg.AssetCheckResult:
        from visionops_assets.dataset.readable import unreadable

        return _checked(
            context, lakefs, artifacts, project, lambda version: unreadable(lakefs, project, version, scratch)
        )

    @partitioned_check(**options, description="Every label is a class of the project.")
    def labels_known(
        context: dg.AssetCheckExecutionContext, lakefs: LakeFSResource, artifacts: ArtifactStore
    ) -> dg.AssetCheckResult:
        from visionops_assets.dataset.integrity import check_labels_known

        return _checked(
            context,
            lakefs,
            artifacts,
            project,
            lambda version: check_labels_known(version.samples, project.classes),
        )

    @partitioned_check(**options, description="No group has images on two sides of the split.")
    def groups_whole(
        context: dg.AssetCheckExecutionContext, lakefs: LakeFSResource, artifacts: ArtifactStore
    ) -> dg.AssetCheckResult:
        from visionops_assets.dataset.integrity import check_groups_whole

        return _checked(
            context, lakefs, artifacts, project, lambda version: check_groups_whole(version.samples)
        )

    @partitioned_check(
        **options, description="Every class has images in train (ERROR where not), val and holdout (WARN)."
    )
    def classes_in_splits(
        context: dg.AssetCheckExecutionContext, lakefs: LakeFSResource, artifacts: ArtifactStore
    ) -> dg.AssetCheckResult:
        from visionops_assets.dataset.integrity import check_classes_in_splits

        return _checked(
            context,
            lakefs,
            artifacts,
            project,
            lambda version: check_classes_in_splits(version.samples, project.classes),
        )

    return [images_readable, labels_known, groups_whole, classes_in_splits]


def images_intact_check(project: Project, manifest: dg.AssetsDefinition) -> dg.AssetChecksDefinition:
    """A sample of the images read again; a schedule asks for it daily, other runs leave it out."""

    @partitioned_check(
        asset=manifest,
        partitions_def=dataset_versions(project.project),
        description=(
            f"{project.audit.daily_sample} images of this version, another choice in each run, still have the bytes "
            f"they were audited with. `visionops verify {project.project} VERSION` reads all of them."
        ),
    )
    def images_intact(
        context: dg.AssetCheckExecutionContext, lakefs: LakeFSResource, artifacts: ArtifactStore
    ) -> dg.AssetCheckResult:
        from visionops_assets.dataset.verify import sample_of, verify_images

        def look(version: "DatasetVersion") -> "pd.DataFrame":
            chosen = sample_of(version.samples, project.audit.daily_sample, context.run.run_id)
            return verify_images(lakefs, project.repository, version.commit.id, chosen)

        return _checked(context, lakefs, artifacts, project, look)

    return images_intact


def incoming_check_specs(project: Project, asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The checks that `incoming_batch` makes of a batch. An ERROR makes its run red: the batch is refused."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(
                name,
                asset=asset,
                description=description,
                blocking=True,
                partitions_def=batches(project.project),
            )
            for name, (description, _) in SHOWN.items()
        ]


def incoming_results(
    findings: "pd.DataFrame", pictures: "Callable[[pd.DataFrame], str]", whole: str
) -> list[dg.AssetCheckResult]:
    """One result a check; `pictures` gives thumbnails of the images that a check found, as Markdown, and `whole` is
    the command that shows what a page has no room for."""
    results = []
    for name, found in by_shown_check(findings).items():
        shown = pictures(found) if len(found) else ""
        more = {"examples": dg.MetadataValue.md(shown)} if shown else {}
        results.append(
            _result(found, name, more | ({"all_of_them": dg.MetadataValue.text(whole)} if len(found) else {}))
        )
    return results


def _checked(
    context: dg.AssetCheckExecutionContext,
    lakefs: LakeFSResource,
    artifacts: ArtifactStore,
    project: Project,
    check: "Callable[[DatasetVersion], pd.DataFrame]",
) -> dg.AssetCheckResult:
    """Run a check on the stored version and show its findings; an ERROR in a decision is a refusal."""
    from visionops_assets.common.findings import has_errors
    from visionops_assets.dataset.versions.dataset_version import read_version

    with clear_failures():
        findings = check(read_version(lakefs, artifacts, project, context.partition_key))
    refused = has_errors(findings)
    if refused and run_tags.kind_of_run(context.run.tags) == "decision":
        context.instance.add_run_tags(context.run.run_id, {run_tags.OUTCOME: run_tags.REFUSED})
    return _result(findings)


def _result(
    findings: "pd.DataFrame", name: str | None = None, more: Mapping[str, dg.MetadataValue] | None = None
) -> dg.AssetCheckResult:
    from visionops_assets.common.findings import findings_in_words, has_errors

    return dg.AssetCheckResult(
        check_name=name,
        passed=findings.empty,
        severity=dg.AssetCheckSeverity.ERROR if has_errors(findings) else dg.AssetCheckSeverity.WARN,
        description=findings_in_words(findings),
        metadata={
            "findings": len(findings),
            "shown": metadata.table(
                findings.head(FINDINGS_SHOWN), [name for name in _SHOWN_COLUMNS if name in findings]
            ),
            **(more or {}),
        },
    )
