"""Taking a batch from the drop: read, audited, published or refused."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from resources.artifact_store import ArtifactStore
from resources.drop import Drop
from resources.lakefs.client import MAIN, LakeFSResource
from visionops_assets.common import run_tags
from visionops_assets.dataset.importing.options import Stated
from visionops_assets.dataset.publishing import BatchRefused, Publisher
from visionops_assets.dataset.suspect_labels import Opinion
from visionops_assets.project import Neighbours, Project

_SAID_EVERY = 1000
_CHECKS_SHOWN = 4


@dataclass(frozen=True)
class Taken:
    """What came of a batch. `reference` is where its images are; `commit` the merge, where there is one."""

    outcome: Literal["published", "unchanged", "refused"]
    images: int
    reference: str
    commit: str | None
    findings: pd.DataFrame

    def warnings(self, command: str) -> str:
        """What was told though it kept nothing from `main`: how often each check, and the command that shows it."""
        told = self.findings["check"][self.findings["severity"] == "WARN"].value_counts()
        if told.empty:
            return ""
        shown = [f"{check} {times:,}" for check, times in told.head(_CHECKS_SHOWN).items()]
        more = [f"{len(told) - len(shown)} more checks"] if len(told) > len(shown) else []
        return f"{told.sum():,} warnings ({', '.join([*shown, *more])}): `{command}` shows them"


def take_batch(
    project: Project,
    batch: str,
    *,
    drop: Drop,
    lakefs: LakeFSResource,
    artifacts: ArtifactStore,
    opinion: Callable[[], Opinion | None],
    run_id: str,
    say: Callable[[str], None],
    neighbours: Neighbours,
) -> Taken:
    """Read a batch from the project's drop and publish it, or say why not.

    Raises `DropChanged` when the drop changes meanwhile, and then nothing was published; other `DropError`s,
    `SourceError`, and what lakeFS raises.
    """

    def progress(stage: str, done: int, of: int) -> None:
        if done == of or done % _SAID_EVERY == 0:
            say(f"{stage} {done:,} of {of:,}")

    place = drop.place(project.project, project.drop.address)
    with drop.read(place, batch, lambda done, of: progress("copied", done, of)) as reading:
        publisher = Publisher(
            project,
            lakefs,
            artifacts,
            progress,
            metadata={"dagster.run_id": run_id, **_link(run_id)},
            opinion=opinion,
            check_source=reading.check_unchanged,
            neighbours=neighbours,
        )
        try:
            # Whoever may write to a drop may not have files read that only this user may read.
            stated = Stated(project.drop.format, no_links=True)
            published = publisher.publish(reading.folder, batch, stated, reading.address)
        except BatchRefused as refused:
            say(str(refused))
            return Taken("refused", refused.images, refused.branch, None, refused.findings)
    return Taken(published.outcome, published.images, MAIN, published.commit, published.findings)


def _link(run_id: str) -> dict[str, str]:
    """lakeFS's UI shows metadata of this name as a link."""
    return {"::lakefs::Dagster::url[url:ui]": run_tags.run_page(run_id)}
