"""What is said of near duplicates: one finding for images that are copies of each other, not one for each pair.

Near duplicates of near duplicates are one group, so that no side of the split has a part of them. Such a chain may be
what it seems, a video or a camera that sees nothing change, and would then put much of a batch on one side: it is asked
about before it does.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from visionops_assets.common.findings import Finding, findings_table
from visionops_assets.dataset.audit import truth_texts

# A chain of fewer images is never asked about, whatever the batch.
ALWAYS_ALLOWED = 20
_NAMED = 3
# A group that an image was not declared to be in, but has from its own bytes or those of an original.
_OWN_GROUP = re.compile("[0-9a-f]{64}")

Pair = tuple[str, str, float]


def check_near_duplicates(
    pairs: Sequence[Pair],
    batch: pd.DataFrame,
    existing: pd.DataFrame,
    images: int,
    max_chain: float,
    name: str,
) -> pd.DataFrame:
    """Near duplicates, given as (newer path, older path, correlation): told by group, above all across splits (WARN).

    `batch` and `existing` have their rows; the batch called `name` has so many `images`, of which a chain may take a
    share of `max_chain` (else ERROR).
    """
    columns = ["path", "split", "excluded", "group"]
    both = pd.concat([existing[columns], batch[columns]], ignore_index=True)
    both["truth"] = (
        np.concatenate([truth_texts(existing), truth_texts(batch)]) if len(existing) else truth_texts(batch)
    )
    rows, mine = both.set_index("path"), set(batch["path"])
    findings: list[Finding] = []
    for chain in _chains(pairs):
        findings += _told(chain, rows)
        own = sorted(mine.intersection(path for newer, older, _ in chain for path in (newer, older)))
        if len(own) > max(ALWAYS_ALLOWED, max_chain * images) and not _declared(rows.loc[own, "group"]):
            what = f"{len(own):,} of its {images:,} images are near duplicates of each other: {_first(own)}"
            why = (
                f"they would all go to one side; declare what they are of in a column `group` (a video, a part), leave "
                f"copies out, or allow it by audit.max_chain, which is {max_chain:g}"
            )
            findings.append(Finding("near duplicates", name, what, why))
    return findings_table(findings)


def _chains(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """The pairs by group: those that hang together by any of them, in the order of the first of each."""
    parents: dict[str, str] = {}

    def root(path: str) -> str:
        while parents.setdefault(path, path) != path:
            parents[path] = path = parents[parents[path]]
        return path

    for newer, older, _ in pairs:
        parents[root(newer)] = root(older)
    chains: dict[str, list[Pair]] = {}
    for pair in pairs:
        chains.setdefault(root(pair[0]), []).append(pair)
    return list(chains.values())


def _told(chain: Sequence[Pair], rows: pd.DataFrame) -> Iterator[Finding]:
    """What is said of images that hang together: of those that joined a side, those that are left out, and labels."""
    nearest: dict[str, tuple[str, float]] = {}
    for newer, older, correlation in chain:
        if newer not in nearest or correlation > nearest[newer][1]:
            nearest[newer] = (older, correlation)
    for excluded in (False, True):
        those = [path for path in nearest if bool(rows.loc[path, "excluded"]) == excluded]
        if those:
            yield _group(those, nearest, rows, excluded)
    for path, (older, _) in nearest.items():
        truth, other = (str(rows["truth"][one]) for one in (path, older))
        if truth != other:
            what = f"is nearly the same as {older}"
            why = f"it is labelled {truth}, the other {other}; one of them may be wrong"
            yield Finding("one label an image", path, what, why, "WARN", other, other=older)


def _group(
    newer: Sequence[str], nearest: dict[str, tuple[str, float]], rows: pd.DataFrame, excluded: bool
) -> Finding:
    """One finding on images that are near duplicates of others of their group."""
    first = newer[0]
    older, correlation = nearest[first]
    split = str(rows["split"][older])
    what = f"is nearly the same as {older} (correlation {correlation:.4f})"
    if len(newer) > 1:
        what += f"; so are {len(newer) - 1:,} more to this or each other: {_first(newer[1:])}"
    it, is_, joins = ("they", "are", "join") if len(newer) > 1 else ("it", "is", "joins")
    if excluded:
        why = f"which is in {split}; {it} {is_} excluded, or {it} would leak between splits"
        return Finding("no leak between splits", first, what, why, "WARN", other=older)
    return Finding("near duplicates", first, what, f"{it} {joins} it in {split}", "WARN", other=older)


def _first(paths: Sequence[str]) -> str:
    """The first few paths."""
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return ", ".join(paths[:_NAMED]) + more


def _declared(groups: pd.Series) -> bool:
    """Whether images are of one group that somebody named."""
    names = set(groups)
    return len(names) == 1 and not _OWN_GROUP.fullmatch(str(names.pop()))
