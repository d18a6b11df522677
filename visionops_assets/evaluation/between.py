"""What came between champion and challenger: training images by batch, recipe, code and packages.

Where the champion holds a floor and the challenger does not, that is to blame, not the batch that shows it.
"""

from collections.abc import Collection, Iterator

import pandas as pd

from visionops_assets.dataset.versions.manifest import Store
from visionops_assets.dataset.versions.manifest_diff import ManifestDiff, diff_manifests
from visionops_assets.evaluation.context import JudgementContext
from visionops_assets.evaluation.phrases import retract_command
from visionops_assets.evaluation.seen import recorded_manifest, recorded_provenance
from visionops_assets.evaluation.verdict import BatchBetween, Between
from visionops_assets.registry import Registry
from visionops_assets.training.provenance import COMPUTING, Provenance, compare

_TAUGHT = ("train", "val")
_INPUTS_NAMED = 4


def came_between(
    registry: Registry, store: Store, *, champion: str, challenger: str, published: Collection[str]
) -> Between | None:
    """What differs between the trainings of two runs; None where one does not record its data.

    `published` are the batches that `visionops retract` can take back.
    """
    before, after = (recorded_manifest(registry, run) for run in (champion, challenger))
    if before is None or after is None:
        return None
    old, new = (recorded_provenance(registry, run) for run in (champion, challenger))
    inputs = [] if old is None or new is None else list(_inputs(old, new))
    diff = diff_manifests(before, after, store)
    return Between(batches=list(_batches(diff, published)), inputs=inputs)


def in_words(between: Between | None, context: JudgementContext) -> str:
    """Where to look first, and the command that takes it back."""
    if between is None:
        return (
            "what came between the two models is not recorded for both: `visionops status "
            f"{context.project}` names their dataset versions, `visionops diff {context.project}` compares two"
        )
    blamed = [each for each in between.batches if each.added or each.relabelled]
    gone = [each for each in between.batches if each.removed and not each.added]
    parts = [_told(each) for each in (*blamed, *gone)]
    text = "what came between the two models is to blame: "
    text += "; ".join(parts) if parts else "no training image differs"
    if between.inputs:
        named = ", ".join(between.inputs[:_INPUTS_NAMED])
        more = len(between.inputs) - _INPUTS_NAMED
        text += f"; and it was trained differently: {named}" + (f" and {more} more" if more > 0 else "")
    elif not parts:
        text += ", and recipe and code are the same: training it again with another seed tells chance apart"
    commands = [f"`{retract_command(context.project, each.batch)}`" for each in blamed if each.published]
    return f"{text}. If its labels are wrong: {' or '.join(commands)}" if commands else f"{text}."


def _told(each: BatchBetween) -> str:
    counts = (
        (each.added, "came"),
        (each.relabelled, "relabelled"),
        (each.removed, "no longer there"),
    )
    return f"batch {each.batch} (training images: {', '.join(f'{n:,} {what}' for n, what in counts if n)})"


def _batches(diff: ManifestDiff, published: Collection[str]) -> Iterator[BatchBetween]:
    """The batches whose training images differ, those with most new or relabelled ones first."""
    now, then = _teaches(diff.moved), _teaches(diff.moved, "old_")
    came, went = diff.moved[now & ~then], diff.moved[then & ~now]
    tables = {
        "added": (diff.added[_teaches(diff.added)], came),
        "removed": (diff.removed[_teaches(diff.removed)], went),
        "relabelled": (diff.relabelled[_teaches(diff.relabelled)],),
    }
    counts: dict[str, dict[str, int]] = {}
    for change, parts in tables.items():
        for part in parts:
            for batch, number in part["batch"].value_counts().items():
                of_batch = counts.setdefault(str(batch), {})
                of_batch[change] = of_batch.get(change, 0) + int(number)
    found = [
        BatchBetween(batch=name, published=name in published, **changes) for name, changes in counts.items()
    ]
    yield from sorted(found, key=lambda each: (-each.added - each.relabelled, each.batch))


def _teaches(rows: pd.DataFrame, prefix: str = "") -> pd.Series:
    return rows[f"{prefix}split"].isin(_TAUGHT) & ~rows[f"{prefix}excluded"].astype(bool)


def _inputs(before: Provenance, after: Provenance) -> Iterator[str]:
    for each in compare(before, after):
        if each.kind == "recipe":
            yield f"{each.name} {each.before} → {each.after}"
        elif each.kind == "code" and each.name == "sources":
            yield "the training code"
        elif each.kind == "versions" and each.name in COMPUTING:
            yield f"{each.name} {each.before} → {each.after}"
