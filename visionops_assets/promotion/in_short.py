"""An explanation in three sentences, for where a whole page does not fit."""

from visionops_assets.dataset.versions.manifest_diff import ManifestDiff
from visionops_assets.promotion.changes import KINDS
from visionops_assets.promotion.explain import Explanation
from visionops_assets.training.provenance import Difference

NAMED = 4


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
    images = _images(explanation.data) if explanation.data is not None else "images cannot be compared"
    inputs = (
        _inputs(explanation.inputs)
        if explanation.inputs is not None
        else "recipe and code cannot be compared"
    )
    return f"Against version {arrival.from_version}: {images}; {inputs}."


def _images(data: ManifestDiff) -> str:
    tables = {
        "added": data.added,
        "removed": data.removed,
        "relabelled": data.relabelled,
        "moved to another split": data.moved,
        "put into another group": data.regrouped,
    }
    counted = [f"{len(rows):,} {change}" for change, rows in tables.items() if len(rows)]
    return f"images: {', '.join(counted)}" if counted else "the same images"


def _inputs(found: tuple[Difference, ...]) -> str:
    differ = []
    for kind, name in KINDS.items():
        names = [each.name for each in found if each.kind == kind]
        if names:
            more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
            differ.append(f"{name.lower()} ({', '.join(names[:NAMED] + more)})")
    return f"other {' and '.join(differ)}" if differ else "the same recipe, code, packages and hardware"
