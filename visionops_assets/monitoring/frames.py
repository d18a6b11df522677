"""Captured frames, read from the repository of production as long as they are kept."""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from resources.lakefs.client import MAIN, LakeFSResource
from visionops_assets.monitoring.inference_log import CAPTURES, day_of, production_repository
from visionops_assets.project import Project


def kept_frames(
    lakefs: LakeFSResource, project: Project, captures: Iterable[str]
) -> Iterator[tuple[str, bytes]]:
    """(capture, bytes) of those of the captures that are still there, in their order. Raises what lakeFS raises."""
    wanted, repository = list(dict.fromkeys(captures)), production_repository(project.repository)
    folders = {f"{PurePosixPath(capture).parent}/" for capture in wanted}
    kept = {entry.path for folder in folders for entry in lakefs.objects(repository, MAIN, folder)}
    yield from lakefs.read_many(repository, MAIN, [path for path in wanted if path in kept])


def captured_days(lakefs: LakeFSResource, project: Project) -> dict[str, list[str]]:
    """The production days on which each image was captured, by its SHA-256. Raises `LakeFSNotFound`, where none was."""
    found: dict[str, list[str]] = {}
    for entry in lakefs.objects(production_repository(project.repository), MAIN, CAPTURES):
        day = day_of(entry.path)
        if day is not None:
            found.setdefault(PurePosixPath(entry.path).stem, []).append(day)
    return found
