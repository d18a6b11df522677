"""The champion and the version before it on the same labelled captures, by the statistics of the gate.

The version before takes the challenger's place: PASS says that it is significantly better and no class is worse.
Floors are left out, since both may have sunk below them, and so are slices that only a dataset has. An image is one
piece of evidence, as a sample without a group is. The k-th comparison of one champion claims at α/(k(k+1)).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge.images.decode_pool import probe
from resources.lakefs.client import LakeFSResource
from resources.models.records import ModelVersion
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactNotFound, ArtifactStore
from visionops_assets.config.gate_rules import Floors, GateRules
from visionops_assets.config.production_rules import DriftRules
from visionops_assets.config.project import Project
from visionops_assets.evaluation.context import LEAK_COLUMNS
from visionops_assets.evaluation.evaluation_task import evaluation_task
from visionops_assets.evaluation.gate import GateContext, gate_verdict
from visionops_assets.evaluation.verdict import ModelReference, Verdict
from visionops_assets.evaluation.verdict_wording import verdict_page
from visionops_assets.inference.predictions import holdout_digest
from visionops_assets.monitoring.captures import kept_frames, label_sample
from visionops_assets.monitoring.monitoring_task import monitoring_task
from visionops_assets.monitoring.prediction import RunningModel, open_version, picture
from visionops_assets.monitoring.response.actions import (
    SHORT,
    Action,
    evidence_key,
    identity_of,
    read_actions,
    record_once,
)
from visionops_assets.monitoring.response.policy import (
    Champion,
    Compared,
    comparison_in_words,
    comparison_is_due,
)
from visionops_assets.pages.page import Page, Paragraph

_IMAGES_A_BATCH = 256


@dataclass(frozen=True)
class Captured:
    """What can be compared of a champion's days: `rows` of the log, one an image, labelled and captured.

    Of `seen` rows so many had a capture (`captured`), and of these so many images a label (`labelled`). Left out are
    those that were not drawn by lot, and `known` ones that one of the models was trained on.
    """

    rows: pd.DataFrame
    seen: int
    captured: int
    labelled: int
    known: int

    def sentence(self) -> str:
        """In words."""
        known = f", {self.known:,} more were trained on" if self.known else ""
        return (
            f"{self.seen:,} rows, {self.captured:,} with a capture; {self.labelled:,} captured images are labelled, "
            f"{len(self.rows):,} of them drawn by lot{known}"
        )


def captured_rows(days: Sequence[pd.DataFrame], share: float, trained_on: set[str]) -> Captured:
    """What can be compared of the rows of one champion; `days` are its rows of the log, a table a day.

    `share` is what is drawn of all captures, `trained_on` the SHA-256 of images that one of the models has seen.
    """
    kept = [label_sample(part, share) for day in days for _, part in day.groupby("device_group", sort=True)]
    everything = pd.concat([day[["image_sha256", "capture", "label"]] for day in days]) if days else None
    if everything is None or not kept:
        return Captured(pd.DataFrame(columns=["image_sha256", "capture", "label"]), 0, 0, 0, 0)
    captured = everything[everything["capture"].notna()]
    rows = pd.concat(kept, ignore_index=True)
    rows = rows[rows["capture"].notna()].drop_duplicates("image_sha256")
    known = rows["image_sha256"].isin(trained_on)
    return Captured(
        rows[~known].reset_index(drop=True),
        len(everything),
        len(captured),
        captured["image_sha256"][captured["label"].notna()].nunique(),
        int(known.sum()),
    )


def compare_on_captures(
    project: Project,
    champion: RunningModel,
    before: RunningModel,
    rows: pd.DataFrame,
    frames: Mapping[str, bytes],
    k: int,
) -> Verdict:
    """Judge the version before on the rows of `captured_rows`; `frames` are their bytes by capture.

    Raises `UnreadableImage`, and `ModelFileError` where a model's file is not what it says.
    """
    task = evaluation_task(project.task)
    held = _as_holdout(rows, frames, project.task)
    answers = {
        who: task.answers(model.shipped, _image_batches(model, held["path"].tolist(), frames))
        for who, model in (("challenger", before), ("champion", champion))
    }
    context = GateContext(
        project=project.project,
        classes=project.classes,
        challenger=_model_reference(before),
        champion=_model_reference(champion),
        holdout_digest=holdout_digest(held),
        holdout_share=1.0,
        leaks=pd.DataFrame(columns=list(LEAK_COLUMNS)),
        kind="what_if",
        k=k,
        created_at=datetime.now(UTC),
        task=project.task,
    )
    return gate_verdict(
        task.table(held, **answers), rules_for_captures(project.gate, project.drift), context=context
    )


def rules_for_captures(gate: GateRules, drift: DriftRules) -> GateRules:
    """The gate's rules as captures are compared by them."""
    changes: dict[str, Any] = {
        "floors": Floors(overall=0, batch=0, min_samples=gate.floors.min_samples),
        "require": "superior",
        "slices": (),
        "critical_slices": (),
        "min_holdout": max(gate.min_holdout, drift.min_rows),
    }
    return gate.model_copy(update=changes)


def _as_holdout(rows: pd.DataFrame, frames: Mapping[str, bytes], task: str) -> pd.DataFrame:
    """Rows of the log with the columns of a manifest's holdout."""
    headers = [probe(frames[capture], capture) for capture in rows["capture"]]
    truth = monitoring_task(task).truths(rows["label"])
    return pd.DataFrame(
        {
            "sha256": rows["image_sha256"].to_numpy(),
            "path": rows["capture"].to_numpy(),
            "batch": "production",
            "group": rows["image_sha256"].to_numpy(),
            **truth,
            "width": [header.width for header in headers],
            "height": [header.height for header in headers],
        }
    )


def _image_batches(
    model: RunningModel, paths: Sequence[str], frames: Mapping[str, bytes]
) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(paths), _IMAGES_A_BATCH):
        chosen = paths[start : start + _IMAGES_A_BATCH]
        yield np.stack([picture(path, frames[path], model.shipped).pixels for path in chosen])


def _model_reference(model: RunningModel) -> ModelReference:
    return ModelReference(
        weights_sha256=model.weights_sha256, onnx_sha256=model.onnx_sha256, version=model.version
    )


@dataclass(frozen=True)
class Comparisons:
    """Compares versions of one project for `who`."""

    project: Project
    lakefs: LakeFSResource
    registry: ModelRegistry
    artifacts: ArtifactStore
    who: str
    now: datetime

    def newest(self, champion: Champion, before: ModelVersion, found: Captured, day: date) -> Compared | None:
        """The newest comparison with the version before, made now where enough more captures are labelled.

        None where there is none yet, or `found` is too little. Raises what lakeFS, MLflow and the models' files raise.
        """
        sha256 = champion.version.weights_sha256
        recorded = read_actions(self.registry.models.get(self.project.project).tags).entries
        earlier = [
            action
            for action in recorded
            if action.kind == "comparison" and (action.group, action.model_sha256) == (champion.group, sha256)
        ]
        verdict = None
        if comparison_is_due(len(found.rows), earlier, self.project.drift):
            verdict = self._compare(champion, before, found, len(earlier) + 1, day)
        if verdict is None and earlier:
            verdict = self._stored(earlier[-1])
        if verdict is None or verdict.challenger.weights_sha256 != before.weights_sha256:
            return None
        return Compared(champion.group, sha256, verdict)

    def _compare(
        self, champion: Champion, before: ModelVersion, found: Captured, k: int, day: date
    ) -> Verdict | None:
        frames = dict(kept_frames(self.lakefs, self.project, found.rows["capture"]))
        rows = found.rows[found.rows["capture"].isin(frames)].reset_index(drop=True)
        if len(rows) < self.project.drift.min_rows:
            return None
        present, earlier = (open_version(self.registry, version, 1) for version in (champion.version, before))
        verdict = compare_on_captures(self.project, present, earlier, rows, frames, k)
        identity = identity_of(self.project.project, "comparison", champion.group, verdict.identity)
        page = self._keep_page(champion, verdict, found)
        evidence = {
            "format": 1,
            "captures": found.sentence(),
            "images": rows["image_sha256"].tolist(),
            "verdict": verdict.model_dump(mode="json"),
        }
        self.artifacts.write_json(evidence_key(self.project.project, identity), evidence)
        record_once(
            self.registry,
            self.project.project,
            Action(
                identity=identity,
                kind="comparison",
                signal="realised",
                group=champion.group,
                model_sha256=champion.version.weights_sha256,
                version=champion.version.version,
                day=day,
                when=self.now,
                who=self.who,
                why=found.sentence(),
                done=comparison_in_words(champion.version.version, before.version, verdict),
                images=len(rows),
                about=verdict.identity,
                page=page,
            ),
        )
        return verdict

    def _stored(self, comparison: Action) -> Verdict | None:
        try:
            evidence = self.artifacts.read_json(evidence_key(self.project.project, comparison.identity))
        except ArtifactNotFound:
            return None
        return Verdict.from_json(json.dumps(evidence["verdict"]))

    def _keep_page(self, champion: Champion, verdict: Verdict, found: Captured) -> str:
        """The comparison as a page beside the champion's files; returns where MLflow shows it."""
        run_id = champion.version.run_id
        path = f"monitoring/comparisons/{verdict.identity[:SHORT]}.md"
        evaluated = verdict_page(verdict)
        opening = Paragraph(f"The version before stands as challenger. {found.sentence()}.")
        page = Page(evaluated.title, (opening, *evaluated.blocks))
        self.registry.artifacts.put_bytes(run_id, path, page.to_markdown().encode())
        return self.registry.run_url(self.registry.runs.get(run_id), path)
