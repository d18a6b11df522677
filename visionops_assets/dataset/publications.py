"""Which batches were published on `main`, by the metadata of its commits."""

from collections.abc import Mapping
from dataclasses import dataclass

from resources.lakefs import MAIN, LakeFSResource
from resources.lakefs_records import Commit

BATCH = "visionops.batch"
ERRORS = "visionops.errors"
# The format of the findings that a commit has with its batch.
FINDINGS = "visionops.findings"
RETRACTS = "visionops.retracts"


@dataclass(frozen=True)
class Publications:
    """The merges that published each batch, newest first: those that stand, and those that were taken back."""

    standing: Mapping[str, list[Commit]]
    retracted: Mapping[str, list[Commit]]

    def newest(self, batch: str) -> Commit | None:
        """The merge that published a batch last, standing or not."""
        found = [*self.standing.get(batch, ()), *self.retracted.get(batch, ())]
        return found[0] if found else None

    def in_words(self, batch: str, place: str) -> str:
        """Why a batch is not among the published ones of `place`, and which ones are."""
        there = ", ".join(sorted(self.standing)[:10]) or "none"
        known = "was retracted already" if batch in self.retracted else "was never published"
        return f"batch {batch} {known}: {place} has these published batches: {there}"


def publications(lakefs: LakeFSResource, repository: str) -> Publications:
    """Read the log of `main`. Raises what lakeFS raises."""
    taken_back: set[str] = set()
    standing: dict[str, list[Commit]] = {}
    retracted: dict[str, list[Commit]] = {}
    for commit in lakefs.log(repository, MAIN):
        taken_back |= {commit.metadata[RETRACTS]} if RETRACTS in commit.metadata else set()
        batch = commit.metadata.get(BATCH)
        if batch is None or len(commit.parents) < 2:
            continue
        side = retracted if commit.id in taken_back else standing
        side.setdefault(batch, []).append(commit)
    return Publications(standing, retracted)
