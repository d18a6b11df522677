"""Captured frames: which are kept with their prediction, which labelled ones stand for a day, and where they are
read.

Kept are a share of all, the unsure ones, and those unlike the rest. Captures are kept, and labels asked for, where
the model is unsure or the image is new: such images teach most, and a model looks worse on them than it is, the one
that was unsure more than any other. So a share of the captures is drawn by the digest of the image, whatever the
model says, and these are asked for in the order of their digests. As far as that order is labelled without a gap it
is a simple random sample of the day.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from edge.formats import place_of_digest
from resources.lakefs.client import MAIN, LakeFSResource
from visionops_assets.config.production_rules import CaptureRules
from visionops_assets.config.project import Project
from visionops_assets.monitoring.inference_log import CAPTURES, day_of, production_repository

# How many embeddings of kept frames novelty is measured against.
REMEMBERED = 256


@dataclass(frozen=True)
class Candidate:
    """A frame that may be kept. `confidence` is null where a detector found nothing, `size` is in bytes."""

    image_sha256: str
    confidence: float | None
    embedding: Sequence[float] | None
    size: int


def why_keep(
    rules: CaptureRules, image_sha256: str, confidence: float | None, novelty: float | None
) -> str | None:
    """The rule that a frame is kept by; None: it is not.

    `novelty` is 1 less the cosine of the nearest embedding kept lately, null where there is none to compare with.
    """
    if confidence is None or confidence < rules.below_confidence:
        return "unsure"
    if novelty is not None and novelty > rules.novelty:
        return "novel"
    # Uniform in the digest: the same image is chosen everywhere or nowhere, whatever else is.
    return "share" if place_of_digest(image_sha256) < rules.share else None


class Captures:
    """What one device keeps of a stream: the rules, within the bytes of a day."""

    def __init__(self, rules: CaptureRules) -> None:
        self._rules = rules
        self._day: date | None = None
        self._left = 0
        # Float32 (REMEMBERED, dimensions), the oldest row replaced: stacked anew for each frame, it took a fifth of the
        # time in which a server holds the interpreter.
        self._directions = np.empty((REMEMBERED, 0), np.float32)
        self._kept = 0

    def keep(self, candidate: Candidate, day: date) -> str | None:
        """Why this frame is kept on `day` (UTC), or None. What is kept counts against the day's bytes."""
        if day != self._day:
            self._day, self._left = day, self._rules.bytes_per_day
        direction = _direction(candidate.embedding)
        why = why_keep(self._rules, candidate.image_sha256, candidate.confidence, self._novelty(direction))
        if why is None or candidate.size > self._left:
            return None
        self._left -= candidate.size
        if direction is not None:
            if len(direction) != self._directions.shape[1]:
                # Of another model, and not to be compared.
                self._directions, self._kept = np.empty((REMEMBERED, len(direction)), np.float32), 0
            self._directions[self._kept % REMEMBERED] = direction
            self._kept += 1
        return why

    def _novelty(self, direction: np.ndarray | None) -> float | None:
        if direction is None or not self._kept or len(direction) != self._directions.shape[1]:
            return None
        return float(1 - (self._directions[: self._kept] @ direction).max())


def _direction(embedding: Sequence[float] | None) -> np.ndarray | None:
    if embedding is None:
        return None
    values = np.asarray(embedding, np.float32)
    length = float(np.linalg.norm(values))
    return values / length if np.isfinite(length) and length > 0 else None


def in_sample(digests: pd.Series, share: float) -> pd.Series:
    """Whether each image is among a `share` of all, chosen by its SHA-256: the same image always or never."""
    return digests.map(lambda digest: place_of_digest(digest) < share).astype(bool)


def label_sample(rows: pd.DataFrame, share: float) -> pd.DataFrame:
    """The labelled rows that performance is counted on, each image once, in the order of `rows`.

    All of them where every image is labelled. Else of the captures those drawn by a `share`, by digest, up to the
    first that has no label. Labelled images that were not captured were chosen by whoever labelled them, and count.
    """
    images = rows.sort_values(["image_sha256", "capture"], kind="stable").drop_duplicates("image_sha256")
    labelled, captured = images["label"].notna(), images["capture"].notna()
    if not labelled.all():
        waiting = images["image_sha256"][captured & ~labelled & in_sample(images["image_sha256"], share)]
        first = waiting.min() if len(waiting) else "g"
        sampled = in_sample(images["image_sha256"], share) & (images["image_sha256"] < first)
        images = images[labelled & (~captured | sampled)]
    return images.sort_index()


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
