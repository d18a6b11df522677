"""What a model answered, in numbers: one part a block of time, model and phase, and report. Parts add up."""

from __future__ import annotations

import copy
import threading
from datetime import datetime, timezone
from typing import Any

from edge.formats import BLOCK_SECONDS

# Upper ends of all but the last bucket, in ms: 0.25 to 1,871.
LATENCY_MS = tuple(0.25 * 1.5**number for number in range(24))[:-1]
CONFIDENCES = 20
COUNTED = ("frames", "logged", "unlogged", "bad_images", "not_finite", "crashes")
HISTOGRAMS = ("latency_hist", "confidence_hist")


_Part = dict[str, Any]


class Blocks:
    """The parts since the last report, each of a block of `seconds`. May be used by several threads. Those of a process
    that is killed are lost: at most what lies between two reports."""

    def __init__(self) -> None:
        self.seconds = float(BLOCK_SECONDS)
        self._lock = threading.Lock()
        self._parts: dict[tuple[int, str, str], _Part] = {}

    def count(self, now: datetime, model: tuple[str, str], what: str) -> None:
        """One more of `COUNTED`, by a model's (bundle, phase)."""
        with self._lock:
            self._part(now, model)[what] += 1

    def answered(self, now: datetime, model: tuple[str, str], ms: float, confidence: float | None) -> None:
        """A frame was answered, in this time by the clock."""
        with self._lock:
            part = self._part(now, model)
            part["frames"] += 1
            part["latency_hist"][sum(ms > end for end in LATENCY_MS)] += 1
            if confidence is not None:
                part["confidence_hist"][min(CONFIDENCES - 1, max(0, int(confidence * CONFIDENCES)))] += 1

    def parts(self) -> list[dict[str, Any]]:
        """As reports have them, oldest first."""
        with self._lock:
            return [copy.deepcopy(part) for _, part in sorted(self._parts.items())]

    def reported(self, parts: list[dict[str, Any]]) -> None:
        """These are in a report that is on the disk; what was counted since stays."""
        with self._lock:
            for told in parts:
                key = (_seconds(told["from"]), told["serves"], told["phase"])
                part = self._parts[key]
                for name in COUNTED:
                    part[name] -= told[name]
                for name in HISTOGRAMS:
                    part[name] = [now - then for now, then in zip(part[name], told[name], strict=True)]
                if not any(part[name] for name in COUNTED):
                    del self._parts[key]

    def _part(self, now: datetime, model: tuple[str, str]) -> _Part:
        length = max(1, int(self.seconds))
        start = int(now.timestamp()) // length * length
        bundle, phase = model
        if (start, bundle, phase) not in self._parts:
            self._parts[start, bundle, phase] = {
                "from": _time(start),
                "to": _time(start + length),
                "serves": bundle,
                "phase": phase,
                **dict.fromkeys(COUNTED, 0),
                "latency_hist": [0] * (len(LATENCY_MS) + 1),
                "confidence_hist": [0] * CONFIDENCES,
            }
        return self._parts[start, bundle, phase]


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _seconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp())
