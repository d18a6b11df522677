"""When a champion is compared with the version before it, and what is kept of that."""

import json
from dataclasses import dataclass
from datetime import date, datetime

from resources.artifact_store import ArtifactNotFound, ArtifactStore
from resources.escaping import markdown
from resources.lakefs.client import LakeFSResource
from resources.model_records import ModelVersion
from resources.models.registry import ModelRegistry
from visionops_assets.evaluation.verdict import Verdict
from visionops_assets.evaluation.wording import verdict_page
from visionops_assets.monitoring.acting.actions import (
    SHORT,
    Action,
    evidence_key,
    identity_of,
    read_actions,
    record_once,
)
from visionops_assets.monitoring.acting.comparison import Captured, compare
from visionops_assets.monitoring.acting.deciding import Compared, look_again
from visionops_assets.monitoring.acting.standing import Champion
from visionops_assets.monitoring.acting.wording import comparison_in_words
from visionops_assets.monitoring.frames import kept_frames
from visionops_assets.monitoring.prediction import open_version
from visionops_assets.project import Project


@dataclass(frozen=True)
class Comparing:
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
        if look_again(len(found.rows), earlier, self.project.drift):
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
        verdict = compare(self.project, present, earlier, rows, frames, k)
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
        text = f"The version before stands as challenger. {markdown(found.sentence())}.\n\n{verdict_page(verdict)}"
        self.registry.artifacts.put_bytes(run_id, path, text.encode())
        return self.registry.run_url(self.registry.runs.get(run_id), path)
