"""A PASS approved for one device group alone: the challenger becomes that group's champion, and for all it still waits.

What each declared group waits for, in words.
"""

from collections.abc import Iterable

from edge.formats import check_group
from resources.models.records import EVERYWHERE, RegisteredModel, group_option
from visionops_assets.champions.history import production
from visionops_assets.champions.registered_model import Registry
from visionops_assets.common.errors import ChampionMoved, ChampionUnclear
from visionops_assets.evaluation import approvals
from visionops_assets.evaluation.verdict_store import ListedVerdict, listed_decision
from visionops_assets.promotion.production_change import Attribution, Change
from visionops_assets.promotion.promote import champion_of, promote, require_released, waiting_of


def approve_on_group(
    registry: Registry, *, project: str, group: str, by: Attribution, verdict: str | None = None
) -> Change:
    """Make the challenger of a PASS champion of one device group, by default of the only one that waits there.

    It must have been judged against what the group runs. Nothing is recorded of what is refused; killed at any step it
    can be run again.

    Raises ValueError for what is no group, and what `promote` raises.
    """
    check_group(group)
    model = registry.models.get(project)
    champion = champion_of(registry, model, group)
    decision = (
        listed_decision(model.tags, project, verdict)
        if verdict
        else waiting_of(model, champion, group).only()
    )
    if decision.challenger != champion:
        require_released(model, group)
        if decision.champion != champion:
            raise ChampionMoved(
                f"verdict {decision.identity[:12]} of {project} is about another champion than "
                f"{_runs(production(model, group).version, group)}: `visionops status {project} --group {group}` says "
                "what was judged against it"
            )
    approvals.approve(registry, project, decision.identity, who=by.who, when=by.when, why=by.why, group=group)
    return promote(
        registry,
        project=project,
        verdict=decision.identity,
        who=by.who,
        when=by.when,
        approval="manual",
        group=group,
    )


def waits_of_groups(registry: Registry, project: str, groups: Iterable[str]) -> list[str]:
    """What keeps each of these device groups from a challenger that passed, where people approve: an answer, or a hold
    first. Groups that wait for the same are one sentence."""
    model = registry.models.get(project)
    on_all = _unanswered(registry, model, EVERYWHERE)
    waiting: dict[tuple[ListedVerdict, str], list[str]] = {}
    for group in groups:
        held = next((each for each in (EVERYWHERE, group) if production(model, each).on_hold), "")
        for verdict in _unanswered(registry, model, group):
            waiting.setdefault((verdict, held), []).append(group)
    return [
        _sentence(project, verdict, names, held, verdict in on_all)
        for (verdict, held), names in waiting.items()
    ]


def _unanswered(registry: Registry, model: RegisteredModel, group: str) -> tuple[ListedVerdict, ...]:
    try:
        return waiting_of(model, champion_of(registry, model, group), group).unanswered()
    except ChampionUnclear:
        # Told where every disagreement is.
        return ()


def _sentence(project: str, verdict: ListedVerdict, groups: list[str], held: str, on_all: bool) -> str:
    identity, first = verdict.identity[:12], groups[0]
    what = (
        f"verdict {identity} ({verdict.partition or 'no partition'}) passed and waits on {', '.join(groups)}"
    )
    if held:
        release = f"`visionops release {project}{group_option(held)} --why TEXT`"
        return f"{what}, on hold: {release} lifts it"
    alone = f"`visionops approve {project} {identity} --group {first}` puts it on {first} alone"
    return f"{what}: {alone}" + (f", `visionops approve {project} {identity}` on all" if on_all else "")


def _runs(version: int | None, group: str) -> str:
    return f"version {version}, which {group} runs" if version is not None else f"what {group} runs as all"
