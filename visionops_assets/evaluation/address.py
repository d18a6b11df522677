"""Where the latest verdict of a dataset version is found: ids only, the evidence lies with the challenger's run."""

from dataclasses import asdict, dataclass

from resources.artifact_store import ArtifactStore
from visionops_assets.addresses import verdict_key
from visionops_assets.evaluation.verdict import Kind, Outcome, Verdict
from visionops_assets.training.challenger import Challenger


@dataclass(frozen=True)
class VerdictAddress:
    """A verdict by its identity, with the challenger's run and what was trained.

    `rules` is the digest of the gate's rules that it was made under; one of an earlier release does not say.
    """

    identity: str
    verdict: Outcome
    run_id: str
    training_version: str
    rules: str | None = None


def write_address(artifacts: ArtifactStore, verdict: Verdict, challenger: Challenger, partition: str) -> None:
    """Let a dataset version name this verdict as its latest of its kind."""
    address = VerdictAddress(
        verdict.identity,
        verdict.verdict,
        challenger.run_id,
        challenger.training_version,
        verdict.rules_digest,
    )
    artifacts.write_json(verdict_key(verdict.kind, verdict.project, partition), asdict(address))


def read_address(artifacts: ArtifactStore, kind: Kind, project: str, partition: str) -> VerdictAddress | None:
    """The latest decision or what-if of a dataset version, or None. Raises `ArtifactDamaged`."""
    key = verdict_key(kind, project, partition)
    if not artifacts.exists(key):
        return None
    try:
        return VerdictAddress(**artifacts.read_json(key))
    except TypeError as error:
        raise artifacts.damaged(key, "it holds no address of a verdict") from error
