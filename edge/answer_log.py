"""What a device logs of its answers until the next report: rows, a few frames, and totals.

Rows wait in `log/<sequence of that report>.jsonl`: once the report is signed nobody reads them again, so that each
arrives once, wherever the device is killed. Those of the last second may be lost then, or be there twice where their
images are answered once more.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta, timezone
from errno import ENOSPC
from time import monotonic
from typing import Any

from edge.blocks import Blocks
from edge.fetch import RESERVE
from edge.formats import LogRules, place_of_digest
from edge.kept import Kept
from edge.runner import RunnerDied

FOLDER = "log"
WRITTEN_EVERY = 1.0
# Of one report: more are counted, and not kept.
MOST_ROWS, MOST_BYTES = 1000, 8 << 20
LARGEST_FRAME = 4 << 20


class InferenceLog:
    """The rows of one device. May be used by several threads."""

    def __init__(self, kept: Kept) -> None:
        self._kept, self.blocks = kept, Blocks()
        self.rules = LogRules()
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []
        self._written_at, self._last = 0.0, datetime.min.replace(tzinfo=timezone.utc)
        self._day, self._captured = date.min, 0
        for name in kept.files.names(FOLDER):
            if f"{FOLDER}/{name}" != self._name:
                # Of a report that is signed.
                kept.files.remove(f"{FOLDER}/{name}")
        lines = self._lines()
        self._rows, self._bytes = len(lines), sum(map(len, lines))
        # After a kill in the middle of a row.
        self._torn = bool(kept.files.size(self._name))

    def answered(
        self, image: bytes, said: Mapping[str, Any], measure: Callable[[], dict[str, Any]], ms: float
    ) -> None:
        """A model answered an image, in this time by the clock. What keeps it from being logged is a problem."""
        kept, model = self._kept, self._model(said)
        now, confidence = kept.now(), said.get("confidence")
        self.blocks.answered(now, model, ms, confidence)
        digest = hashlib.sha256(image).hexdigest()
        frame = self._frame(image, digest, confidence, now)
        if frame is None and place_of_digest(digest) >= self.rules.share:
            return
        if self._rows >= MOST_ROWS or self._bytes >= MOST_BYTES:
            self.blocks.count(now, model, "unlogged")
            return
        try:
            row = {
                "timestamp": self._moment(now).isoformat(timespec="microseconds"),
                "device_group": kept.state.group,
                "model_sha256": said["model"]["sha256"],
                "image_sha256": digest,
                "prediction": said.get("prediction"),
                "confidence": confidence,
                **measure(),
                **({"frame": base64.b64encode(frame).decode()} if frame is not None else {}),
            }
            self._add(json.dumps(row).encode())
        except (RunnerDied, OSError) as error:
            kept.problems["log"] = f"an answer could not be logged: {error}"
            self.blocks.count(now, model, "unlogged")
            return
        kept.problems.pop("log", None)
        self.blocks.count(now, model, "logged")

    def failed(self, said: Mapping[str, Any], what: str) -> None:
        """A model's answer was none: `bad_images`, `not_finite` or `crashes`."""
        self.blocks.count(self._kept.now(), self._model(said), what)

    def write(self) -> None:
        """Bring what waits in memory to the disk. Raises OSError; then it still waits."""
        with self._lock:
            self._write()

    @contextmanager
    def reporting(self) -> Iterator[list[bytes]]:
        """The rows of the next report; once the body has signed that, others begin."""
        with self._lock:
            with suppress(OSError):
                # An event is told also where the disk is almost full.
                self._write()
            name = self._name
            yield self._lines()
            self._rows, self._bytes = len(self._waiting), sum(map(len, self._waiting))
            self._torn = False
            self._kept.files.remove(name)

    @property
    def _name(self) -> str:
        return f"{FOLDER}/{self._kept.state.reported + 1:012d}.jsonl"

    def _model(self, said: Mapping[str, Any]) -> tuple[str, str]:
        return str(said["model"]["bundle"]), self._kept.state.phase

    def _frame(self, image: bytes, digest: str, confidence: float | None, now: datetime) -> bytes | None:
        """The image, where it is to be kept with its row and the day has room for it."""
        rules = self.rules
        unsure = confidence is None or confidence < rules.unsure
        if not (unsure or place_of_digest(digest) < rules.captured):
            return None
        if now.date() != self._day:
            self._day, self._captured = now.date(), 0
        if len(image) > min(LARGEST_FRAME, rules.bytes_per_day - self._captured):
            return None
        self._captured += len(image)
        return image

    def _moment(self, now: datetime) -> datetime:
        """With its image, time is what tells a row from another."""
        self._last = max(now.astimezone(timezone.utc), self._last + timedelta(microseconds=1))
        return self._last

    def _add(self, line: bytes) -> None:
        with self._lock:
            self._waiting.append(line)
            self._rows += 1
            self._bytes += len(line)
            if monotonic() - self._written_at >= WRITTEN_EVERY:
                self._write()

    def _write(self) -> None:
        if not self._waiting:
            return
        files = self._kept.files
        self._written_at = monotonic()
        if files.room() < RESERVE:
            raise OSError(ENOSPC, "the disk is almost full")
        begin = b"\n" if self._torn else b""
        files.append(self._name, begin + b"".join(line + b"\n" for line in self._waiting))
        self._torn = False
        self._waiting.clear()

    def _lines(self) -> list[bytes]:
        """The whole rows on the disk."""
        content = self._kept.files.read(self._name) or b""
        return [line for line in content.split(b"\n") if _is_whole(line)]


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
