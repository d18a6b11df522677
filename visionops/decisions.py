"""Carrying out a stored decision at once, as `approve`, `promote` and `release` do."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from visionops.runs import run_job
from visionops_assets.champions.history import production
from visionops_assets.common import run_tags
from visionops_assets.common.run_tags import how_to_decide
from visionops_assets.evaluation.verdicts import ListedVerdict, listed_decision
from visionops_assets.partitions import committed_at, dataset_versions
from visionops_assets.promotion.promote import champion_of
from visionops_assets.promotion.waiting import Line, line, newest_decision
from visionops_assets.refusals import OnHold, PromotionRefused
from visionops_assets.registry import Registry

if TYPE_CHECKING:
    import dagster as dg


@dataclass(frozen=True)
class Promoted:
    """A decision that went to production by hand; `run_id` is of the Dagster run that carried it out."""

    project: str
    verdict: str
    partition: str
    version: int
    replaced: int | None
    by: str
    run_id: str

    def to_json(self) -> dict[str, Any]:
        """What the commands print with --json."""
        return asdict(self)

    def to_text(self) -> str:
        """For a terminal."""
        instead = f" instead of version {self.replaced}" if self.replaced is not None else ""
        return f"{self.project}: version {self.version} ({self.partition}) is in production{instead}"


def waiting(registry: Registry, project: str) -> Line:
    """The verdicts of a project that could still promote."""
    model = registry.models.get(project)
    return line(model, champion_of(registry, model))


def named_or_only(registry: Registry, project: str, verdict: str | None) -> ListedVerdict:
    """The decision a person means: by its identity, or the one that waits. Raises `VerdictMissing`."""
    if verdict:
        return listed_decision(registry.models.get(project).tags, project, verdict)
    return waiting(registry, project).only()


def named_or_newest(registry: Registry, project: str, verdict: str | None) -> ListedVerdict:
    """The decision a person means: by its identity, or the newest against the present champion, whatever it says.

    Raises `VerdictMissing`.
    """
    model = registry.models.get(project)
    if verdict:
        return listed_decision(model.tags, project, verdict)
    return newest_decision(model, champion_of(registry, model))


def carry_out(
    registry: Registry,
    defs: "dg.Definitions",
    instance: "dg.DagsterInstance",
    project: str,
    decision: ListedVerdict,
) -> Promoted:
    """Promote the challenger of a decision now, by the project's promote job, so that the UI shows it.

    Raises `OnHold` without starting a run, `PromotionRefused` with what the champion asset says.
    """
    now = production(registry.models.get(project))
    if now.held_by is not None:
        raise OnHold(
            f"the answer to verdict {decision.identity[:12]} is recorded, but promotion of {project} is on hold "
            f"({now.held_by.sentence()}): `visionops release {project} --why TEXT` lifts it and promotes"
        )
    if decision.partition is None:
        raise PromotionRefused(
            f"verdict {decision.identity[:12]} names no dataset version: {how_to_decide(project)}"
        )
    # A decision is known to MLflow; this instance may never have seen its dataset version.
    instance.add_dynamic_partitions(dataset_versions(project).name or "", [decision.partition])
    ran = run_job(
        defs,
        instance,
        f"{project}_promote",
        partition=decision.partition,
        config={f"{project}__champion": {"verdict": decision.identity}},
        tags=_tags_of_its_run(instance, project, decision.partition),
    )
    after = production(registry.models.get(project))
    since = after.since
    if after.version is None or since is None or since.verdict != decision.identity:
        raise PromotionRefused(
            f"verdict {decision.identity[:12]} of {project} is not carried out: {ran.error}"
        )
    if ran.error is not None:
        raise PromotionRefused(
            f"version {after.version} of {project} is in production, but run {ran.run_id} did not finish: {ran.error}"
        )
    return Promoted(
        project,
        decision.identity,
        decision.partition,
        after.version,
        since.from_version,
        since.who,
        ran.run_id,
    )


def _tags_of_its_run(instance: "dg.DagsterInstance", project: str, partition: str) -> dict[str, str]:
    """What the run that decided on a dataset version says of its commit; lakeFS need not be there for it."""
    import dagster as dg

    wanted = {run_tags.PROJECT: project, run_tags.INTENT: run_tags.DECISION, "dagster/partition": partition}
    about = {run_tags.WEEK: run_tags.week_of(committed_at(partition))}
    for run in instance.get_runs(dg.RunsFilter(tags=wanted), limit=1):
        about |= {name: run.tags[name] for name in (run_tags.COMMIT, run_tags.BATCH) if name in run.tags}
    return about
