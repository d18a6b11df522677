"""What a manifest must hold before anything is trained on it; and the findings on a batch, sorted into the checks
that are shown.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from resources.lakefs.client import LakeFSResource
from resources.storage import ArtifactStore, Scratch
from visionops_assets.common import run_tags
from visionops_assets.config.project import Project
from visionops_assets.shells import outputs
from visionops_assets.shells.asset_options import batches, dataset_versions
from visionops_assets.shells.job_execution import clear_failures
from visionops_assets.shells.unstable_dagster import unwarned

if TYPE_CHECKING:
    import pandas as pd

    from visionops_assets.dataset.versions.dataset_version import DatasetVersion


FINDINGS_SHOWN = 50
INTACT = "images_intact"
_SHOWN_COLUMNS = ("image", "label", "suspected", "what", "why", "severity")
# Every check that is shown, what it says, and the names its findings carry. The last one takes what is left.
SHOWN: dict[str, tuple[str, frozenset[str]]] = {
    "decodable": (
        "Every image can be read whole, is what its name says, and shows one picture.",
        frozenset({"readable", "named rightly", "single image"}),
    ),
    "measures": (
        "No image is too small, too large or too long.",
        frozenset({"measures"}),
    ),
    "labels_known": ("Every label is a class of the project.", frozenset({"labels known", "of the task"})),
    "boxes_inside": ("Every box has an area and lies inside its image.", frozenset({"boxes"})),
    "exact_duplicates": ("No image is there twice.", frozenset({"no copies", "anything new"})),
    "near_duplicates": (
        "No image is nearly the same as another, above all across splits.",
        frozenset({"near duplicates", "no leak between splits"}),
    ),
    "one_label_an_image": (
        "The same image never has two labels.",
        frozenset({"one label an image"}),
    ),
    "groups_whole": (
        "No group has images on two sides of the split, and the holdout has enough groups to judge by.",
        frozenset({"groups whole", "holdout groups"}),
    ),
    "class_balance": ("Classes are about as frequent as on main.", frozenset({"class balance"})),
    "labels_plausible": (
        "The champion does not confidently disagree with the labels.",
        frozenset({"labels plausible"}),
    ),
    "apart": (
        "Nothing of the batch takes the place of what another project of the repository has.",
        frozenset({"apart from other projects"}),
    ),
    "complete": (
        "Every image has its annotation, every annotation its image.",
        frozenset(),
    ),
}


def _checks_of(
    version: "DatasetVersion", project: Project, lakefs: LakeFSResource, scratch: Scratch, run_id: str
) -> "dict[str, Callable[[], pd.DataFrame]]":
    """What finds what each check of the manifest shows. Those that read images come last: a lakeFS that does not answer
    hides no finding of the others."""
    from visionops_assets.dataset import integrity

    samples, classes = version.samples, project.classes

    def altered() -> "pd.DataFrame":
        chosen = integrity.sample_of_rows(samples, project.audit.daily_sample, run_id)
        return integrity.verify_images(lakefs, project.repository, version.commit.id, chosen)

    return {
        "labels_known": lambda: integrity.check_labels_known(samples, classes),
        "groups_whole": lambda: integrity.check_groups_whole(samples),
        "classes_in_splits": lambda: integrity.check_classes_in_splits(samples, classes),
        "images_readable": lambda: integrity.unreadable_images(lakefs, project, version, scratch),
        INTACT: altered,
    }


def intact_check(manifest: dg.AssetsDefinition) -> dg.AssetCheckKey:
    """The check that a schedule asks for daily, and other runs leave out."""
    return dg.AssetCheckKey(manifest.key, INTACT)


def manifest_checks(project: Project, manifest: dg.AssetsDefinition) -> dg.AssetChecksDefinition:
    """The checks on `manifest`, of which a run makes those that it asks for. All but a sample of the images read again
    block where they find an ERROR.
    """
    said = {
        "images_readable": "Every annotated image is there, unaltered, and can be decoded.",
        "labels_known": "Every label is a class of the project.",
        "groups_whole": "No group has images on two sides of the split.",
        "classes_in_splits": "Every class has images in train (ERROR where not), val and holdout (WARN).",
        INTACT: (
            f"{project.audit.daily_sample} images of this version, another choice in each run, still have the bytes "
            f"they were audited with. `visionops verify {project.project} VERSION` reads all of them."
        ),
    }
    with unwarned():
        specs = [
            dg.AssetCheckSpec(
                name,
                asset=manifest,
                description=description,
                blocking=name != INTACT,
                partitions_def=dataset_versions(project.project),
            )
            for name, description in said.items()
        ]

    @dg.multi_asset_check(name=f"{manifest.key.to_python_identifier()}_checks", specs=specs, can_subset=True)
    def checks(
        context: dg.AssetCheckExecutionContext,
        lakefs: dg.ResourceParam[LakeFSResource],
        artifacts: dg.ResourceParam[ArtifactStore],
        scratch: dg.ResourceParam[Scratch],
    ) -> Iterator[dg.AssetCheckResult]:
        from visionops_assets.common.findings import has_errors
        from visionops_assets.dataset.versions.dataset_version import read_version

        wanted = {key.name for key in context.selected_asset_check_keys}
        with clear_failures():
            version = read_version(lakefs, artifacts, project, context.partition_key)
        for name, find in _checks_of(version, project, lakefs, scratch, context.run.run_id).items():
            if name not in wanted:
                continue
            with clear_failures():
                findings = find()
            # An ERROR in a decision is a refusal.
            if has_errors(findings) and run_tags.kind_of_run(context.run.tags) == "decision":
                context.instance.add_run_tags(context.run.run_id, {run_tags.OUTCOME: run_tags.REFUSED})
            yield _result(findings, name)

    return checks


def incoming_check_specs(project: Project, asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The checks that `incoming_batch` makes of a batch. An ERROR makes its run red: the batch is refused."""
    with unwarned():
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


def _result(
    findings: "pd.DataFrame", name: str, more: Mapping[str, dg.MetadataValue] | None = None
) -> dg.AssetCheckResult:
    from visionops_assets.common.findings import findings_in_words, has_errors

    return dg.AssetCheckResult(
        check_name=name,
        passed=findings.empty,
        severity=dg.AssetCheckSeverity.ERROR if has_errors(findings) else dg.AssetCheckSeverity.WARN,
        description=findings_in_words(findings),
        metadata={
            "findings": len(findings),
            "shown": outputs.table(
                findings.head(FINDINGS_SHOWN), [name for name in _SHOWN_COLUMNS if name in findings]
            ),
            **(more or {}),
        },
    )


def by_shown_check(findings: "pd.DataFrame") -> "dict[str, pd.DataFrame]":
    """The findings of each check of `SHOWN`, in its order."""
    named = {name: shown for shown, (_, names) in SHOWN.items() for name in names}
    homes = findings["check"].map(named).fillna("complete")
    return {shown: findings[homes == shown].reset_index(drop=True) for shown in SHOWN}
