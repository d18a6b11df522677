"""The answer to one click: why this model is in production, kept as a page beside its files."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from edge.images.decode import decode_whole
from resources.artifact_store import ArtifactStore
from resources.lakefs.client import LakeFSResource
from resources.model_records import EVERYWHERE
from resources.models.registry import ModelRegistry
from visionops_assets.champions.history import newest_change
from visionops_assets.dataset.versions.manifest_diff import labels_of
from visionops_assets.images.pictures import Captioned, contact_sheet
from visionops_assets.pages.html_page import to_html
from visionops_assets.pages.page import Picture
from visionops_assets.project import Project
from visionops_assets.promotion.explain import Explanation, Links, why
from visionops_assets.promotion.in_short import changes_in_short, trained_on_in_short, why_in_short

# Enough to see what a change is like; the rest is a click away in lakeFS.
SHOWN = 48


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
    page = to_html(explanation.page, tuple(_contact_sheets(project, explanation, lakefs)))
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


def _contact_sheets(project: Project, explanation: Explanation, lakefs: LakeFSResource) -> Iterator[Picture]:
    """Pictures of what changed against the predecessor; each side read at the commit that has it."""
    data, before, made = explanation.data, explanation.evidence.predecessor, explanation.evidence.made
    if data is None or before is None or before.provenance is None or made.provenance is None:
        return
    for rows, commit, what in (
        (data.added, made.provenance.data.commit, "added"),
        (data.removed, before.provenance.data.commit, "removed"),
        (data.relabelled, made.provenance.data.commit, "relabelled"),
    ):
        if rows.empty:
            continue
        shown = _spread(rows)
        images = dict(lakefs.read_many(project.repository, commit, shown["path"].tolist()))
        sheet = contact_sheet(
            [
                Captioned(decode_whole(images[path], path, 3), str(label))
                for path, label in zip(shown["path"], _first_labels(shown), strict=True)
            ]
        )
        yield Picture(sheet, f"{len(shown)} of {len(rows):,} images {what}")


def _spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows spread evenly over classes and batches."""
    ordered = rows.assign(first_label=_first_labels(rows)).sort_values(
        ["first_label", "batch", "sha256"], kind="stable"
    )
    step = max(1, len(ordered) / SHOWN)
    return ordered.iloc[[int(number * step) for number in range(min(SHOWN, len(ordered)))]]


def _first_labels(rows: pd.DataFrame) -> list[str]:
    """The label of each row; in detection, the first class it has boxes of."""
    return [str(label) for label in labels_of(rows).groupby(level=0).first()]
