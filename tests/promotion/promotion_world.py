"""A registry in memory that can fail at any write, and challengers with stored verdicts to promote in it."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from resources.models.records import (
    FINISHED,
    ONNX_ARTIFACT,
    TAG_ONNX,
    TAG_PARTITION,
    TAG_WEIGHTS,
    WEIGHTS_ARTIFACT,
    ArtifactMissing,
    ModelNotFound,
    ModelVersion,
    RegisteredModel,
    Run,
    RunNotFound,
)
from visionops_assets.champions.registered_model import Outcome, Registry
from visionops_assets.evaluation.verdict import Evidence, Kind, ModelReference, Reason, Verdict
from visionops_assets.evaluation.verdict_store import store
from visionops_assets.promotion.promote import champion_of

PROJECT = "digits"
START = datetime(2026, 3, 2, 8, tzinfo=UTC)


class Killed(BaseException):
    """The process is gone: nothing catches it, as nothing catches SIGKILL."""


def hour(number: float) -> datetime:
    """A moment in the story of a test."""
    return START + timedelta(hours=number)


def digest(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


@dataclass
class FakeRegistry:
    """Runs, artifacts, models and lock in one object. `write` counts writes and may kill around the n-th."""

    run_records: dict[str, Run] = field(default_factory=dict)
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    records: dict[str, RegisteredModel] = field(default_factory=dict)
    made: dict[int, ModelVersion] = field(default_factory=dict)
    locked: bool = False
    writes: int = 0
    kill_at: int | None = None
    kill_after_effect: bool = False

    @property
    def runs(self) -> "FakeRuns":
        return FakeRuns(self)

    @property
    def artifacts(self) -> "FakeArtifacts":
        return FakeArtifacts(self)

    @property
    def models(self) -> "FakeModels":
        return FakeModels(self)

    @contextmanager
    def lock(self, project: str) -> Iterator[None]:
        assert not self.locked, f"the lock of {project} is taken twice"
        self.locked = True
        try:
            yield
        finally:
            self.locked = False

    def write(self, effect: Callable[[], None]) -> None:
        number, self.writes = self.writes, self.writes + 1
        if number == self.kill_at and not self.kill_after_effect:
            raise Killed
        effect()
        if number == self.kill_at:
            raise Killed


@dataclass
class FakeRuns:
    world: FakeRegistry

    def get(self, run_id: str) -> Run:
        if run_id not in self.world.run_records:
            raise RunNotFound(f"run {run_id} does not exist")
        return self.world.run_records[run_id]

    @property
    def lost(self) -> "FakeRuns":
        return self

    def lacking(self, version: ModelVersion) -> str | None:
        """Here a run that is lost is lost with its files."""
        return f"run {version.run_id} is gone"

    def read(self, version: ModelVersion, path: str) -> bytes | None:
        return None

    def restore(self, version: ModelVersion, *_: object) -> None:
        raise AssertionError(f"run {version.run_id} cannot be recorded again")


@dataclass
class FakeArtifacts:
    world: FakeRegistry

    def put_bytes(self, run_id: str, path: str, data: bytes) -> None:
        self.world.write(lambda: self.world.files.update({(run_id, path): data}))

    def read_bytes(self, run_id: str, path: str) -> bytes:
        if not self.exists(run_id, path):
            raise ArtifactMissing(f"run {run_id} has no artifact {path}")
        return self.world.files[run_id, path]

    def sha256(self, run_id: str, path: str) -> str:
        return digest(self.read_bytes(run_id, path))

    def exists(self, run_id: str, path: str) -> bool:
        return (run_id, path) in self.world.files


@dataclass
class FakeModels:
    world: FakeRegistry

    def get(self, project: str) -> RegisteredModel:
        return self.world.records.get(project, RegisteredModel(project))

    def projects(self) -> list[str]:
        return sorted(self.world.records)

    def set_tag(self, project: str, key: str, value: str) -> None:
        model = self.get(project)
        self._put(replace(model, tags={**model.tags, key: value}))

    def version(self, project: str, version: int) -> ModelVersion:
        if version not in self.world.made:
            raise ModelNotFound(f"version {version} of {project} does not exist")
        return self.world.made[version]

    def create_version(self, project: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        for each in self.world.made.values():
            if (each.weights_sha256, each.onnx_sha256) == (tags[TAG_WEIGHTS], tags[TAG_ONNX]):
                return each
        made = ModelVersion(project, len(self.world.made) + 1, run_id, START, dict(tags))
        self.world.write(lambda: self.world.made.update({made.version: made}))
        return made

    def set_version_tags(self, project: str, version: int, tags: Mapping[str, str]) -> None:
        found = self.version(project, version)
        tagged = replace(found, tags={**found.tags, **tags})
        self.world.write(lambda: self.world.made.update({version: tagged}))

    def set_alias(self, project: str, alias: str, version: int) -> None:
        self.version(project, version)
        model = self.get(project)
        self._put(replace(model, aliases={**model.aliases, alias: version}))

    def delete_alias(self, project: str, alias: str) -> None:
        model = self.get(project)
        self._put(replace(model, aliases={name: one for name, one in model.aliases.items() if name != alias}))

    def recall(self, project: str) -> None:
        """It forgets nothing."""

    def _put(self, model: RegisteredModel) -> None:
        self.world.write(lambda: self.world.records.update({model.project: model}))


def trained(world: FakeRegistry, name: str) -> Run:
    """A finished run with its files; another name gives another model."""
    weights, onnx = f"weights of {name}".encode(), f"onnx of {name}".encode()
    tags = {TAG_WEIGHTS: digest(weights), TAG_ONNX: digest(onnx), TAG_PARTITION: f"partition-of-{name}"}
    run = Run(f"run-{name}", "1", name, FINISHED, START, hour(0.1), f"memory:/{name}", tags)
    world.run_records[run.id] = run
    world.files[run.id, WEIGHTS_ARTIFACT] = weights
    world.files[run.id, ONNX_ARTIFACT] = onnx
    return run


def judged(
    registry: Registry,
    run: Run,
    outcome: Outcome = "PASS",
    *,
    kind: Kind = "decision",
    against: str | None = "champion",
    group: str = "all",
    when: datetime = START,
    evidence: Evidence | None = None,
) -> Verdict:
    """A stored verdict on a run's model, by default against the present champion."""
    champion = (
        champion_of(registry, registry.models.get(PROJECT), group) if against == "champion" else against
    )
    verdict = Verdict(
        verdict=outcome,
        kind=kind,
        project=PROJECT,
        challenger=ModelReference(
            weights_sha256=run.tags[TAG_WEIGHTS], onnx_sha256=run.tags[TAG_ONNX], run_id=run.id
        ),
        champion=ModelReference(weights_sha256=champion) if champion else None,
        holdout_digest=digest(b"holdout"),
        rules_digest=digest(b"rules"),
        k=1,
        alpha=0.05,
        alpha_k=0.025,
        claimed_against="no difference",
        reasons=[Reason(effect=outcome, rule="superior", subject="overall", text=f"it is {outcome} by fiat")],
        evidence=evidence,
        created_at=when,
    )
    return store(registry, verdict, run_id=run.id, partition=run.tags.get(TAG_PARTITION))
