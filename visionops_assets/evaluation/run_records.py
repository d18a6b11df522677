"""What the MLflow run of a model records: the data it saw, what came between its training and the champion's, and
the verdict as its page shows it.

Where the champion holds a floor and the challenger does not, what came between is to blame, not the batch that
shows it. MLflow decides nothing: the verdict is the file that `verdict_store.py` keeps. A run that was judged again
shows the latest decision; a what-if never stands in the place of one.
"""

import re
from collections.abc import Collection, Iterator
from json import loads

import pandas as pd

from resources.error_family import NotFound
from resources.escaping import markdown
from resources.lakefs.client import LakeFSResource
from resources.models.records import (
    FOREIGN,
    PROVENANCE_ARTIFACT,
    TAG_COMMIT,
    TAG_DESCRIPTION,
    TAG_KIND,
    TAG_UNSEEN,
    TAG_VERDICT,
    ArtifactMissing,
)
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore
from visionops_assets.champions.registered_model import Registry
from visionops_assets.config.project import Project
from visionops_assets.dataset.versions.dataset_version import DatasetVersion, named_version
from visionops_assets.dataset.versions.manifest import Manifest, Store
from visionops_assets.dataset.versions.manifest_diff import ManifestDiff, diff_manifests
from visionops_assets.evaluation.context import GateContext
from visionops_assets.evaluation.verdict import BatchBetween, Between, Verdict
from visionops_assets.evaluation.verdict_wording import retract_command, verdict_summary
from visionops_assets.training.challenger import MANIFEST_ARTIFACT, Challenger
from visionops_assets.training.provenance import COMPUTING, ForeignOrigin, Provenance, compare_provenance

_TAUGHT = ("train", "val")
_INPUTS_NAMED = 4
_WHAT_IF = " (what-if)"
# Between the verdict and what the run said of itself before.
_RULE = "\n\n---\n\n"
_LONGEST = 4000


class DataGone(NotFound):
    """The data of a challenger is not what its run recorded, so nobody can tell what it saw."""


def version_trained_on(
    project: Project,
    version: DatasetVersion,
    challenger: Challenger,
    lakefs: LakeFSResource,
    registry: ModelRegistry,
    artifacts: ArtifactStore,
) -> DatasetVersion:
    """The dataset version that a challenger was trained on: `version` itself, or that of its run. Where nobody knows,
    `version` stands for it.

    Raises `DataGone`, and what lakeFS and MLflow raise.
    """
    if challenger.manifest_digest == version.manifest.digest:
        return version
    tags = registry.runs.get(challenger.run_id).tags
    if TAG_UNSEEN in tags:
        return version
    commit = tags[TAG_COMMIT]
    found = named_version(lakefs, artifacts, project, commit)
    if found.manifest.digest != challenger.manifest_digest:
        raise DataGone(
            f"run {challenger.run_id} was trained on manifest {challenger.manifest_digest[:12]}, commit "
            f"{commit[:12]} of {project.repository} gives {found.manifest.digest[:12]} to {project.annotations}: "
            "train it again"
        )
    return found


def recorded_provenance(registry: Registry, run_id: str) -> Provenance | None:
    """How a run made its model; None where it does not say."""
    found = _read(registry, run_id, PROVENANCE_ARTIFACT)
    return None if found is None else Provenance.from_json(found.decode())


def foreign_origin(registry: Registry, run_id: str) -> ForeignOrigin | None:
    """What is said of the model of a run that was made elsewhere; None of one that was made here."""
    if registry.runs.get(run_id).tags.get(TAG_KIND) != FOREIGN:
        return None
    found = recorded_provenance(registry, run_id)
    return found.foreign if found is not None else None


def recorded_manifest(registry: Registry, run_id: str) -> Manifest | None:
    """What a run trained on; None where it does not say."""
    found = _read(registry, run_id, MANIFEST_ARTIFACT)
    return None if found is None else Manifest.from_json(loads(found))


def _read(registry: Registry, run_id: str, path: str) -> bytes | None:
    try:
        return registry.artifacts.read_bytes(run_id, path)
    except ArtifactMissing:
        return None


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


def between_in_words(between: Between | None, context: GateContext) -> str:
    """Where to look first, and the command that takes it back."""
    if between is None:
        return (
            "what came between the two models is not recorded for both: `visionops status "
            f"{context.project}` names their dataset versions, `visionops diff {context.project} BEFORE AFTER` "
            "compares two"
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
    for each in compare_provenance(before, after):
        if each.kind == "recipe":
            yield f"{each.name} {each.before} → {each.after}"
        elif each.kind == "code" and each.name == "sources":
            yield "the training code"
        elif each.kind == "versions" and each.name in COMPUTING:
            yield f"{each.name} {each.before} → {each.after}"


def show_verdict(registry: ModelRegistry, verdict: Verdict, run_id: str, partition: str) -> None:
    """Let a challenger's run show a stored verdict on a dataset version. Showing it again changes nothing.

    Raises `RunNotFound`, `RegistryUnavailable`.
    """
    tags = registry.runs.get(run_id).tags
    has_decision = TAG_VERDICT in tags and not tags[TAG_VERDICT].endswith(_WHAT_IF)
    if verdict.kind == "what_if" and has_decision:
        return
    registry.runs.log_points(run_id, {name: {0: value} for name, value in holdout_metrics(verdict).items()})
    registry.runs.set_tags(
        run_id,
        {
            TAG_VERDICT: verdict.verdict + (_WHAT_IF if verdict.kind == "what_if" else ""),
            TAG_DESCRIPTION: _described(verdict, partition, tags.get(TAG_DESCRIPTION, "")),
        },
    )


def holdout_metrics(verdict: Verdict) -> dict[str, float]:
    """The challenger's numbers on the holdout by MLflow's names, with its gains over the champion; none where nothing
    could be measured."""
    evidence = verdict.evidence
    if evidence is None:
        return {}
    found: dict[str, float] = {"holdout_images": evidence.rows}
    for compared in (evidence.primary, *evidence.guards):
        name = f"holdout_{re.sub(r'[^A-Za-z0-9]+', '_', compared.metric)}"
        found[name] = compared.challenger
        if compared.difference is not None:
            found[f"{name}_gain"] = compared.difference
    return found


def _described(verdict: Verdict, partition: str, before: str) -> str:
    of_the_run = before.rpartition(_RULE)[2]
    against = verdict.champion.name() if verdict.champion else "no champion"
    kind = (
        "what-if, which promotes nothing"
        if verdict.kind == "what_if"
        else f"decision {verdict.identity[:12]}"
    )
    told_of = (
        f"{kind[0].upper()}{kind[1:]}, on the holdout of dataset version {partition}, against {against}."
    )
    return "".join(
        [f"{markdown(verdict_summary(verdict)[:_LONGEST])}\n\n{markdown(told_of)}", _RULE, of_the_run]
    )
