"""From the spool to a commit: what writers left is sorted by day, compacted, and committed as one.

A file is taken away from the spool only after the commit that has it. A collector that is killed leaves either nothing
but staged objects, which the next one drops, or files that the last commit names, which the next one takes away.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from resources.lakefs.client import MAIN, LakeFSResource
from resources.lakefs_errors import LakeFSNotFound
from resources.spool import Spool
from visionops_assets.monitoring.collection import Collected, Collection, last_collection
from visionops_assets.monitoring.inference_log import (
    CAPTURES,
    LOGGED,
    QUARANTINE,
    belongs_to,
    day_of,
    production_repository,
)
from visionops_assets.project import Project

# More wait for the next commit: memory holds the rows and frames of one.
FILES_A_COMMIT = 1000


def collect(
    project: Project,
    *,
    lakefs: LakeFSResource,
    spool: Spool,
    lock: AbstractContextManager[None],
    now: datetime,
    most: int = FILES_A_COMMIT,
) -> Collected:
    """Commit what the spool of a project has, at most `most` files; `now` is UTC.

    `lock` is held meanwhile: one collector a repository. Raises what lakeFS raises; then nothing is lost, and the next
    collection takes the same files.
    """
    repository, name = production_repository(project.repository), project.project
    with lock:
        found = spool.files(name)
        if not found:
            return Collected()
        lakefs.create_repository(repository)
        last = _last(lakefs, repository, name)
        taken = set(last.get("files", ()))
        # The collector before this one was killed after its commit.
        spool.remove(name, [file for file in found if file in taken])
        waiting = [file for file in found if file not in taken]
        if not waiting:
            return Collected()
        if any(lakefs.uncommitted(repository, MAIN)):
            lakefs.reset(repository, MAIN)
        chosen = waiting[:most]
        batch = Collection(project, chosen, now, last.get("captured"))
        for file, content in spool.read_each(name, chosen):
            batch.add(file, content)
        objects = batch.objects()
        objects.append((last_collection(name), _record(chosen, now, batch.captured())))
        lakefs.write_many(repository, MAIN, ((path, partial(bytes, content)) for path, content in objects))
        if last.get("day") != f"{now:%Y-%m-%d}":
            _forget(lakefs, project, now)
        message = f"{name}: {len(chosen)} files of the spool"
        commit = lakefs.save(repository, MAIN, message, {"visionops.project": name})
        spool.remove(name, chosen)
        return batch.collected(commit.id, left=len(waiting) - len(chosen))


def _last(lakefs: LakeFSResource, repository: str, project: str) -> dict[str, Any]:
    try:
        found = json.loads(lakefs.read(repository, f"{MAIN}@", last_collection(project)))
    except LakeFSNotFound:
        return {}
    return dict(found)


def _record(files: Sequence[str], now: datetime, captured: Mapping[str, Mapping[str, int]]) -> bytes:
    record = {"format": 1, "day": f"{now:%Y-%m-%d}", "files": list(files), "captured": captured}
    return json.dumps(record, indent=1).encode()


def _forget(lakefs: LakeFSResource, project: Project, now: datetime) -> None:
    """Stage the deletion of frames, and of what was logged, that are older than the project keeps them."""
    repository, name, rules = production_repository(project.repository), project.project, project.production
    frames = f"{now - timedelta(days=rules.captures.keep_days):%Y-%m-%d}"
    logged = rules.first_kept(now.date()).isoformat()
    ages = ((CAPTURES, frames), *((folder.format(project=name), logged) for folder in (*LOGGED, QUARANTINE)))
    old = [
        entry.path
        for folder, oldest in ages
        for entry in lakefs.objects(repository, f"{MAIN}@", folder)
        if (day_of(entry.path) or oldest) < oldest and (folder == CAPTURES or belongs_to(entry.path, name))
    ]
    if old:
        lakefs.delete_many(repository, MAIN, old)
