"""What history, memory and MLflow say differently of a project, each in a sentence with the command that leads back.

Whoever removes or moves an alias, or deletes a version, the registered model or MLflow's database, leaves a state in
which nothing is promoted: what runs, and what a challenger is compared with, would be somebody's guess.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from resources.models.records import (
    EVERYWHERE,
    ONNX_ARTIFACT,
    PROVENANCE_ARTIFACT,
    TAG_WEIGHTS,
    ArtifactMissing,
    ModelVersion,
    RegisteredModel,
    RunNotFound,
    alias_of,
    group_option,
    weights_artifact,
)
from visionops_assets.champions import registered_model
from visionops_assets.champions.history import (
    PROMOTIONS,
    HistoryEntry,
    Production,
    groups,
    production,
    read_history,
)
from visionops_assets.champions.registered_model import Answer, Registry
from visionops_assets.common.errors import ChampionUnclear
from visionops_assets.config.project import Project

# What keeps a version that was deleted from being registered again, in words; None for nothing.
Lacks = Callable[[ModelVersion], str | None]


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
    return list(compare(model, partial(lacking, registry), group))


def compare(model: RegisteredModel, lacks: Lacks, group: str | None = None) -> Iterator[Disagreement]:
    """The same of what was read. `lacks` says what keeps a version that was deleted from being registered again."""
    named = set()
    for each in groups(model) if group is None else [group]:
        now = production(model, each)
        found = _of_production(model, now, lacks)
        if found is not None:
            named |= {now.named, now.version}
            yield found
    if group is None:
        yield from _of_the_rest(model, named, lacks)


def unfinished(registry: Registry, project: str) -> list[Disagreement]:
    """Promotions that were recorded and did not complete, of every device group; other changes are disagreements."""
    model = registry.models.get(project)
    answers = registered_model.answers_on(model.tags)
    found = [production(model, group).incomplete for group in groups(model)]
    held, newest = production(model).on_hold, _newest_decision(model)
    return [
        incomplete(
            project,
            entry,
            answers.get(entry.verdict or ""),
            held=held and entry.group == EVERYWHERE,
            passed_over=newest not in (None, entry.verdict),
        )
        for entry in found
        if entry is not None and entry.kind in PROMOTIONS
    ]


def _newest_decision(model: RegisteredModel) -> str | None:
    """The verdict that was asked for last."""
    asked = [key for key in model.tags if key.startswith(registered_model.DECISION_ENTRIES)]
    try:
        return str(json.loads(model.tags[max(asked)])["verdict"])
    except (ValueError, KeyError, TypeError):
        return None


def former_name(registry: Registry, project: Project, declared: Collection[str]) -> Disagreement | None:
    """That a project without a history of its own has the annotations of one that has a champion and that no file
    declares any more: it was renamed in its file alone, and its next challenger would be no first champion.

    `declared` are the names of other projects. Raises what MLflow raises.
    """
    if read_history(registry.models.get(project.project).tags).entries:
        return None
    for name in registry.models.projects():
        if name == project.project or name in declared:
            continue
        model = registry.models.get(name)
        now = production(model)
        known = model.remembered.get(now.version if now.version is not None else now.named or 0)
        if known is None or trained_on(registry, known) != (project.repository, project.annotations):
            continue
        return Disagreement(
            f"version {known.version} of {name}, which no project file declares any more, is in production for "
            f"annotations {project.annotations} of {project.repository}",
            f"`visionops project rename {name} {project.project}` takes it over; where {project.project} is to start "
            f"anew, `visionops rollback {name} --model-version none --why TEXT`",
        )
    return None


def trained_on(registry: Registry, version: ModelVersion) -> tuple[str, str] | None:
    """The repository and annotations that a version was trained on, where its provenance says so."""
    try:
        data = json.loads(registry.artifacts.read_bytes(version.run_id, PROVENANCE_ARTIFACT))["data"]
        return data["repository"], data["annotations"]
    except (ArtifactMissing, RunNotFound, ValueError, KeyError, TypeError):
        return None


def require_agreement(registry: Registry, model: RegisteredModel, group: str = EVERYWHERE) -> None:
    """Raise `ChampionUnclear` where the history names another champion than MLflow, or MLflow one that is not ours.

    A group without a champion of its own runs what all do: then that has to be clear, too.
    """
    files = partial(lacking, registry)
    for each in dict.fromkeys([group] if alias_of(group) in model.aliases else [group, EVERYWHERE]):
        now = production(model, each)
        found = _of_production(model, now, files) if now.foreign else None
        if found is not None:
            raise ChampionUnclear(found.sentence())
        if now.version is not None and not registry.models.version(model.project, now.version).weights_sha256:
            raise ChampionUnclear(
                f"version {now.version} of {model.project} is champion and has no tag {TAG_WEIGHTS}; "
                f"{way_back(model, each, files, without=now.version)}"
            )


def lacking(registry: Registry, version: ModelVersion) -> str | None:
    """What keeps a version from being registered again, in words; None where all that it is made of is still there."""
    try:
        gone = [
            name
            for name in {ONNX_ARTIFACT: None, weights_artifact(version.tags): None}
            if not registry.artifacts.exists(version.run_id, name)
        ]
    except RunNotFound:
        return registry.runs.lost.lacking(version)
    return f"run {version.run_id} has no {' and no '.join(gone)}" if gone else None


def has_files(registry: Registry, version: ModelVersion) -> bool:
    """Whether what a version is made of can be read now."""
    try:
        registry.runs.get(version.run_id)
    except RunNotFound:
        return False
    return lacking(registry, version) is None


def way_back(model: RegisteredModel, group: str, lacks: Lacks, without: int | None = None) -> str:
    """The command that puts in production what the history names, or else a version before it, or else nothing; and
    what keeps the one that is named from it.

    `without` is a version that cannot be used.
    """
    now = production(model, group)
    on = group_option(group)

    def rollback_to(version: int | str) -> str:
        return f"`visionops rollback {model.project} --model-version {version}{on} --why TEXT`"

    unusable = ""
    for version in _candidates(now):
        if version == without:
            continue
        registered, known = model.has(version), model.remembered.get(version)
        # What is gone back to because of missing files must have its own.
        if not registered or without is not None:
            lack = lacks(known) if known is not None else "it is not remembered"
            if lack is not None:
                unusable = unusable or f"version {version} cannot be registered again ({lack}): "
                continue
        command = rollback_to(version)
        if version != now.named:
            return f"{unusable}{command} goes back to version {version}"
        return f"{command} {'sets it again' if registered else 'registers it again'}"
    instead = (
        "the floors alone then decide on the next challenger"
        if group == EVERYWHERE
        else "that of all then runs"
    )
    return f"{unusable}{rollback_to('none')} records that nothing is in production: {instead}"


def incomplete(
    project: str,
    entry: HistoryEntry,
    answer: Answer | None = None,
    *,
    held: bool = False,
    passed_over: bool = False,
) -> Disagreement:
    """A change that was recorded and never arrived. A promotion the next tick does again by itself, but for one that
    was somebody's `answer`, or `passed_over`: a newer dataset version was decided since. Nothing is promoted while the
    project is `held`.
    """
    what = f"a change was recorded and did not complete: {entry.sentence()}"
    on = group_option(entry.group)
    if entry.kind == "delivery":
        again = (
            f"`visionops promote {project}{on} --model-version {entry.to_version} --why TEXT` does it again"
        )
        return Disagreement(what, again, wrong=False)
    verdict = (entry.verdict or "")[:12]
    if entry.kind in PROMOTIONS and entry.group != EVERYWHERE:
        return Disagreement(what, f"`visionops approve {project} {verdict}{on}` does it again", wrong=False)
    if entry.kind in PROMOTIONS:
        approve = f"visionops approve {project} {verdict}"
        again = {
            "approve": approve,
            "override": f"visionops override {project} {verdict} --why TEXT",
        }.get(
            answer.kind if answer is not None else "", approve if passed_over else f"visionops tick {project}"
        )
        if held:
            again = f"visionops release {project} --why TEXT"
        return Disagreement(what, f"`{again}` does it again", wrong=False)
    to = "none" if entry.to_version is None else entry.to_version
    return Disagreement(
        what, f"`visionops rollback {project} --model-version {to}{on} --why TEXT` does it again"
    )


def _candidates(now: Production) -> Iterable[int]:
    """The version that the history names, then those before it, newest first."""
    if now.named is None:
        return []
    return dict.fromkeys([now.named, *(each.version for each in reversed(now.intervals))])


def _of_production(model: RegisteredModel, now: Production, lacks: Lacks) -> Disagreement | None:
    where = "" if now.group == EVERYWHERE else f" on {now.group}"
    if now.incomplete is not None and (found := incomplete(model.project, now.incomplete)).wrong:
        return found
    if not now.foreign:
        return None
    return Disagreement(_moved(model, now, where), way_back(model, now.group, lacks))


def _moved(model: RegisteredModel, now: Production, where: str) -> str:
    alias = f"alias {alias_of(now.group)} of {model.project}"
    ran = ""
    if now.named is not None and now.named_since is not None:
        since = f"{now.named_since.when:%Y-%m-%d %H:%M} UTC"
        ran = f"by the history version {now.named} is in production{where} since {since}"
    # Whether that change ever arrived was seen by nobody who remembers it.
    or_never = " or that change never reached it" if alias_of(now.group) in model.assumed else ""
    if now.version is not None:
        if now.named is None:
            return f"{alias} was set by hand to version {now.version}, though the history names no champion{where}"
        to = f"version {now.version}{_which(now)}"
        return f"{alias} was moved by hand to {to}, though {ran}{',' if or_never else ''}{or_never}"
    if model.gone:
        return f"MLflow has no registered model {model.project} any more, though {ran}"
    if now.named is not None and not model.has(now.named):
        return f"version {now.named} of {model.project} was deleted in MLflow, though {ran}"
    return f"{alias} was removed by hand, though {ran}{',' if or_never else ''}{or_never}"


def _which(now: Production) -> str:
    if any(each.version == now.version for each in now.intervals):
        return ", which ran before"
    return ", which was never in production"


def _of_the_rest(model: RegisteredModel, named: set[int | None], lacks: Lacks) -> Iterator[Disagreement]:
    """What is gone and changes nothing that runs."""
    if model.gone:
        if model.recalled and not named - {None}:
            yield Disagreement(
                f"MLflow has no registered model {model.project} any more; its history, its decisions and the level "
                "that they spent are remembered here",
                "the next change that VisionOps makes writes them back",
                wrong=False,
            )
        return
    ran = {entry.to_version for entry in read_history(model.tags).entries}
    for number, version in sorted(model.remembered.items()):
        if model.has(number) or number in named or number not in ran:
            continue
        yield Disagreement(
            f"version {number} of {model.project}, which was in production once, was deleted in MLflow",
            f"`visionops rollback {model.project} --model-version {number} --why TEXT` registers it again and goes "
            "back to it"
            if (lack := lacks(version)) is None
            else f"nothing can go back to it: {lack}",
            wrong=False,
        )
    for number in sorted(model.relabelled):
        yield Disagreement(
            f"the digests of version {number} of {model.project} were altered in MLflow and are remembered here",
            "the next change that VisionOps makes writes them back",
            wrong=False,
        )
    for tags, what in ((model.recalled - model.altered, "deleted"), (model.altered, "altered")):
        if tags:
            yield Disagreement(
                f"{len(tags)} tags of registered model {model.project} were {what} in MLflow and are remembered here, "
                f"{min(tags)} among them",
                "the next change that VisionOps makes writes them back",
                wrong=False,
            )
