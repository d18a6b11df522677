"""Requests for labels that a batch answers: recorded once a request and commit."""

from datetime import datetime

from resources.artifact_store import ArtifactNotFound, ArtifactStore
from visionops_assets.monitoring.acting.actions import (
    SHORT,
    Action,
    evidence_key,
    identity_of,
    read_actions,
    record_once,
)
from visionops_assets.monitoring.batch_labels import BatchLabels
from visionops_assets.project import Project
from visionops_assets.registry import Registry


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
        came = sorted(found.after.keys() & set(_images(artifacts, project.project, request)))
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


def _images(artifacts: ArtifactStore, project: str, request: Action) -> list[str]:
    try:
        return list(artifacts.read_json(evidence_key(project, request.identity))["images"])
    except ArtifactNotFound:
        return []
