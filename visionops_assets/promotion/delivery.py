"""A device group gets a champion of its own: a version that was in production before, on it or elsewhere."""

from datetime import datetime

from edge.formats import check_group
from resources.model_records import EVERYWHERE, version_on
from resources.nearest import there_are
from visionops_assets import journal
from visionops_assets.champions.disagreements import require_agreement
from visionops_assets.champions.history import groups, nothing_runs, production, read_history
from visionops_assets.evaluation.approvals import require_reason
from visionops_assets.promotion.change import Change, OnStep, note_of, put_in_production, record, unheard
from visionops_assets.refusals import OnHold, VerdictNotPassed
from visionops_assets.registry import Registry


def deliver(
    registry: Registry,
    *,
    project: str,
    group: str,
    who: str,
    why: str,
    when: datetime,
    version: int | None = None,
    on_step: OnStep = unheard,
) -> Change:
    """Let a device group run a version by an alias of its own, by default what all runs. Already so: changes nothing.

    Every version that was in production had a PASS or an override on record; no other one is delivered. A group on hold
    takes only what it ran before. Killed at any step it can be run again; `change` has the table.

    Raises ValueError for what is no group, LookupError where nothing is in production, `VerdictNotPassed`, `OnHold`,
    `ChampionUnclear`, `HistoryUnreadable`, `ReasonMissing`; `PromotionLocked`, `RegistryUnavailable`.
    """
    require_reason(who, why)
    check_group(group)
    with registry.lock(project):
        model = registry.models.get(project)
        journal.require_readable(read_history(model.tags), project)
        now = production(model, group)
        require_agreement(registry, model, group)
        if version is None:
            require_agreement(registry, model, EVERYWHERE)
            version = model.aliases.get("champion")
        if version is None:
            raise LookupError(nothing_runs(model))
        arrivals = {
            each.version: each.entry for name in groups(model) for each in production(model, name).intervals
        }
        if version not in arrivals or not model.has(version):
            there = there_are(str(version), [str(each) for each in sorted(arrivals) if model.has(each)])
            raise VerdictNotPassed(
                f"version {version} of {project} was never in production, or was deleted: only what a PASS or an "
                f"override brought there is delivered; {there}"
            )
        if now.held_by is not None and version not in {each.version for each in now.intervals}:
            raise OnHold(
                f"{group} of {project} is on hold ({now.held_by.sentence()}): "
                f"`visionops release {project} --group {group} --why TEXT` lifts it"
            )
        if now.version == version:
            return Change(version, changed=False, entry=now.since)
        on_step("checked")
        on_step("registered")
        registry.models.recall(project)
        entry = record(
            registry,
            model,
            kind="delivery",
            group=group,
            to=version,
            who=who,
            when=when,
            why=why,
            verdict=arrivals[version].verdict,
            from_version=version_on(model, group),
        )
        on_step("recorded")
        put_in_production(registry, model, entry, on_step)
        return Change(version, changed=True, entry=entry, note=note_of(model, group))
