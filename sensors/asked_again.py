"""What was decided and is asked again: under other rules, because the decision is lost, or because its PASS may go on.

A decision belongs to challenger, champion, holdout and rules. It is not asked again for what an earlier release did not
write down.
"""

from dataclasses import dataclass, replace

from resources.models.registry import ModelRegistry
from sensors.readiness import SETTLED, EarlierRun
from visionops_assets.champions.history import production
from visionops_assets.common import run_tags
from visionops_assets.evaluation import verdicts
from visionops_assets.evaluation.address import VerdictAddress
from visionops_assets.evaluation.approvals import answer_to
from visionops_assets.evaluation.verdicts import ListedVerdict
from visionops_assets.project import Project


@dataclass(frozen=True)
class Standing:
    """The decision on the newest dataset version by the present recipe, if any, and whether it stands.

    `again` says why it is asked again, empty where it stands; `rules` is the tag of the present rules, `under` that of
    the rules it was made under; `final` is set where its challenger ran, or a person rejected it; `waits` tells of
    a PASS on an older dataset version that may be promoted.
    """

    decided: VerdictAddress | None
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


def look_again(registry: ModelRegistry, project: Project, decided: VerdictAddress | None) -> Standing:
    """Whether a decision stands. Raises what MLflow raises."""
    rules = run_tags.rules_tag(project.gate.digest())
    if decided is None:
        return Standing(None, rules=rules)
    stored = None
    if decided.rules is None or decided.verdict == "PASS":
        stored = verdicts.find(registry, project.project, decided.run_id, decided.identity, "decision")
    made_under = decided.rules or (stored.rules_digest if stored is not None else None)
    under = run_tags.rules_tag(made_under) if made_under else None
    stands = Standing(decided, "", rules, under)
    model = registry.models.get(project.project)
    now = production(model)
    if any(each.entry.verdict == decided.identity for each in now.intervals):
        # It ran. Asked again, what a rollback took out of production would come back.
        if now.version is None and stored is None:
            again = (
                f"nothing is in production, and its PASS {decided.identity[:12]} is not in MLflow any more"
            )
            return replace(stands, again=again, asked_anew=True)
        return replace(stands, final=True)
    answer = answer_to(model.tags, project.project, decided.identity)
    if answer is not None and answer.kind == "reject":
        return replace(stands, final=True)
    if under is not None and under != rules:
        again = f"it is {decided.verdict} under the rules {under}, and the project file says {rules} now"
        return replace(stands, again=again)
    if decided.verdict == "PASS" and stored is None:
        again = f"its PASS {decided.identity[:12]} is not in MLflow any more"
        return replace(stands, again=again, asked_anew=True)
    ready = _ready(registry, project)
    if ready is None:
        return stands
    if ready.identity == decided.identity:
        again = f"its PASS {ready.identity[:12]} waits, and nobody has to approve it now"
        return replace(stands, again=again, asked_anew=True)
    waits = (
        f"; {ready.outcome} {ready.identity[:12]} ({ready.partition}) waits: `visionops approve {project.project} "
        f"{ready.identity[:12]}` promotes it"
    )
    return replace(stands, waits=waits if ready.outcome == "PASS" else "")


def _ready(registry: ModelRegistry, project: Project) -> ListedVerdict | None:
    """The decision that nobody and nothing keeps from being carried out."""
    from visionops_assets.promotion.promote import champion_of
    from visionops_assets.promotion.waiting import line

    model = registry.models.get(project.project)
    if project.gate.approval == "manual" or production(model).held_by is not None:
        return None
    return line(model, champion_of(registry, model)).ready("auto")
