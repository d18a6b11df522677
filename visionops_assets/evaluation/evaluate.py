"""From a challenger to its stored verdict: both models scored on one holdout, then the gate.

A verdict is identified by challenger, champion, holdout and rules; one that is stored already is found and reused,
so the same challenger judged again against the same champion spends nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge.images.decode import decode_whole
from resources.error_family import NotFound
from resources.models.records import ModelVersion, version_on
from resources.service_clients import Stores
from visionops_assets.champions.disagreements import has_files, require_agreement
from visionops_assets.champions.history import production
from visionops_assets.common.error_levels import turn_of
from visionops_assets.common.tables import frame_from_parquet, to_parquet
from visionops_assets.config.project import Project
from visionops_assets.dataset.versions.commit_log import publications
from visionops_assets.dataset.versions.dataset_version import DatasetVersion
from visionops_assets.evaluation import verdict_store
from visionops_assets.evaluation.context import find_leaks
from visionops_assets.evaluation.evaluation_task import evaluation_task
from visionops_assets.evaluation.gate import GateContext, gate_verdict
from visionops_assets.evaluation.run_records import came_between, foreign_origin, show_verdict
from visionops_assets.evaluation.scoring import Scorer
from visionops_assets.evaluation.verdict import Between, Kind, ModelReference, Verdict, verdict_identity
from visionops_assets.inference.predictions import holdout_digest
from visionops_assets.training.challenger import Challenger


@dataclass(frozen=True)
class Evaluated:
    """A stored verdict, the predictions it rests on, and whether it was found rather than made.

    `examples` is a small PNG of answers against truths, where the task has one.
    """

    verdict: Verdict
    predictions: pd.DataFrame
    reused: bool
    examples: bytes | None = None


class EmptyHoldout(NotFound, ValueError):
    """A dataset version without holdout samples: nothing can be judged on it."""


@dataclass(frozen=True)
class Question:
    """Whether a challenger is better than the present champion on the holdout of a dataset version.

    `trained_on` is the dataset version that the challenger was trained on; `kind` says whether the answer decides.
    """

    project: Project
    version: DatasetVersion
    trained_on: DatasetVersion
    challenger: Challenger
    kind: Kind


def evaluate_challenger(
    question: Question, stores: Stores, *, dagster_run_id: str, say: Callable[[str], None]
) -> Evaluated:
    """Judge a challenger against the present champion on a version's holdout, and store the verdict.

    Raises `EmptyHoldout`, `ChampionUnclear`, `ModelFileError` where a model's file is altered or unreadable, and what
    lakeFS and MLflow raise.
    """
    project, version, challenger, kind = (
        question.project,
        question.version,
        question.challenger,
        question.kind,
    )
    registry, evaluation = stores.registry, _Evaluation(question, stores, say)
    identity = evaluation.identity
    found = verdict_store.find(registry, project.project, challenger.run_id, identity, kind)
    predictions = evaluation.stored_predictions()
    if found is not None and predictions is not None:
        say(
            f"this challenger was judged against this champion on this holdout before: verdict {identity[:12]} reused"
        )
        show_verdict(registry, found, challenger.run_id, version.partition)
        return Evaluated(found, predictions, True, evaluation.examples(predictions))
    if predictions is None:
        predictions = evaluation.predict()
    verdict = found or evaluation.verdict_on(predictions, dagster_run_id)
    stored = verdict_store.store(registry, verdict, run_id=challenger.run_id, partition=version.partition)
    show_verdict(registry, stored, challenger.run_id, version.partition)
    return Evaluated(stored, predictions, found is not None, evaluation.examples(predictions))


class _Evaluation:
    """One evaluation: who against whom on what, fixed when it begins."""

    def __init__(self, question: Question, stores: Stores, say: Callable[[str], None]) -> None:
        project, version, challenger = question.project, question.version, question.challenger
        self.project, self.version, self.challenger, self.kind = project, version, challenger, question.kind
        self.trained_on = question.trained_on
        self.task = evaluation_task(project.task)
        self.lakefs, self.registry, self.artifacts = stores.lakefs, stores.registry, stores.artifacts
        self.say = say
        self.scorer = Scorer(
            self.task, project.repository, version.commit.id, stores.lakefs, stores.registry, stores.scratch
        )
        self.holdout = version.split("holdout")
        if self.holdout.empty:
            raise EmptyHoldout(
                f"dataset version {version.partition} has no holdout samples, so no model can be judged on it: "
                "import a batch large enough for `splits.holdout`, or labels with a split column"
            )
        self.champion = self._champion()
        self.holdout_digest = holdout_digest(self.holdout, project.gate.slices)
        self.foreign = foreign_origin(self.registry, challenger.run_id)
        self.training = challenger.identity if self.foreign is not None else None
        self.identity = verdict_identity(
            challenger.weights_sha256,
            self.champion.weights_sha256 if self.champion else None,
            self.holdout_digest,
            project.gate.digest(),
            self.training,
        )
        promoted_by = self._promoted_by()
        if promoted_by is not None:
            self.identity = promoted_by
        self._predictions_path = verdict_store.predictions_path(self.identity)

    def stored_predictions(self) -> pd.DataFrame | None:
        """The predictions of an earlier judgement of the same identity."""
        if not self.registry.artifacts.exists(self.challenger.run_id, self._predictions_path):
            return None
        return frame_from_parquet(
            self.registry.artifacts.read_bytes(self.challenger.run_id, self._predictions_path)
        )

    def predict(self) -> pd.DataFrame:
        """Score both models on the holdout and keep the table with the challenger's run."""
        challenger = self._score(self.challenger.run_id, self.challenger.onnx_sha256, "challenger")
        champion = None
        if self.champion is not None:
            champion = self._score(self.champion.run_id, self.champion.onnx_sha256, "champion")
        table = self.task.table(
            self.holdout, challenger=challenger, champion=champion, slices=self.project.gate.slices
        )
        self.registry.artifacts.put_bytes(self.challenger.run_id, self._predictions_path, to_parquet(table))
        return table

    def examples(self, predictions: pd.DataFrame) -> bytes | None:
        """Answers against truths as a picture, drawn once and kept with the predictions."""
        path, run_id = f"verdicts/{self.identity}/examples.png", self.challenger.run_id
        if self.registry.artifacts.exists(run_id, path):
            return self.registry.artifacts.read_bytes(run_id, path)
        drawn = self.task.examples(predictions, self.project.classes, self._whole_images)
        if drawn is not None:
            self.registry.artifacts.put_bytes(run_id, path, drawn)
        return drawn

    def verdict_on(self, predictions: pd.DataFrame, dagster_run_id: str) -> Verdict:
        """The gate's verdict. A decision takes its place among the champion's challengers first."""
        champion = self.champion
        context = GateContext(
            project=self.project.project,
            classes=self.project.classes,
            challenger=ModelReference(
                weights_sha256=self.challenger.weights_sha256,
                onnx_sha256=self.challenger.onnx_sha256,
                run_id=self.challenger.run_id,
            ),
            champion=ModelReference(
                weights_sha256=champion.weights_sha256,
                onnx_sha256=champion.onnx_sha256,
                run_id=champion.run_id,
                version=champion.version,
            )
            if champion
            else None,
            holdout_digest=self.holdout_digest,
            holdout_share=len(self.holdout) / len(self.version.used),
            leaks=self._leaks(),
            kind=self.kind,
            k=self._turn(),
            created_at=datetime.now(UTC),
            dagster_run_id=dagster_run_id,
            task=self.project.task,
            between=self._between(),
            foreign=self.foreign,
            training=self.training,
        )
        return gate_verdict(predictions, self.project.gate, context=context)

    def _champion(self) -> ModelVersion | None:
        """The model to beat. Where history and MLflow disagree about it, nothing is decided; a what-if asks the one
        that the history names, if its files are still there."""
        model = self.registry.models.get(self.project.project)
        if self.kind == "decision":
            require_agreement(self.registry, model)
        now = production(model)
        if now.foreign and now.named is not None:
            known = model.remembered.get(now.named)
            if known is not None and has_files(self.registry, known):
                return known
        number = version_on(model)
        return None if number is None else self.registry.models.version(self.project.project, number)

    def _promoted_by(self) -> str | None:
        """The decision that made this challenger champion on this version, where its run was ended before it could
        tell: asked once more, it would be judged against itself."""
        if self.kind != "decision" or self.champion is None:
            return None
        if self.champion.weights_sha256 != self.challenger.weights_sha256:
            return None
        model = self.registry.models.get(self.project.project)
        arrival = production(model).arrival(self.champion.version)
        promotion = (
            verdict_store.listed(model.tags).get(arrival.verdict or "") if arrival is not None else None
        )
        if promotion is None or promotion.outcome != "PASS" or promotion.rules != self.project.gate.digest():
            return None
        mine = (self.challenger.run_id, self.version.partition)
        if (promotion.run_id, promotion.partition) != mine:
            return None
        run_id, path = promotion.run_id, verdict_store.predictions_path(promotion.identity)
        found = verdict_store.find(self.registry, self.project.project, run_id, promotion.identity, self.kind)
        there = found is not None and self.registry.artifacts.exists(run_id, path)
        return promotion.identity if there else None

    def _between(self) -> Between | None:
        if self.champion is None:
            return None
        return came_between(
            self.registry,
            self.artifacts,
            champion=self.champion.run_id,
            challenger=self.challenger.run_id,
            published=publications(self.lakefs, self.project).standing,
        )

    def _turn(self) -> int:
        against = self.champion.weights_sha256 if self.champion else None
        challenger, claim = self.challenger.weights_sha256, self.project.gate.claim(self.holdout_digest)
        if self.kind == "decision":
            return verdict_store.reserve(
                self.registry,
                self.project.project,
                challenger=challenger,
                champion=against,
                verdict=self.identity,
                claim=claim,
            ).k
        ledger = verdict_store.read_ledger(self.registry.models.get(self.project.project).tags)
        return turn_of(challenger, against, ledger, claim)

    def _score(self, run_id: str, onnx_sha256: str, who: str) -> Any:
        answers = self.scorer.answers(self.holdout, run_id, onnx_sha256, who)
        self.say(f"the {who} answered {len(self.holdout)} holdout images")
        return answers

    def _whole_images(self, paths: list[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for path, data in self.lakefs.read_many(self.project.repository, self.version.commit.id, paths):
            yield path, decode_whole(data, path, 3)

    def _leaks(self) -> pd.DataFrame:
        """Holdout images that training saw, by their bytes or as near duplicates at full size; of a foreign file that
        nobody knows the training of, the rules take somebody's word, or refuse it."""
        seen = self.trained_on.used
        taught = seen["split"] != "holdout"
        if self.foreign is not None and self.foreign.unseen_because is not None:
            taught &= False
        seen = seen[taught]
        places = {
            **_places(self.trained_on.commit.id, seen),
            **_places(self.version.commit.id, self.holdout),
        }
        rows = pd.concat([self.holdout, seen], ignore_index=True)

        def images(digests: Sequence[str]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
            wanted: dict[str, dict[str, str]] = {}
            for digest in digests:
                commit, path = places[digest]
                wanted.setdefault(commit, {})[path] = digest
            for commit, paths in wanted.items():
                for path, data in self.lakefs.read_many(self.project.repository, commit, list(paths)):
                    yield paths[path], decode_whole(data, path, 1)

        return find_leaks(rows, images)


def _places(commit: str, rows: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Where each image is, by its SHA-256: commit and path."""
    return {
        sha256: (commit, path)
        for sha256, path in zip(rows["sha256"].tolist(), rows["path"].tolist(), strict=True)
    }
