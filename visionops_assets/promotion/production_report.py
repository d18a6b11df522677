"""The answer to one click: why this model is in production, kept as a page beside its files, and in three sentences
where a whole page does not fit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from edge.images.decode import decode_whole
from resources.lakefs.client import LakeFSResource
from resources.models.records import EVERYWHERE
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore
from visionops_assets.champions.history import newest_change
from visionops_assets.config.project import Project
from visionops_assets.dataset.versions.manifest_diff import ManifestDiff, labels_of
from visionops_assets.images.pictures import Captioned, contact_sheet
from visionops_assets.pages.html_page import to_html
from visionops_assets.pages.page import Picture
from visionops_assets.promotion.explain import Explanation, Links, why
from visionops_assets.promotion.version_differences import INPUT_KINDS
from visionops_assets.training.provenance import Difference

# Enough to see what a change is like; the rest is a click away in lakeFS.
PICTURES_SHOWN = 48
INPUTS_NAMED = 4


@dataclass(frozen=True)
class ProductionReport:
    """What `in_production` shows in a sentence each and as a page, and where the report is.

    `change` is the number of the last change of what runs that was known then, of all device groups.
    """

    version: int
    group: str
    weights_sha256: str
    why: str
    trained_on: str
    what_changed: str
    markdown: str
    url: str
    commit_url: str
    change: int


def links_to(lakefs: LakeFSResource, registry: ModelRegistry) -> Links:
    """Addresses of the pages that an explanation points to."""
    return Links(
        commit=lambda repository, commit: lakefs.link(repository, f"commits/{commit}"),
        compare=lambda repository, before, after: lakefs.link(
            repository, "compare", ref=before, compare=after
        ),
        run=lambda run_id: registry.run_url(registry.runs.get(run_id)),
        version=registry.version_url,
    )


def report_on_production(
    project: Project,
    *,
    lakefs: LakeFSResource,
    registry: ModelRegistry,
    artifacts: ArtifactStore,
    group: str = EVERYWHERE,
) -> ProductionReport:
    """Explain the version in production on a device group, and store the page, with contact sheets, with its run.

    Raises `ModelNotFound` where nothing is in production, and what MLflow and lakeFS raise.
    """
    # First: a change that comes meanwhile is not told of yet.
    known = newest_change(registry.models.get(project.project))
    explanation = why(
        registry, artifacts, project.project, None, group, links_to(lakefs, registry), project.gate
    )
    made = explanation.evidence.made
    page = to_html(explanation.page, tuple(_contact_sheets(explanation, lakefs)))
    since = explanation.evidence.now.since
    path = f"reports/in_production_{since.number if since is not None else 0:06d}.html"
    registry.artifacts.put_bytes(made.version.run_id, path, page.encode())
    commit = made.provenance.data.commit if made.provenance is not None else "main"
    return ProductionReport(
        version=made.version.version,
        group=group,
        weights_sha256=made.version.weights_sha256,
        why=why_in_short(explanation),
        trained_on=trained_on_in_short(explanation),
        what_changed=changes_in_short(explanation),
        markdown=explanation.to_markdown(),
        url=registry.run_url(registry.runs.get(made.version.run_id), path),
        commit_url=lakefs.link(project.repository, f"commits/{commit}"),
        change=known.number if known is not None else 0,
    )


def _contact_sheets(explanation: Explanation, lakefs: LakeFSResource) -> Iterator[Picture]:
    """Pictures of what changed against the predecessor; each side read where it was trained on. What is gone there is
    left out: it keeps no change from being told."""
    data, before, made = explanation.data, explanation.evidence.predecessor, explanation.evidence.made
    if data is None or before is None or before.provenance is None or made.provenance is None:
        return
    for rows, version, what in (
        (data.added, made.provenance.data, "added"),
        (data.removed, before.provenance.data, "removed"),
        (data.relabelled, made.provenance.data, "relabelled"),
    ):
        if rows.empty:
            continue
        shown = _spread(rows)
        images = dict(lakefs.read_each(version.repository, version.commit, shown["path"].tolist()))
        pictures = [
            Captioned(decode_whole(content, path, 3), str(label))
            for path, label in zip(shown["path"], _first_labels(shown), strict=True)
            if isinstance(content := images[path], bytes)
        ]
        if pictures:
            yield Picture(contact_sheet(pictures), f"{len(pictures)} of {len(rows):,} images {what}")


def _spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows spread evenly over classes and batches."""
    ordered = rows.assign(first_label=_first_labels(rows)).sort_values(
        ["first_label", "batch", "sha256"], kind="stable"
    )
    step = max(1, len(ordered) / PICTURES_SHOWN)
    return ordered.iloc[[int(number * step) for number in range(min(PICTURES_SHOWN, len(ordered)))]]


def _first_labels(rows: pd.DataFrame) -> list[str]:
    """The label of each row; in detection, the first class it has boxes of."""
    return [str(label) for label in labels_of(rows).groupby(level=0).first()]


def why_in_short(explanation: Explanation) -> str:
    """Since when, by whom, in place of what, and the verdict or a person's reason."""
    evidence = explanation.evidence
    since = evidence.now.since if evidence.in_production else evidence.arrival
    return since.sentence() if since is not None else "Not recorded: the alias was moved outside VisionOps."


def trained_on_in_short(explanation: Explanation) -> str:
    """How many images, of which commit."""
    made = explanation.evidence.made
    if made.provenance is None:
        return f"Dataset version {made.version.partition or 'not recorded'}; its provenance is missing."
    data = made.provenance.data
    return (
        f"{data.train_samples:,} training and {data.validation_samples:,} validation images of "
        f"{len(data.classes)} classes, at commit {data.commit[:12]} of {data.repository}."
    )


def changes_in_short(explanation: Explanation) -> str:
    """Against the version that it replaced: images, then recipe, code, packages and hardware."""
    arrival = explanation.evidence.arrival
    if arrival is None or arrival.from_version is None:
        return "Nothing to compare with: it replaced no model."
    images = (
        _images_in_short(explanation.data) if explanation.data is not None else "images cannot be compared"
    )
    inputs = (
        _inputs_in_short(explanation.inputs)
        if explanation.inputs is not None
        else "recipe and code cannot be compared"
    )
    return f"Against version {arrival.from_version}: {images}; {inputs}."


def _images_in_short(data: ManifestDiff) -> str:
    tables = {
        "added": data.added,
        "removed": data.removed,
        "relabelled": data.relabelled,
        "moved to another split": data.moved,
        "put into another group": data.regrouped,
    }
    counted = [f"{len(rows):,} {change}" for change, rows in tables.items() if len(rows)]
    return f"images: {', '.join(counted)}" if counted else "the same images"


def _inputs_in_short(found: tuple[Difference, ...]) -> str:
    differ = []
    for kind, name in INPUT_KINDS.items():
        names = [each.name for each in found if each.kind == kind]
        if names:
            more = [f"{len(names) - INPUTS_NAMED} more"] if len(names) > INPUTS_NAMED else []
            differ.append(f"{name.lower()} ({', '.join(names[:INPUTS_NAMED] + more)})")
    return f"other {' and '.join(differ)}" if differ else "the same recipe, code, packages and hardware"
