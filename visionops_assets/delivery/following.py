"""Device groups follow what is promoted: what each should run by the aliases, what it is given, and what is due.

What a group runs is a pure function of the aliases, the history and the project file; publishing brings its assignment
there. So a promotion, an approval or a rollback by anybody reaches devices, and whoever is killed is followed by the
next one.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.error_family import NotFound
from resources.models.records import EVERYWHERE, ModelNotFound, ModelVersion, RegisteredModel
from resources.storage import ArtifactStore
from visionops_assets.champions.disagreements import incomplete, require_agreement
from visionops_assets.champions.history import PROMOTIONS, Production, nothing_runs, production, read_history
from visionops_assets.champions.registered_model import Registry
from visionops_assets.common.errors import ChampionUnclear
from visionops_assets.config.device_group_rules import DeliveredGroup
from visionops_assets.config.project import Project
from visionops_assets.delivery.bundle_making import golden_by_provider, make_bundle, validation_images
from visionops_assets.delivery.publishing import (
    ASSIGNMENT_KEEPS,
    ASSIGNMENT_OPTIONS,
    Led,
    Publication,
    Trial,
    WantedBundle,
    is_signed_so,
    publish,
    ships_model,
    tries,
)
from visionops_assets.delivery.repository import Repository, Running
from visionops_assets.delivery.rollout_steps import rollouts_of, wanted_rollout
from visionops_assets.inference.shipped_model import fetch_model
from visionops_assets.rollout.rollouts import Rollout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What a declared group's assignment takes over from the last one: what the project file does not say.
_NOT_DECLARED = ASSIGNMENT_KEEPS - ASSIGNMENT_OPTIONS


@dataclass(frozen=True)
class Standing:
    """One device group: what it should run, and what it is assigned, by registered version and release.

    `due` where another assignment is to be published; `problem` says what keeps it from that, and the fix.
    """

    group: str
    version: int | None
    assigned: int | None = None
    release: int | None = None
    serial: int | None = None
    due: bool = False
    problem: str = ""
    # The SHA-256 of the file of `version`.
    onnx_sha256: str = ""
    # Of a rollout in progress: its name, version and file, and which of its waves is on.
    rollout: str = ""
    candidate: int | None = None
    candidate_sha256: str = ""
    wave: str = ""

    def sentence(self) -> str:
        """In words."""
        if self.problem:
            return f"{self.group}: {self.problem}"
        if self.version is None:
            kept = f"; devices keep version {self.assigned}" if self.assigned is not None else ""
            return f"{self.group}: nothing is in production{kept}"
        if self.due and self.candidate is not None and self.assigned == self.version:
            return f"{self.group} is to try version {self.candidate} in {self.wave} ({self.rollout})"
        if self.due:
            before = f"version {self.assigned}" if self.assigned is not None else "nothing"
            same = self.assigned == self.version
            what = "changed settings" if same else f"version {self.version}"
            return f"{self.group} is to get {what}" + ("" if same else f", is assigned {before}")
        tried = f", and version {self.candidate} in {self.wave}" if self.candidate is not None else ""
        return f"{self.group} is assigned version {self.version} (release {self.release}, serial {self.serial}){tried}"


def problems(standings: Sequence[Standing]) -> list[str]:
    """What keeps groups from what they should run: what is one cause of several is said once, with all their names."""
    groups: dict[str, list[str]] = {}
    for each in standings:
        if each.problem:
            groups.setdefault(each.problem, []).append(each.group)
    return [f"{', '.join(named)}: {problem}" for problem, named in groups.items()]


def left_trying(project: Project, running: Running) -> list[str]:
    """Groups that the project file names no more, and whose devices still try what a rollout gave them: nobody leads
    that on, and nothing brings them back by itself."""
    found = []
    for group, (assignment, manifest) in running.items():
        candidate = assignment.get("candidate")
        if candidate and group not in project.delivery.groups:
            base = manifest["model"]["version"]
            back = f"`visionops fleet publish {project.project} --group {group} --model-version {base}`"
            found.append(
                f"{group}: devices still try release {candidate['release']} by the rollout {candidate['rollout']}, and "
                f"`delivery.groups` of the project file names it no more: {back} brings them back; named there again, "
                "it follows"
            )
    return found


def followed(model: RegisteredModel, group: str, rules: DeliveredGroup) -> Production:
    """What a device group runs by: its own production where the alias or the history names a champion of it, else that
    of `all` where it follows that."""
    own = production(model, group)
    return own if names_one(own) or rules.follow == "own" else production(model, EVERYWHERE)


def ways_to_change(model: RegisteredModel, group: str, rules: DeliveredGroup) -> str:
    """The commands that change what a declared group runs, of those that would work now; empty where none would."""
    own, every, project = production(model, group), production(model, EVERYWHERE), model.project
    ways = []
    runs = followed(model, group, rules).version
    versions = {each.version for each in every.intervals if model.has(each.version)}
    if own.on_hold:
        ways.append(f"`visionops release {project} --group {group} --why TEXT` lifts its hold")
        versions = {each for each in versions if own.takes_on_hold(each)}
    # Its own champion again would change nothing; what it runs as all is one of its own then.
    if others := versions - {runs} or versions - {own.version}:
        what = "another champion of its own" if names_one(own) else "a champion of its own"
        promote = f"`visionops promote {project} --group {group} --model-version {max(others)} --why TEXT`"
        any_other = "" if own.on_hold else ", or any version that was in production,"
        ways.append(f"{promote}{any_other} gives it {what}")
    if own.version is not None:
        back = f"`visionops rollback {project} --group {group} --model-version none --why TEXT`"
        ways.append(f"{back} takes that away{', so that it follows all' if rules.follow == 'all' else ''}")
    elif rules.follow == "all" and not names_one(own) and (before := every.was_before()) is not None:
        ways.append(f"`visionops rollback {project} --why TEXT` brings all back to version {before}")
    return "; ".join(ways)


def names_one(found: Production) -> bool:
    """Whether a group has a champion of its own, or somebody made one by hand."""
    return found.version is not None or found.named is not None


def _require_clear(registry: Registry, model: RegisteredModel, found: Production) -> None:
    """Raise `ChampionUnclear` where alias and history disagree, or where what runs is being taken out of production."""
    if found.incomplete is not None and found.incomplete.kind not in PROMOTIONS:
        raise ChampionUnclear(incomplete(model.project, found.incomplete).sentence())
    require_agreement(registry, model, found.group)


def standings(project: Project, registry: Registry, repository: Repository) -> list[Standing]:
    """Each declared group, as it is now. Raises `NotPublished`, `CannotPublish`, and what MLflow raises."""
    model = registry.models.get(project.project)
    running, rollouts = repository.running(), rollouts_of(model)
    return [
        _standing(project, registry, model, group, running.get(group), wanted_rollout(model, rollouts, group))
        for group in project.delivery.groups
    ]


def _standing(
    project: Project,
    registry: Registry,
    model: RegisteredModel,
    group: str,
    running: tuple[dict[str, Any], dict[str, Any]] | None,
    rollout: Rollout | None,
) -> Standing:
    rules = project.delivery.groups[group]
    options = rules.options(project.production.captures)
    assignment, manifest = running or (None, None)
    champion = followed(model, group, rules)
    version = champion.version
    now = Standing(group, version)
    if assignment is not None and manifest is not None:
        now = Standing(
            group,
            version,
            assigned=int(manifest["model"]["version"]),
            release=int(manifest["release"]),
            serial=int(assignment["serial"]),
        )
    if not names_one(champion):
        return now
    if rules.rollout is not None and not names_one(production(model, group)) and now.assigned is not None:
        # It is led by rollouts, and is given an alias of its own first.
        return replace(now, version=now.assigned)
    try:
        _require_clear(registry, model, champion)
    except ChampionUnclear as error:
        return replace(now, problem=str(error))
    assert version is not None
    sha256 = registry.models.version(model.project, version).onnx_sha256
    if rollout is not None:
        try:
            candidate = registry.models.version(model.project, rollout.version)
        except ModelNotFound as error:
            abort = f"`visionops rollout abort {model.project} --group {group} --why TEXT` ends its rollout"
            return replace(now, problem=f"{error}; {abort}")
        now = replace(
            now,
            rollout=rollout.id,
            candidate=rollout.version,
            candidate_sha256=candidate.onnx_sha256,
            wave=f"wave {rollout.wave + 1} of {len(rollout.waves)}",
        )
    published = (
        assignment is not None
        and manifest is not None
        and ships_model(manifest, sha256)
        and is_signed_so(manifest, asked_of_manifest(rules))
        and all(assignment.get(name) == value for name, value in options.items())
        and tries(assignment, rollout)
    )
    return replace(now, due=not published, onnx_sha256=sha256)


def withdraw_superseded(project: Project, repository: Repository, found: Sequence[Standing]) -> bool:
    """Let a bundle go that waits for approvers and that no declared group is to run, where one is to get another; True
    if there was one. One that was published by hand goes, too: nothing may keep a rollback from devices."""
    waiting = repository.lacking_signatures()
    due = [each for each in found if each.due]
    if waiting is None or not due:
        return False
    if any(is_waiting(project, each, waiting[0]) for each in due):
        return False
    repository.withdraw()
    return True


def is_waiting(project: Project, standing: Standing, manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest that waits for approvers is what a group is to get."""
    asked = asked_of_manifest(project.delivery.groups[standing.group])
    wanted = [each for each in (standing.onnx_sha256, standing.candidate_sha256) if each]
    return any(ships_model(manifest, each) for each in wanted) and is_signed_so(manifest, asked)


def asked_of_manifest(rules: DeliveredGroup) -> dict[str, dict[str, Any]]:
    """What the project file asks of what is signed, by part of the manifest."""
    return {
        "budget": rules.budget.model_dump(exclude_none=True),
        "golden": golden_by_provider(rules.tolerance),
    }


def wanted_digest(project: Project, found: Sequence[Standing], waiting: int | None = None) -> str:
    """Identifies what is due, beside the release that waits for approvers: the same again is the same attempt."""
    # With the serial: what failed or was cancelled before another assignment is not what is asked now.
    due = {
        each.group: (each.version, each.serial, *([each.rollout, each.wave] if each.rollout else []))
        for each in found
        if each.due
    }
    said = project.delivery.model_dump(mode="json")["groups"]
    content = json.dumps([due, {group: said[group] for group in due}, waiting], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Shipping:
    """Makes a registered version's bundle: its file, golden answers on validation images, what it asks of a device."""

    project: Project
    registry: Registry
    lakefs: Any
    artifacts: ArtifactStore
    samples: Path

    def follow(self, repository: Repository, group: str) -> Publication:
        """Bring a declared group's assignment to what it should run. Raises LookupError where nothing is in
        production, `ChampionUnclear`, `CannotPublish` and `NoGoldenImages`."""
        rules = self.project.delivery.groups[group]
        model = self.registry.models.get(self.project.project)
        champion = followed(model, group, rules)
        if not names_one(champion):
            raise NotFound(nothing_runs(model, champion.group))
        _require_clear(self.registry, model, champion)
        assert champion.version is not None
        repository.add_group(group)
        rollouts = rollouts_of(model)
        rollout = wanted_rollout(model, rollouts, group)
        return publish(
            repository,
            group,
            self._wanted(champion.version, rules),
            rules.options(self.project.production.captures),
            keep=_NOT_DECLARED,
            led=Led(
                Trial(rollout, self._wanted(rollout.version, rules)) if rollout is not None else None,
                frozenset(each.id for each in rollouts if each.end is not None and each.end.kind == "fail"),
            ),
        )

    def _wanted(self, version: int, rules: DeliveredGroup) -> WantedBundle:
        """The bundle of a version as a group's rules ask for it."""
        record, asked = self.registry.models.version(self.project.project, version), asked_of_manifest(rules)
        return WantedBundle(
            record.onnx_sha256,
            lambda release: self.bundle(record, release, budget=asked["budget"], tolerances=rules.tolerance),
            asked,
            exactly=True,
        )

    def bundle(
        self,
        record: ModelVersion,
        release: int,
        *,
        budget: Mapping[str, float],
        tolerances: Mapping[str, float],
        images: "NDArray[np.uint8] | None" = None,
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The manifest and files of a version as this release. `images`, decoded for it, make the golden answers
        (uint8 [N, H, W, C]); by default validation images do."""
        data = self.file(record)
        if images is None:
            images = validation_images(
                self.project,
                record,
                data,
                lakefs=self.lakefs,
                artifacts=self.artifacts,
                samples=self.samples,
            )
        return make_bundle(
            # What a device takes is signed for the name that it knows.
            replace(record, project=self.project.delivered_as),
            data,
            images,
            release=release,
            budget=budget,
            tolerances=tolerances,
            verdict=self.verdict(record.version),
        )

    def file(self, record: ModelVersion) -> bytes:
        """The file that ships, held to its digest."""
        with tempfile.TemporaryDirectory() as folder:
            return fetch_model(
                self.registry, record.run_id, record.onnx_sha256, "version", Path(folder)
            ).read_bytes()

    def verdict(self, version: int) -> str | None:
        """The decision that brought a version into production last, if one did."""
        entries = read_history(self.registry.models.get(self.project.project).tags).entries
        # A delivery's may be that of a rollout.
        found = [
            each.verdict
            for each in entries
            if each.to_version == version and each.verdict and each.kind != "delivery"
        ]
        return found[-1] if found else None
