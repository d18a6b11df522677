"""What is wrong with a project's state: what was moved or is gone, what failed and was not done since, and what
people did to it by hand or by accident; and projects that no file declares.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from resources import home
from resources.databases import DatabaseError, sqlite_path
from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs.replies import LakeFSError, LakeFSNoRepository, LakeFSNotFound
from resources.machine_errors import in_words
from resources.models.memory import ModelMemory
from resources.models.records import (
    ONNX_ARTIFACT,
    PROVENANCE_ARTIFACT,
    ArtifactMissing,
    ModelVersion,
    RunNotFound,
    weights_artifact,
)
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore
from visionops.diagnosis.checking import Check, Finding, broken, ok, warning
from visionops.diagnosis.servers import embedded_sleeps
from visionops_assets.champions.disagreements import trained_on
from visionops_assets.champions.history import production
from visionops_assets.common.keys import asset_folder, commit_prefix
from visionops_assets.config.project import Project, Projects
from visionops_assets.dataset.versions.commit_log import in_words_if_deleted, is_on_main
from visionops_assets.dataset.versions.layout import BATCHES, is_image
from visionops_assets.inference.shipped_model import how_back
from visionops_assets.monitoring.inference_log import production_repository

_LISTED, _ASKED = 1000, 16


@dataclass(frozen=True)
class ProjectState:
    """What is `wrong` with a project's state, and what is `gone` and changes nothing that runs; each a sentence."""

    wrong: list[str]
    gone: list[str]


def state_of(project: Project, registry: ModelRegistry, *, data: bool = True) -> ProjectState:
    """All of it, as `status` and `doctor` tell it; without `data` lakeFS is not asked.

    Raises what MLflow raises where it does not answer.
    """
    from visionops import services
    from visionops_assets.champions.disagreements import disagreements, unfinished

    told = disagreements(registry, project.project)
    found = [each for each in told if each.wrong] + unfinished(registry, project.project)
    pieces = missing_pieces(project, registry, services.lakefs(), services.artifacts()) if data else []
    return ProjectState(
        [*(each.sentence() for each in found), *pieces, *not_done(project, registry)],
        [
            *(each.sentence() for each in told if not each.wrong),
            *(_left_main(project, registry, services.lakefs()) if data else []),
        ],
    )


def not_done(project: Project, registry: ModelRegistry | None) -> list[str]:
    """What runs in Dagster failed or were cancelled, and what to type; or why Dagster cannot be asked. Without a
    `registry` nothing is told of what device groups should have been given.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from resources.drop import Drop
    from sensors.after_promotion import undelivered
    from sensors.unfinished_runs import owed
    from visionops import services

    if not services.dagster_has_history():
        return []
    try:
        with services.dagster() as instance:
            told = owed(instance, project, Drop.from_environment())
            if registry is not None:
                told += undelivered(project, registry, services.edge(), services.artifacts(), instance)
            return told
    except (DatabaseError, SQLAlchemyError, OSError) as error:
        return [f"what runs failed is not known: {in_words(error)}"]


def missing_pieces(
    project: Project, registry: ModelRegistry, lakefs: LakeFSResource, artifacts: ArtifactStore
) -> list[str]:
    """The files of the champion, the repository and commit that it was trained on, the tables of the asset graph; and
    groups that the file names no more while their devices try something.

    Nothing is missing of a project that has no champion yet. Raises what MLflow raises where it does not answer.
    """
    champion = _champion(project, registry)
    if champion is None:
        return []
    return [
        *_files(project.project, champion, registry),
        *_data(project, champion, registry, lakefs),
        *_production(project, lakefs, artifacts),
        *_tables(project.project, artifacts),
        *_left_trying(project),
    ]


def _left_trying(project: Project) -> list[str]:
    from visionops.edge_repository import projects_with_repository, published
    from visionops_assets.delivery.following import left_trying
    from visionops_assets.delivery.tuf_files import CannotPublish

    if project.delivered_as not in projects_with_repository():
        return []
    try:
        return left_trying(project, published(project.delivered_as).running())
    except CannotPublish:
        # Told by whoever would publish.
        return []


def _champion(project: Project, registry: ModelRegistry) -> ModelVersion | None:
    """What is in production. Where they disagree about it, what the history names is to be gone back to."""
    model = registry.models.get(project.project)
    now = production(model)
    number = now.named if now.foreign else now.version
    return registry.models.version(project.project, number) if number and model.has(number) else None


def _files(project: str, champion: ModelVersion, registry: ModelRegistry) -> Iterator[str]:
    weights = weights_artifact(champion.tags)
    try:
        registry.runs.get(champion.run_id)
        gone = [
            name
            for name in dict.fromkeys((ONNX_ARTIFACT, weights, PROVENANCE_ARTIFACT))
            if not registry.artifacts.exists(champion.run_id, name)
        ]
    except RunNotFound as error:
        yield how_back(registry, project, champion.version, error)
        return
    if PROVENANCE_ARTIFACT in gone:
        yield (
            f"{PROVENANCE_ARTIFACT} of version {champion.version} is gone from run {champion.run_id}: it cannot be "
            "made again; restore the file from a backup of MLflow's artifacts, or go on: the next version that is "
            "promoted has its own"
        )
    if {ONNX_ARTIFACT, weights} & set(gone):
        named = " and ".join(name for name in gone if name != PROVENANCE_ARTIFACT)
        missing = ArtifactMissing(f"run {champion.run_id} has no {named}")
        yield how_back(registry, project, champion.version, missing)


def _data(
    project: Project, champion: ModelVersion, registry: ModelRegistry, lakefs: LakeFSResource
) -> Iterator[str]:
    data = trained_on(registry, champion)
    if data not in (None, (project.repository, project.annotations)):
        assert data is not None
        yield (
            f"version {champion.version} was trained on annotations {data[1]} of {data[0]}, and the project file "
            f"names {project.annotations} of {project.repository}: correct `repository` and `annotations` in it, or "
            f"go on by `visionops import {project.project} SOURCE --batch NAME`: the first dataset version that passes "
            "takes its place"
        )
        return
    try:
        lakefs.head(project.repository)
        yield from _uncommitted(project, lakefs)
        yield from _images(project, lakefs)
    except LakeFSNotFound as error:
        yield in_words_if_deleted(error, project, f"version {champion.version} was trained on it")
        return
    except LakeFSError as error:
        yield str(error)
        return
    if champion.partition is None:
        return
    try:
        lakefs.head(project.repository, commit_prefix(champion.partition))
    except LakeFSError:
        yield (
            f"dataset version {champion.partition}, on which version {champion.version} was trained, is not in "
            f"{project.repository}: it cannot be reproduced, and drift has no holdout to compare with; restore the "
            "repository from a backup, or go on: the next dataset version that passes takes its place"
        )


def _production(project: Project, lakefs: LakeFSResource, artifacts: ArtifactStore) -> Iterator[str]:
    """The rows of days whose tables are here."""
    days = artifacts.names(asset_folder(project.project, "inference_log"))
    if not days:
        return
    repository = production_repository(project.repository)
    try:
        lakefs.head(repository)
    except LakeFSNoRepository:
        yield (
            f"lakeFS has no repository {repository}, though the tables of {len(days)} production days are here: "
            "restore it from a backup; the next rows make it anew, as by `visionops predict "
            f"{project.project} IMAGES --log`"
        )
    except LakeFSError:
        # It is said of the images' repository.
        return


def _left_main(project: Project, registry: ModelRegistry, lakefs: LakeFSResource) -> Iterator[str]:
    """That main was set back behind what the champion was trained on: nothing runs otherwise for that."""
    champion = _champion(project, registry)
    if champion is None or champion.partition is None:
        return
    try:
        commit = lakefs.head(project.repository, commit_prefix(champion.partition))
        if is_on_main(lakefs, project, commit.id):
            return
    except LakeFSError:
        # What is wrong says so.
        return
    yield (
        f"dataset version {champion.partition}, on which version {champion.version} was trained, is not on main of "
        f"{project.repository} any more, which was set back or written anew by hand: what came with it is published "
        f"again by `visionops import {project.project} SOURCE --batch NAME`, or by resetting main to {commit.id} in "
        "lakeFS"
    )


def _uncommitted(project: Project, lakefs: LakeFSResource) -> Iterator[str]:
    """What somebody uploaded to main by hand: nothing can be merged while it is there."""
    for change in islice(lakefs.uncommitted(project.repository, MAIN), 1):
        yield (
            f"main of {project.repository} has changes that somebody made and did not commit, {change.path} among "
            "them: no batch can be published; commit them in lakeFS, or drop them, as by `lakectl branch reset "
            f"lakefs://{project.repository}/main`"
        )


def _images(project: Project, lakefs: LakeFSResource) -> Iterator[str]:
    """Storage that was emptied, by a few images: reading all is for `visionops verify`."""
    listed = islice(lakefs.objects(project.repository, MAIN, BATCHES), _LISTED)
    images = [entry.path for entry in listed if is_image(entry.path)]
    asked = images[:: max(1, len(images) // _ASKED)]
    gone = lakefs.without_bytes(project.repository, MAIN, asked)
    if gone:
        yield (
            f"{gone[0]} of {project.repository} is gone from lakeFS's storage, as are {len(gone)} of {len(asked)} "
            "images that were asked for: restore the storage from a backup; "
            f"`visionops verify {project.project}` names all"
        )


def _tables(project: str, artifacts: ArtifactStore) -> Iterator[str]:
    if not artifacts.names(asset_folder(project, "manifest")):
        yield (
            f"no table of {project} is left in {artifacts.root}: `visionops what-if {project}` makes those of the "
            "newest dataset version again, others are made when they are needed; of production days materialise "
            "`inference_log` and what follows it again"
        )


def checks(projects: Projects) -> Iterator[Check]:
    """The state of every project that can be used, and what is left of projects that cannot be found."""
    for project in projects:
        yield Check(
            f"state of {project.project}",
            f"what MLflow, lakeFS and {home.artifacts()} hold of it",
            "compare what each of them says",
            f"`visionops status {project.project}` names each disagreement, and what to type",
            partial(_state, project),
        )
    yield Check(
        "undeclared projects",
        "registered models in MLflow",
        "look for one that no project file declares",
        "visionops project list",
        partial(_undeclared, projects),
    )


def _state(project: Project) -> Finding:
    from visionops import services

    fix = f"visionops status {project.project}"
    if not _registered():
        failed = not_done(project, None)
        if ModelMemory(home.artifacts()).read(project.project) is not None:
            gone = f"MLflow's database {home.mlflow_uri()} is gone, which had versions of {project.project}"
            return broken("; ".join([gone, *failed]), f"restore it from a backup, or {fix}")
        return broken("; ".join(failed), fix) if failed else ok("nothing was registered yet")
    found = state_of(project, services.registry(), data=not embedded_sleeps())
    if found.wrong:
        return broken("; ".join(found.wrong), fix)
    if found.gone:
        return warning("; ".join(found.gone), fix)
    renamed = project.delivered_as != project.project
    return ok("they agree" + (f"; devices know it as {project.delivered_as}" if renamed else ""))


def _undeclared(projects: Projects) -> Finding:
    from visionops import services
    from visionops.cli.projects import left_behind

    if not _registered():
        return ok("there is none")
    found = left_behind(services.registry(), projects)
    if found:
        names = found[0].project
        return warning("; ".join(each.sentence() for each in found), f"visionops project rename {names} NEW")
    return ok("there is none")


def _registered() -> bool:
    """Whether there is an MLflow to ask: a local one is made only when it is needed."""
    file = sqlite_path(home.mlflow_uri())
    return file is None or file.exists()
