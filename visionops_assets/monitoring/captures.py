"""Which frames are kept with their prediction: a share of all, the unsure ones, and those unlike the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from visionops_assets.monitoring.drawn_by_lot import place
from visionops_assets.monitoring.rules import CaptureRules

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
    return "share" if place(image_sha256) < rules.share else None


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
