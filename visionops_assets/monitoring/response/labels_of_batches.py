"""Labels that come with a batch are labels of production too, where its images were captured there.

They join the production days by the SHA-256 of the image, through the spool as all late labels do. What a batch
takes back, by a retraction or a correction, is taken back there. Requests for labels that a batch answers are
recorded, once a request and commit.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import LakeFSNotFound
from resources.storage import ArtifactNotFound, ArtifactStore, Spool
from visionops_assets.champions.registered_model import Registry
from visionops_assets.config.project import Project
from visionops_assets.dataset.versions.annotations import read_annotations
from visionops_assets.dataset.versions.layout import BATCHES, batch_of, is_annotations
from visionops_assets.monitoring.captures import captured_days
from visionops_assets.monitoring.reference import labels_of
from visionops_assets.monitoring.response.actions import (
    SHORT,
    Action,
    evidence_key,
    identity_of,
    read_actions,
    record_once,
)
from visionops_assets.monitoring.spool_files import spooled_labels

# As whose labels they come.
WRITER = "batches"


@dataclass(frozen=True)
class BatchLabels:
    """What changed on `main` between two commits: a label by image, and the batch that it comes with."""

    commit: str
    when: datetime
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    batches: Mapping[str, str] = field(default_factory=dict)

    def rows(self, captured: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """Rows of late labels, one an image and production day; a null label takes back what was said before."""
        changed = {digest: self.after.get(digest) for digest in {*self.before, *self.after}}
        return [
            {
                "image_sha256": digest,
                "day": date.fromisoformat(day),
                "label": label,
                "labelled_at": self.when,
            }
            for digest, label in sorted(changed.items(), key=lambda item: item[0])
            if digest not in self.before or label is None or label != self.before[digest]
            for day in captured.get(digest, ())
        ]


def changed_labels(lakefs: LakeFSResource, project: Project, seen: str | None) -> BatchLabels:
    """What the batches of `main` say that they did not say at the commit `seen`; everything where nothing was seen.

    Raises `LakeFSNotFound` where there is no repository yet, `AnnotationsError`, and what lakeFS raises.
    """
    repository, head = project.repository, lakefs.head(project.repository, MAIN)
    if seen == head.id:
        return BatchLabels(head.id, head.created_at)
    try:
        earlier = lakefs.head(repository, seen).id if seen is not None else None
    except LakeFSNotFound:
        earlier = None
    if earlier is None:
        now = [entry.path for entry in lakefs.objects(repository, head.id, BATCHES)]
        then = list[str]()
    else:
        changes = list(lakefs.diff(repository, earlier, head.id, BATCHES))
        now = [change.path for change in changes if change.kind != "removed"]
        then = [change.path for change in changes if change.kind != "added"]
    after, batches = dict[str, Any](), dict[str, str]()
    for path, digest, label in _labels_of_annotations(lakefs, project, head.id, now):
        after[digest], batches[digest] = label, batch_of(path)
    before = {
        digest: label for _, digest, label in _labels_of_annotations(lakefs, project, earlier or "", then)
    }
    return BatchLabels(head.id, head.created_at, before, after, batches)


def spool_labels(lakefs: LakeFSResource, project: Project, spool: Spool, found: BatchLabels) -> int:
    """Leave the labels of captured images for the collector; returns how many. Done again, it changes nothing."""
    if not found.before and not found.after:
        return 0
    try:
        captured = captured_days(lakefs, project)
    except LakeFSNotFound:
        return 0
    rows = found.rows(captured)
    if rows:
        content = spooled_labels(project.task, rows)
        spool.put(project.project, WRITER, content, hashlib.sha256(content).hexdigest())
    return len(rows)


def _labels_of_annotations(
    lakefs: LakeFSResource, project: Project, commit: str, paths: Sequence[str]
) -> Iterator[tuple[str, str, Any]]:
    """(annotations file, SHA-256 of the image, label as the log has it) of the project's annotations."""
    files = [path for path in paths if is_annotations(path, project.annotations)]
    for path, content in lakefs.read_many(project.repository, commit, files):
        rows = read_annotations(content, path).to_pandas()
        yield from (
            (path, digest, label)
            for digest, label in zip(rows["sha256"], labels_of(rows, project.task), strict=True)
        )


def record_answers(
    project: Project,
    found: BatchLabels,
    *,
    registry: Registry,
    artifacts: ArtifactStore,
    who: str,
    now: datetime,
) -> list[Action]:
    """Record which requests the labels of `main` answer, at the commit that has them. Done again, it changes nothing.

    Raises what MLflow raises.
    """
    if not found.after:
        return []
    answers = []
    for request in read_actions(registry.models.get(project.project).tags).entries:
        if request.kind != "labels" or request.dry_run:
            continue
        came = sorted(found.after.keys() & set(_images_asked_for(artifacts, project.project, request)))
        if not came:
            continue
        batches = sorted({found.batches[digest] for digest in came})
        identity = identity_of(project.project, "labelled", request.identity, found.commit)
        evidence = {"format": 1, "images": came, "batches": batches, "commit": found.commit}
        artifacts.write_json(evidence_key(project.project, identity), evidence)
        answer = Action(
            identity=identity,
            kind="labelled",
            signal=request.signal,
            group=request.group,
            model_sha256=request.model_sha256,
            version=request.version,
            day=request.day,
            when=now,
            who=who,
            why=f"batch {', '.join(batches)} has {len(came):,} of {request.images or 0:,} images asked for",
            done=f"Commit {found.commit[:SHORT]} is judged as any other",
            images=len(came),
            about=request.identity,
            commit=found.commit,
        )
        answers.append(record_once(registry, project.project, answer))
    return answers


def _images_asked_for(artifacts: ArtifactStore, project: str, request: Action) -> list[str]:
    try:
        return list(artifacts.read_json(evidence_key(project, request.identity))["images"])
    except ArtifactNotFound:
        return []
