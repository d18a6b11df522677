"""A whole comparison: answers on one holdout, the data, and how both models were made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resources.lakefs.client import LakeFSResource
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore, Scratch
from visionops.comparing.answers import Answers, Measured
from visionops.comparing.sides import Side, Sides
from visionops_assets.config.project import Project
from visionops_assets.dataset.versions.manifest_diff import ManifestDiff, diff_manifests
from visionops_assets.evaluation import verdict
from visionops_assets.evaluation.turned import Turned
from visionops_assets.evaluation.verdict_wording import verdict_summary
from visionops_assets.training.provenance import Difference
from visionops_assets.training.provenance import compare_provenance as compare_inputs

FORMAT = 1
# Of one recipe they differ only because they are measured on the training images.
_MEASURED = ("input.mean", "input.std")


@dataclass(frozen=True)
class Comparison:
    """A against B. A positive gain means that A is better.

    `measured` is None where the two are one model, or one of them is data without a model. `data` is what A's data has
    that B's had not, None where a manifest is missing; `inputs` is how A was made otherwise than B, None where that is
    not recorded.
    """

    project: str
    a: Side
    b: Side
    measured: Measured | None
    data: ManifestDiff | None
    inputs: tuple[Difference, ...] | None
    note: str = ""

    @property
    def same_model(self) -> bool:
        """Whether both sides are the same weights."""
        one, other = self.a.model, self.b.model
        return bool(one and other and one.weights_sha256 == other.weights_sha256)

    def to_json(self) -> dict[str, Any]:
        """The comparison for programs."""
        return {
            "format": FORMAT,
            "project": self.project,
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "same_model": self.same_model,
            **_measured_json(self.measured),
            "data": None if self.data is None else _data_json(self.data),
            "inputs": None if self.inputs is None else [each.model_dump() for each in self.inputs],
            "note": self.note or None,
        }


@dataclass(frozen=True)
class Comparing:
    """Compares what is named, in one project. It reads; it writes no tag, alias, verdict or place in the ledger."""

    project: Project
    registry: ModelRegistry
    lakefs: LakeFSResource
    artifacts: ArtifactStore
    scratch: Scratch
    say: Callable[[str], None] = lambda _: None

    def usual(self, on: str | None = None) -> Comparison:
        """The newest challenger against the champion. Raises `ComparisonError`."""
        a, b, note = self._sides.usual()
        return self._compare(a, b, on, note)

    def named(self, a: str, b: str, on: str | None = None) -> Comparison:
        """Two things by name; `on` names the dataset version whose holdout is used. Raises `ComparisonError`."""
        return self._compare(self._sides.find(a), self._sides.find(b), on, "")

    def run(self, run_id: str, b: str, on: str | None = None) -> Comparison:
        """A run's model against something by name."""
        return self._compare(self._sides.run(run_id, run_id), self._sides.find(b), on, "")

    def _compare(self, a: Side, b: Side, on: str | None, note: str) -> Comparison:
        both = Comparison(self.project.project, a, b, None, self._data(a, b), _inputs(a, b), note)
        if a.model is None or b.model is None or both.same_model:
            return both
        answers = Answers(self.project, self.registry, self.lakefs, self.artifacts, self.scratch, self.say)
        return Comparison(**{**vars(both), "measured": answers.measure(a, b, on)})

    def _data(self, a: Side, b: Side) -> ManifestDiff | None:
        if a.manifest is None or b.manifest is None:
            return None
        return diff_manifests(b.manifest, a.manifest, self.artifacts)

    @property
    def _sides(self) -> Sides:
        return Sides(self.project, self.registry, self.lakefs, self.artifacts)


def _inputs(a: Side, b: Side) -> tuple[Difference, ...] | None:
    if a.provenance is not None and b.provenance is not None:
        declared_alike = a.provenance.recipe_digest == b.provenance.recipe_digest
        return tuple(
            each
            for each in compare_inputs(b.provenance, a.provenance)
            if each.kind != "data" and not (declared_alike and each.name in _MEASURED)
        )
    # A run of somebody's own script says by its parameters how it was made.
    if a.params and b.params:
        return tuple(_parameters(b.params, a.params))
    return None


def _parameters(before: Mapping[str, str], after: Mapping[str, str]) -> list[Difference]:
    return [
        Difference(
            kind="recipe", name=name, before=before.get(name, "absent"), after=after.get(name, "absent")
        )
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _measured_json(measured: Measured | None) -> dict[str, Any]:
    if measured is None:
        return {"on": None, "metrics": [], "slices": [], "won": [], "lost": [], "verdict": None}
    evidence = measured.evidence
    return {
        "on": {
            "dataset_version": measured.dataset_version,
            "holdout_digest": measured.holdout_digest,
            "images": evidence.rows,
            "groups": evidence.groups,
            "answers": measured.source,
            "trained_on_by_a": measured.seen[0],
            "trained_on_by_b": measured.seen[1],
        },
        "metrics": [_metric_json(each) for each in (evidence.primary, *evidence.guards)],
        "slices": [
            {
                "slice": row.name(),
                "metric": row.metric,
                "images": row.rows,
                "a": row.challenger,
                "b": row.champion,
                "wins": row.wins,
                "losses": row.losses,
                "p_worse_holm": row.p_worse_holm,
                "tolerance": row.tolerance,
                "loss_found": row.loss_found,
                "worse": row.regressed,
                "floor": row.floor,
                "below_floor": row.below_floor,
            }
            for row in evidence.slices
        ],
        "won": [_turned_json(each) for each in measured.turned.won],
        "lost": [_turned_json(each) for each in measured.turned.lost],
        "verdict": None if measured.verdict is None else _verdict_json(measured.verdict),
    }


def _turned_json(each: Turned) -> dict[str, Any]:
    return {
        "image": each.path,
        "batch": each.batch,
        "truth": each.truth.words,
        "a": each.challenger.words,
        "b": each.champion.words if each.champion is not None else None,
    }


def _metric_json(each: verdict.Comparison) -> dict[str, Any]:
    return {
        "metric": each.metric,
        "unit": each.unit,
        "a": each.challenger,
        "b": each.champion,
        "gain": each.difference,
        "lower": each.lower.value if each.lower else None,
        "upper": each.upper.value if each.upper else None,
        "interval": 1 - 2 * each.lower.level if each.lower else None,
        "wins": each.wins,
        "losses": each.losses,
    }


def _verdict_json(found: verdict.Verdict) -> dict[str, Any]:
    return {
        "identity": found.identity,
        "kind": found.kind,
        "outcome": found.verdict,
        "challenger": found.challenger.weights_sha256,
        "summary": verdict_summary(found),
    }


def _data_json(data: ManifestDiff) -> dict[str, Any]:
    counts = data.counts()
    return {
        "empty": data.empty,
        "summary": data.summary().splitlines(),
        "counts": [
            {"change": str(change), "batch": str(batch), "class": str(label), "images": int(images)}
            for change, batch, label, images in zip(
                counts["change"], counts["batch"], counts["label"], counts["images"], strict=True
            )
        ],
    }
