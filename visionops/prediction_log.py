"""What was predicted goes to the spool, with the frames that the capture policy keeps."""

import itertools
import logging
import queue
import re
import socket
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from resources.machine_errors import in_words
from resources.spool import Spool, check_device
from visionops_assets.monitoring.captures import Candidate, Captures
from visionops_assets.monitoring.prediction import Answer, Picture, log_rows
from visionops_assets.monitoring.spooled import spooled_log
from visionops_assets.project import Project

# A file at least this often, and at most this large.
FLUSH_SECONDS = 60.0
FLUSH_ROWS = 1000
# Image statistics of many cost half of what they cost one by one, and a server has better things to do.
MEASURED_TOGETHER = 64
# What waits while the spool takes nothing, or while batches come faster than they are written.
MOST_ROWS = 20 * FLUSH_ROWS
MOST_BATCHES = 1000

_log = logging.getLogger(__name__)


def this_machine() -> str:
    """How the log names this machine where nobody says otherwise."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname()).strip("-_")[:63] or "machine"


class PredictionLog:
    """Rows of one device, gathered and put into the spool by `flush`. Raises ValueError for a device without a name."""

    def __init__(self, spool: Spool, project: Project, device: str, group: str) -> None:
        self._spool, self._project, self._group = spool, project, group
        self.device = check_device(device)
        self._captures = Captures(project.production.captures)
        self._seen: list[tuple[Picture, Answer, datetime]] = []
        self._rows: list[dict[str, Any]] = []
        self.written = self.captured = self.dropped = 0

    def __len__(self) -> int:
        return len(self._rows) + len(self._seen)

    def add(self, batch: Sequence[Picture], answers: Sequence[Answer], when: datetime) -> None:
        """Take a batch that one model answered, when (UTC). Rows beyond the most that may wait are dropped."""
        # The same image twice in a batch is two predictions, and time is what tells them apart.
        times = [when + timedelta(microseconds=number) for number in range(len(batch))]
        self._seen += zip(batch, answers, times, strict=True)
        if len(self._seen) >= MEASURED_TOGETHER:
            self._measure()

    def flush(self) -> None:
        """Write what is gathered as files. Raises OSError where the spool takes nothing; then the rows stay here."""
        self._measure()
        while self._rows:
            part = self._rows[:FLUSH_ROWS]
            self._spool.put(self._project.project, self.device, spooled_log(self._project.task, part))
            self._rows = self._rows[FLUSH_ROWS:]
            self.written += len(part)
            self.captured += sum("frame" in row for row in part)

    def _measure(self) -> None:
        """Make rows of what was seen. Another model may take images of another size."""
        seen, self._seen = self._seen, []
        for _, alike in itertools.groupby(seen, key=lambda each: each[0].pixels.shape):
            batch, answers, times = zip(*alike, strict=True)
            rows = log_rows(batch, answers, device=self.device, group=self._group, times=times)
            for row, picture in zip(rows, batch, strict=True):
                candidate = Candidate(picture.sha256, row["confidence"], row["embedding"], len(picture.data))
                if self._captures.keep(candidate, row["timestamp"].date()) is not None:
                    row["frame"] = picture.data
            self._rows += rows
        if len(self._rows) > MOST_ROWS:
            self.dropped += len(self._rows) - MOST_ROWS
            self._rows = self._rows[-MOST_ROWS:]


class BackgroundLog:
    """A log that is written by a thread, so that no answer waits for it. `close` writes what is left."""

    def __init__(self, log: PredictionLog, every: float = FLUSH_SECONDS) -> None:
        self._log, self._every = log, every
        self._batches: queue.Queue[tuple[Sequence[Picture], Sequence[Answer], datetime] | None]
        self._batches = queue.Queue(MOST_BATCHES)
        self._dropped = 0
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, batch: Sequence[Picture], answers: Sequence[Answer]) -> None:
        """Take a batch; it is dropped, and counted, where the thread cannot keep up."""
        try:
            self._batches.put_nowait((batch, answers, datetime.now(UTC)))
        except queue.Full:
            self._dropped += len(batch)

    def close(self) -> None:
        """Write what is left and end the thread."""
        self._batches.put(None)
        self._thread.join()

    def to_json(self) -> dict[str, Any]:
        """How the log does."""
        return {
            "device": self._log.device,
            "written": self._log.written,
            "captured": self._log.captured,
            "waiting": len(self._log),
            "dropped": self._log.dropped + self._dropped,
            "problem": self._problem,
        }

    def _run(self) -> None:
        due = time.monotonic() + self._every
        while True:
            try:
                found = self._batches.get(timeout=max(0.0, due - time.monotonic()))
            except queue.Empty:
                self._write()
                due = time.monotonic() + self._every
                continue
            if found is None:
                self._write()
                return
            batch, answers, when = found
            self._log.add(batch, answers, when)
            if len(self._log) >= FLUSH_ROWS or time.monotonic() >= due:
                self._write()
                due = time.monotonic() + self._every

    def _write(self) -> None:
        try:
            self._log.flush()
            self._problem = None
        except OSError as error:
            # Serving goes on; /health and the metrics say so, and the next flush tries again.
            before, self._problem = self._problem, in_words(error)
            if before is None:
                _log.warning("the prediction log waits: %s", self._problem)
