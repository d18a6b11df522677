"""Checks of a new batch against itself and what `main` has. Each gives its findings.

`batch` and `existing` are tables with the manifest's columns; `existing` is without the batch's own rows.

Near duplicates are told by group: one finding for images that are copies of each other, not one for each pair. Near
duplicates of near duplicates are one group, so that no side of the split has a part of them. Such a chain may be
what it seems, a video or a camera that sees nothing change, and would then put much of a batch on one side: it is
asked about before it does.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from visionops_assets.common.findings import Finding, findings_table, sides_of
from visionops_assets.dataset.batch_images import Examined
from visionops_assets.dataset.dataset_task import truth_of
from visionops_assets.dataset.splits import Count
from visionops_assets.dataset.versions.layout import batch_of

_SUFFIXES = {
    "PNG": {".png"},
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".mpo"},
    "GIF": {".gif"},
    "BMP": {".bmp"},
    "WEBP": {".webp"},
    "TIFF": {".tif", ".tiff"},
    "AVIF": {".avif"},
    "JPEG2000": {".jp2", ".j2k"},
    "PPM": {".ppm", ".pgm", ".pnm"},
}
# A chain of fewer images is never asked about, whatever the batch.
CHAIN_ALWAYS_ALLOWED = 20
_NAMED = 3
# A group that an image was not declared to be in, but has from its own bytes or those of an original.
_OWN_GROUP = re.compile("[0-9a-f]{64}")
Pair = tuple[str, str, float]


@dataclass(frozen=True)
class Limits:
    """What an image may measure, in pixels; `max_aspect` is the longer side by the shorter."""

    min_side: int = 4
    max_side: int = 20_000
    max_aspect: float = 50.0


LIMITS = Limits()


def check_decodable(examined: Iterable[Examined], limits: Limits = LIMITS) -> pd.DataFrame:
    """Every image is readable, of sensible measures, what its name says, not of one colour or too dark (else WARN)."""
    findings = []
    for one in examined:
        if one.error:
            findings.append(
                Finding("readable", one.name, one.error, "replace it, or leave it out of the batch")
            )
            continue
        shorter, longer = sorted((one.height, one.width))
        measures = f"measures {one.width}×{one.height}"
        if shorter < limits.min_side or longer > limits.max_side:
            bounds = f"sides must be {limits.min_side} to {limits.max_side:,} pixels; crop or scale it"
            findings.append(Finding("measures", one.name, measures, bounds))
        elif longer > limits.max_aspect * shorter:
            findings.append(
                Finding(
                    "measures",
                    one.name,
                    measures,
                    f"one side is over {limits.max_aspect:g} times the other; crop it",
                )
            )
        suffix = PurePosixPath(one.name).suffix.lower()
        if suffix not in _SUFFIXES.get(one.format, {suffix}):
            why = "it is read as what it is; rename it where other programs will read it"
            findings.append(Finding("named rightly", one.name, f"is a {one.format} image", why, "WARN"))
        if one.blank:
            why = "it shows nothing; leave it out, unless it is meant to be so"
            findings.append(Finding("shows something", one.name, f"is {one.blank} throughout", why, "WARN"))
        elif one.dark is not None:
            what = f"has 16 bits, and its brightest grey value is {one.dark} of 255"
            why = (
                "a camera of 10, 12 or 14 bits may have stored them as the lowest; multiply its values by 64, 16 or 4, "
                "or leave it as it is where it is that dark"
            )
            findings.append(Finding("bits used", one.name, what, why, "WARN"))
        if one.frames > 1:
            findings.append(
                Finding(
                    "single image", one.name, f"has {one.frames} frames", "only the first one is used", "WARN"
                )
            )
    return findings_table(findings)


def check_boxes(batch: pd.DataFrame) -> pd.DataFrame:
    """Boxes have an area and lie inside their image (up to one pixel, which annotation tools round away)."""
    findings: list[Finding] = []
    for path, width, height, boxes in batch[["path", "width", "height", "boxes"]].itertuples(index=False):
        for box in boxes:
            shown = f"a box of {box['label']!r} at {box['x']:g}, {box['y']:g} of {box['w']:g}×{box['h']:g}"
            inside = (
                box["x"] >= -1
                and box["y"] >= -1
                and box["x"] + box["w"] <= width + 1
                and box["y"] + box["h"] <= height + 1
            )
            if not (box["w"] > 0 and box["h"] > 0):
                why = "a box without area shows nothing; remove it"
                findings.append(Finding("boxes", path, f"has {shown}", why, box=sides_of(box)))
            elif not inside:
                why = f"it leaves the image of {width}×{height}; correct it"
                findings.append(Finding("boxes", path, f"has {shown}", why, box=sides_of(box)))
    return findings_table(findings)


def check_exact_duplicates(batch: pd.DataFrame, existing: pd.DataFrame) -> pd.DataFrame:
    """No image twice (WARN), and above all not with another label (ERROR)."""
    known = existing[existing["sha256"].isin(batch["sha256"])]
    both = pd.concat([known, batch], ignore_index=True)
    both["truth"] = (
        np.concatenate([truth_texts(known), truth_texts(batch)]) if len(known) else truth_texts(batch)
    )
    originals = both.drop_duplicates("sha256")[["sha256", "path", "truth"]]
    copies = both.iloc[len(known) :].merge(originals, on="sha256", suffixes=("", "_original"))
    copies = copies[copies["path"] != copies["path_original"]]
    findings = []
    for path, truth, original, original_truth in copies[
        ["path", "truth", "path_original", "truth_original"]
    ].itertuples(index=False, name=None):
        if truth != original_truth:
            what = f"is the same image as {original}, which is labelled {original_truth}, not {truth}"
            why = "one of them is wrong; correct it"
            findings.append(
                Finding("one label an image", path, what, why, suspected=original_truth, other=original)
            )
        else:
            what = f"is the same image as {original}"
            why = "it counts twice; leave one out"
            findings.append(Finding("no copies", path, what, why, "WARN", other=original))
    return findings_table(findings)


def check_anything_new(copied: pd.DataFrame, existing: pd.DataFrame, name: str, images: int) -> pd.DataFrame:
    """Of the batch called `name`, with so many `images`, one is not there already (ERROR): it would count all twice.

    `copied` has the rows of the batch that may be copies, `existing` those of other batches.
    """
    if not images or int(copied["sha256"].isin(existing["sha256"]).sum()) < images:
        return findings_table([])
    there = existing.loc[existing["sha256"].isin(copied["sha256"]), "path"]
    batches = ", ".join(sorted({batch_of(path) for path in there}))
    what = f"has nothing new: each of its {images:,} images is on main already, in {batches}"
    why = f"leave the batch out; to correct labels, import it as {batches}"
    return findings_table([Finding("anything new", name, what, why, other=str(there.iloc[0]))])


def check_class_balance(batch: Count, existing: Count, factor: float = 3.0) -> pd.DataFrame:
    """No class is `factor` times more or less frequent than on `main`, beyond what chance explains (WARN).

    Chance: three standard deviations of the binomial count, and at least five images.
    """
    images, all_existing = batch[None], existing[None]
    if not all_existing or not images:
        return findings_table([])
    findings = []
    for label in sorted(label for label in batch.keys() | existing.keys() if label is not None):
        share = existing.get(label, 0) / all_existing
        expected, found = share * images, batch.get(label, 0)
        off = abs(found - expected)
        unlikely = off > max(5.0, 3 * (expected * max(0.0, 1 - share)) ** 0.5)
        if unlikely and not expected / factor <= found <= expected * factor:
            what = f"{found / images:.1%} of the batch, {share:.1%} of what there is"
            why = "the camera, the line or the labelling may have changed; look at a few"
            named = "images without a box" if label == "no boxes" else f"class {label}"
            findings.append(Finding("class balance", named, what, why, "WARN"))
    return findings_table(findings)


def truth_texts(table: pd.DataFrame) -> np.ndarray:
    """What each row is labelled with, as text that is equal when it is. Shape (N,), objects."""
    column, task = truth_of(table.columns)
    return np.array([task.text(truth) for truth in table[column]], object)


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
        if len(own) > max(CHAIN_ALWAYS_ALLOWED, max_chain * images) and not _is_declared(
            rows.loc[own, "group"]
        ):
            what = f"{len(own):,} of its {images:,} images are near duplicates of each other: {_first_paths(own)}"
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
            yield _grouped_finding(those, nearest, rows, excluded)
    for path, (older, _) in nearest.items():
        truth, other = (str(rows["truth"][one]) for one in (path, older))
        if truth != other:
            what = f"is nearly the same as {older}"
            why = f"it is labelled {truth}, the other {other}; one of them may be wrong"
            yield Finding("one label an image", path, what, why, "WARN", other, other=older)


def _grouped_finding(
    newer: Sequence[str], nearest: dict[str, tuple[str, float]], rows: pd.DataFrame, excluded: bool
) -> Finding:
    """One finding on images that are near duplicates of others of their group."""
    first = newer[0]
    older, correlation = nearest[first]
    split = str(rows["split"][older])
    what = f"is nearly the same as {older} (correlation {correlation:.4f})"
    if len(newer) > 1:
        what += f"; so are {len(newer) - 1:,} more to this or each other: {_first_paths(newer[1:])}"
    it, is_, joins = ("they", "are", "join") if len(newer) > 1 else ("it", "is", "joins")
    if excluded:
        why = f"which is in {split}; {it} {is_} excluded, or {it} would leak between splits"
        return Finding("no leak between splits", first, what, why, "WARN", other=older)
    return Finding("near duplicates", first, what, f"{it} {joins} it in {split}", "WARN", other=older)


def _first_paths(paths: Sequence[str]) -> str:
    """The first few paths."""
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return ", ".join(paths[:_NAMED]) + more


def _is_declared(groups: pd.Series) -> bool:
    """Whether images are of one group that somebody named."""
    names = set(groups)
    return len(names) == 1 and not _OWN_GROUP.fullmatch(str(names.pop()))
