"""What becomes of the newest dataset version at the next look: a run, or why there is none: it starts nothing.

What was decided is asked again under other rules, because the decision is lost, or because its PASS may go on. A
decision belongs to challenger, champion, holdout and rules. It is not asked again for what an earlier release did
not write down.
"""

import datetime
from dataclasses import dataclass, replace
from typing import Literal

import dagster as dg

from resources import clocks
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import Commit
from resources.models.registry import ModelRegistry
from resources.service_clients import Stores
from resources.storage import ArtifactStore
from sensors.readiness import SETTLED, EarlierRun, Go, Newest, Wait, readiness
from visionops_assets.champions.history import production
from visionops_assets.champions.registered_model import answer_to
from visionops_assets.common import run_tags
from visionops_assets.common.errors import PromotionRefused
from visionops_assets.common.keys import commit_prefix, dataset_version
from visionops_assets.config.project import Project
from visionops_assets.evaluation import verdict_store
from visionops_assets.evaluation.verdict_store import ListedVerdict, VerdictAddress, read_address
from visionops_assets.shells.run_outcomes import is_attempt, note_outcome
from visionops_assets.training.challenger import training_version

SAMPLES = "batches/"


@dataclass(frozen=True)
class Outlook:
    """The `answer`, by the present recipe and code (`training_version`).

    `again` says why what was decided is asked again, empty where it is not; `refused` what MLflow's records do not let
    be asked again; `passed_over` counts the runs that speak of it no more.
    """

    answer: Go | Wait
    training_version: str
    again: str = ""
    refused: str = ""
    passed_over: int = 0


def outlook(
    instance: dg.DagsterInstance,
    project: Project,
    stores: Stores,
    commit: Commit,
    happened: clocks.FirstSeen,
) -> Outlook:
    """What becomes of the dataset version that `commit` made. Raises `RegistryError` and `LakeFSError`."""
    version, newest = training_version(project), dataset_version(commit.id, commit.created_at)
    lakefs, registry, artifacts = stores.lakefs, stores.registry, stores.artifacts
    # By our clock: the server dated it by its own.
    committed = happened.when(commit.id, commit.created_at - lakefs.clock_ahead())
    decision = read_address(artifacts, "decision", project.project, newest)
    last = _last_request(instance, project.project)
    requested = happened.when(*last) if last else None
    now = clocks.now()
    runs = _runs(instance, project.project, commit.id, version)
    standing, refused = Standing(decision if decision and decision.training_version == version else None), ""
    try:
        standing = standing_of_decision(registry, project, standing.decision)
    except PromotionRefused as error:
        refused = str(error)
    since = [run for run in runs if standing.counts(run)]
    answer = readiness(
        project.project,
        project.trigger,
        Newest(
            newest,
            stored_verdict=standing.decision.verdict if standing.decision else None,
            runs=since,
            age=now - committed,
            since_last_request=now - requested if requested else None,
            new_samples=_new_samples(project, lakefs, artifacts, instance, commit),
            again=bool(standing.again),
        ),
    )
    if not isinstance(answer, Go):
        answer = replace(answer, reason=answer.reason + standing.waits)
    return Outlook(answer, version, standing.again, refused, len(runs) - len(since))


def _new_samples(
    project: Project,
    lakefs: LakeFSResource,
    artifacts: ArtifactStore,
    instance: dg.DagsterInstance,
    commit: Commit,
) -> int:
    enough = project.trigger.min_new_samples
    if enough <= 1:
        return enough
    known = set(instance.get_dynamic_partitions(f"{project.project}_dataset_versions"))
    # By the log, not by key: one that is dated in the future would be the newest until then.
    log = (dataset_version(each.id, each.created_at) for each in lakefs.log(project.repository, MAIN))
    versions = (key for key in log if key in known)
    decision = next(
        (key for key in versions if read_address(artifacts, "decision", project.project, key)), None
    )
    if decision is None:
        return enough
    counted = 0
    for change in lakefs.diff(project.repository, commit_prefix(decision), commit.id, SAMPLES):
        counted += change.kind == "added" and "/images/" in change.path
        if counted >= enough:
            break
    return counted


def _runs(instance: dg.DagsterInstance, project: str, commit: str, version: str) -> list[EarlierRun]:
    wanted = {
        run_tags.PROJECT: project,
        run_tags.COMMIT: commit,
        run_tags.TRAINING_VERSION: version,
        run_tags.INTENT: run_tags.DECISION,
    }
    records = instance.get_run_records(dg.RunsFilter(tags=wanted), ascending=True)
    return [_earlier(instance, record.dagster_run) for record in records]


def _earlier(instance: dg.DagsterInstance, run: dg.DagsterRun) -> EarlierRun:
    outcome, rules = note_outcome(instance, run), run.tags.get(run_tags.RULES)
    if not run.is_finished:
        return EarlierRun(run.run_id, "in progress", outcome, rules=rules)
    if run.status == dg.DagsterRunStatus.CANCELED:
        return EarlierRun(run.run_id, "cancelled", outcome, is_attempt(run), rules)
    status: Literal["succeeded", "errored"] = "succeeded" if run.is_success else "errored"
    return EarlierRun(run.run_id, status, outcome, is_attempt(run), rules)


def _last_request(instance: dg.DagsterInstance, project: str) -> tuple[str, datetime.datetime] | None:
    """The newest decision run and when it was requested, as its record is dated."""
    wanted = {run_tags.PROJECT: project, run_tags.INTENT: run_tags.DECISION}
    records = instance.get_run_records(dg.RunsFilter(tags=wanted), limit=1)
    return (records[0].dagster_run.run_id, records[0].create_timestamp) if records else None


@dataclass(frozen=True)
class Standing:
    """The decision on the newest dataset version by the present recipe, if any, and whether it stands.

    `again` says why it is asked again, empty where it stands; `rules` is the tag of the present rules, `under` that of
    the rules it was made under; `final` is set where its challenger ran, or a person rejected it; `waits` tells of
    a PASS on an older dataset version that may be promoted.
    """

    decision: VerdictAddress | None
    again: str = ""
    rules: str = ""
    under: str | None = None
    asked_anew: bool = False
    final: bool = False
    waits: str = ""

    def counts(self, run: EarlierRun) -> bool:
        """Whether an earlier run speaks of what is asked now."""
        if not self.rules or self.final or run.status == "in progress":
            return True
        if run.outcome == run_tags.PROMOTED and not self.asked_anew:
            return True
        if (run.rules or self.under or self.rules) != self.rules:
            return False
        return not (self.asked_anew and run.outcome in SETTLED)


def standing_of_decision(
    registry: ModelRegistry, project: Project, decision: VerdictAddress | None
) -> Standing:
    """Whether a decision stands. Raises what MLflow raises."""
    rules = run_tags.rules_tag(project.gate.digest())
    if decision is None:
        return Standing(None, rules=rules)
    stored = None
    if decision.rules is None or decision.verdict == "PASS":
        stored = verdict_store.find(registry, project.project, decision.run_id, decision.identity, "decision")
    made_under = decision.rules or (stored.rules_digest if stored is not None else None)
    under = run_tags.rules_tag(made_under) if made_under else None
    stands = Standing(decision, "", rules, under)
    model = registry.models.get(project.project)
    now = production(model)
    if any(each.entry.verdict == decision.identity for each in now.intervals):
        # It ran. Asked again, what a rollback took out of production would come back.
        if now.version is None and stored is None:
            again = (
                f"nothing is in production, and its PASS {decision.identity[:12]} is not in MLflow any more"
            )
            return replace(stands, again=again, asked_anew=True)
        return replace(stands, final=True)
    answer = answer_to(model.tags, project.project, decision.identity)
    if answer is not None and answer.kind == "reject":
        return replace(stands, final=True)
    if under is not None and under != rules:
        again = f"it is {decision.verdict} under the rules {under}, and the project file says {rules} now"
        return replace(stands, again=again)
    if decision.verdict == "PASS" and stored is None:
        again = f"its PASS {decision.identity[:12]} is not in MLflow any more"
        return replace(stands, again=again, asked_anew=True)
    ready = _ready_to_promote(registry, project)
    if ready is None:
        return stands
    if ready.identity == decision.identity:
        again = f"its PASS {ready.identity[:12]} waits, and nobody has to approve it now"
        return replace(stands, again=again, asked_anew=True)
    waits = (
        f"; {ready.outcome} {ready.identity[:12]} ({ready.partition}) waits: `visionops approve {project.project} "
        f"{ready.identity[:12]}` promotes it"
    )
    return replace(stands, waits=waits if ready.outcome == "PASS" else "")


def _ready_to_promote(registry: ModelRegistry, project: Project) -> ListedVerdict | None:
    """The decision that nobody and nothing keeps from being carried out."""
    from visionops_assets.promotion.promote import champion_of, waiting_of

    model = registry.models.get(project.project)
    if project.gate.approval == "manual" or production(model).held_by is not None:
        return None
    return waiting_of(model, champion_of(registry, model)).ready("auto")
