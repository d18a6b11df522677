"""What history, memory and MLflow say differently of a project, each in a sentence with the command that leads back.

Whoever removes or moves an alias, or deletes a version, the registered model or MLflow's database, leaves a state in
which nothing is promoted: what runs, and what a challenger is compared with, would be somebody's guess.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from resources.model_errors import RunNotFound
from resources.model_records import (
    EVERYWHERE,
    ONNX_ARTIFACT,
    TAG_WEIGHTS,
    WEIGHTS_ARTIFACT,
    ModelVersion,
    RegisteredModel,
    alias_of,
)
from visionops_assets.history import Production, groups, production, read_history
from visionops_assets.refusals import ChampionUnclear
from visionops_assets.registry import Registry

# Of a change that was stopped half way, those that the next tick does not do again by itself.
_BY_HAND = ("rollback", "restoration", "retirement")


@dataclass(frozen=True)
class Disagreement:
    """One thing that is not as the history says. `wrong` where somebody has to act before anything is promoted."""

    what: str
    way_back: str
    wrong: bool = True

    def sentence(self) -> str:
        """For a line of a command."""
        return f"{self.what}; {self.way_back}"


def disagreements(registry: Registry, project: str, group: str | None = None) -> list[Disagreement]:
    """All of a project, or those of one device group. Raises what MLflow raises."""
    model = registry.models.get(project)
    return list(compare(model, lambda version: has_files(registry, version), group))


def compare(
    model: RegisteredModel, has_files: Callable[[ModelVersion], bool], group: str | None = None
) -> Iterator[Disagreement]:
    """The same of what was read. `has_files` says whether a version that was deleted can be registered again."""
    named = set()
    for each in groups(model) if group is None else [group]:
        now = production(model, each)
        found = _of_production(model, now, has_files)
        if found is not None:
            named |= {now.named, now.version}
            yield found
    if group is None:
        yield from _of_the_rest(model, named, has_files)


def require_agreement(registry: Registry, model: RegisteredModel, group: str = EVERYWHERE) -> None:
    """Raise `ChampionUnclear` where the history names another champion than MLflow, or MLflow one that is not ours."""

    def files(version: ModelVersion) -> bool:
        return has_files(registry, version)

    now = production(model, group)
    found = _of_production(model, now, files) if now.foreign else None
    if found is not None:
        raise ChampionUnclear(found.sentence())
    if now.version is not None and not registry.models.version(model.project, now.version).weights_sha256:
        raise ChampionUnclear(
            f"version {now.version} of {model.project} is champion and has no tag {TAG_WEIGHTS}; "
            f"{way_back(model, group, files, without=now.version)}"
        )


def has_files(registry: Registry, version: ModelVersion) -> bool:
    """Whether what a version is made of is still there."""
    try:
        return all(
            registry.artifacts.exists(version.run_id, name) for name in (ONNX_ARTIFACT, WEIGHTS_ARTIFACT)
        )
    except RunNotFound:
        return False


def way_back(
    model: RegisteredModel,
    group: str,
    has_files: Callable[[ModelVersion], bool],
    without: int | None = None,
) -> str:
    """The command that puts in production what the history names, or else a version before it, or else nothing.

    `without` is a version that cannot be used.
    """
    now = production(model, group)
    on = "" if group == EVERYWHERE else f" --group {group}"
    begin = f"visionops rollback {model.project} --to"
    for version in _candidates(now):
        if version == without:
            continue
        registered, known = model.has(version), model.remembered.get(version)
        # What is gone back to because of missing files must have its own.
        if (not registered or without is not None) and (known is None or not has_files(known)):
            continue
        command = f"`{begin} {version}{on} --why …`"
        if version != now.named:
            return f"{command} goes back to version {version}"
        return f"{command} {'sets it again' if registered else 'registers it again'}"
    instead = (
        "the floors alone then decide on the next challenger"
        if group == EVERYWHERE
        else "that of all then runs"
    )
    return f"`{begin} none{on} --why …` records that nothing is in production: {instead}"


def _candidates(now: Production) -> Iterable[int]:
    """The version that the history names, then those before it, newest first."""
    if now.named is None:
        return []
    return dict.fromkeys([now.named, *(each.version for each in reversed(now.intervals))])


def _of_production(
    model: RegisteredModel, now: Production, has_files: Callable[[ModelVersion], bool]
) -> Disagreement | None:
    where = "" if now.group == EVERYWHERE else f" on {now.group}"
    if now.incomplete is not None and now.incomplete.kind in _BY_HAND:
        to = "none" if now.incomplete.to_version is None else now.incomplete.to_version
        on = "" if now.group == EVERYWHERE else f" --group {now.group}"
        return Disagreement(
            f"a change was recorded and did not complete: {now.incomplete.sentence()}",
            f"`visionops rollback {model.project} --to {to}{on} --why …` does it again",
        )
    if not now.foreign:
        return None
    return Disagreement(_moved(model, now, where), way_back(model, now.group, has_files))


def _moved(model: RegisteredModel, now: Production, where: str) -> str:
    alias = f"alias {alias_of(now.group)} of {model.project}"
    ran = ""
    if now.named is not None and now.named_since is not None:
        since = f"{now.named_since.when:%Y-%m-%d %H:%M} UTC"
        ran = f"by the history version {now.named} is in production{where} since {since}"
    if now.version is not None:
        if now.named is None:
            return f"{alias} was set by hand to version {now.version}, though the history names no champion{where}"
        return f"{alias} was moved by hand to version {now.version}{_which(now)}, though {ran}"
    if model.gone:
        return f"MLflow has no registered model {model.project} any more, though {ran}"
    if now.named is not None and not model.has(now.named):
        return f"version {now.named} of {model.project} was deleted in MLflow, though {ran}"
    return f"{alias} was removed by hand, though {ran}"


def _which(now: Production) -> str:
    if any(each.version == now.version for each in now.intervals):
        return ", which ran before"
    return ", which was never in production"


def _of_the_rest(
    model: RegisteredModel, named: set[int | None], has_files: Callable[[ModelVersion], bool]
) -> Iterator[Disagreement]:
    """What is gone and changes nothing that runs."""
    if model.gone:
        return
    ran = {entry.to_version for entry in read_history(model.tags).entries}
    for number, version in sorted(model.remembered.items()):
        if model.has(number) or number in named or number not in ran:
            continue
        yield Disagreement(
            f"version {number} of {model.project}, which was in production once, was deleted in MLflow",
            f"`visionops rollback {model.project} --to {number} --why …` registers it again and goes back to it"
            if has_files(version)
            else "its files are gone too, so nothing can go back to it",
            wrong=False,
        )
    if model.recalled:
        yield Disagreement(
            f"{len(model.recalled)} tags of registered model {model.project} were deleted in MLflow and are remembered "
            f"here, {sorted(model.recalled)[0]} among them",
            "the next change that VisionOps makes writes them back",
            wrong=False,
        )
