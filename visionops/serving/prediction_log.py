"""What was predicted goes to the spool, with the frames that the capture policy keeps."""

import hashlib
import itertools
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from resources.machine_errors import in_words
from resources.storage import Spool, check_device
from visionops_assets.config.project import Project
from visionops_assets.monitoring.captures import Candidate, Captures
from visionops_assets.monitoring.prediction import Answer, Picture, log_rows
from visionops_assets.monitoring.spool_files import spooled_log

# A file at least this often, and at most this large.
FLUSH_SECONDS = 60.0
FLUSH_ROWS = 1000
# Image statistics of many cost half of what they cost one by one, and a server has better things to do.
MEASURED_TOGETHER = 64
# What waits while the spool takes nothing, or while batches come faster than they are written.
MOST_ROWS = 20 * FLUSH_ROWS
MOST_BATCHES = 1000

_log = logging.getLogger(__name__)
# Images that one model answered, its answers, and when the first was, each a microsecond before the next.
_Batch = tuple[Sequence[Picture], Sequence[Answer], datetime]


def this_machine() -> str:
    """How the log names this machine where nobody says otherwise."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname()).strip("-_")[:63] or "machine"


class LoggedOnce:
    """What a command logs, once: typed again after it ended early, it logs the same rows at the times of its first try.

    A note in the spool has the times of the rows of a file before it goes there, and that it does afterwards, until the
    command is `done`. A file that was put and not noted is put again, under its name: where it was committed meanwhile,
    rows of one image, device and time count once all the same (`monitoring.validation`).
    """

    def __init__(self, spool: Spool, project: Project, device: str) -> None:
        self._spool, self._project, self._device = spool, project.project, device
        self._notes: list[str] = []
        oldest = datetime.now(UTC) - project.production.clock_behind
        self._found: dict[str, _Note] = {}
        for name, content in spool.notes(self._project, device).items():
            note = _Note.read(content)
            if note is None or note.times[0] < oldest:
                # Rows that old are refused: who types it now means a new one.
                spool.note(self._project, device, name, None)
            else:
                self._found[name] = note

    def put(self, task: str, rows: Sequence[dict[str, Any]]) -> None:
        """Put rows into the spool. Raises what that raises."""
        what = [(row["device_group"], row["model_sha256"], row["image_sha256"]) for row in rows]
        name = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
        # The same images once more are predictions of their own.
        name = f"{name}-{self._notes.count(name)}"
        note = self._found.get(name)
        if note is None or len(note.times) != len(rows):
            note = _Note(times=[row["timestamp"] for row in rows])
        self._notes.append(name)
        if note.put:
            return
        self._write(name, note)
        first = [{**row, "timestamp": when} for row, when in zip(rows, note.times, strict=True)]
        file = hashlib.sha256(f"{name} {note.times[0].isoformat()}".encode()).hexdigest()[:32]
        self._spool.put(self._project, self._device, spooled_log(task, first), file)
        self._write(name, _Note(times=note.times, put=True))

    def done(self) -> None:
        """The command did what was asked: typed again, it means to log anew."""
        for name in self._notes:
            self._spool.note(self._project, self._device, name, None)

    def _write(self, name: str, note: "_Note") -> None:
        self._spool.note(self._project, self._device, name, note.model_dump_json().encode())


class _Note(BaseModel):
    """When the rows of a file were predicted (UTC), and whether it was put."""

    model_config = ConfigDict(extra="forbid")

    times: list[AwareDatetime] = Field(min_length=1)
    put: bool = False

    @classmethod
    def read(cls, content: bytes) -> "_Note | None":
        """None for what is none: anybody with a device writes there."""
        try:
            return cls.model_validate_json(content)
        except ValidationError:
            return None


class PredictionLog:
    """Rows of one device, gathered and put into the spool by `flush`. Raises ValueError for a device without a name.

    `once`, they are those of a command that ends, which has to say so by `done`.
    """

    def __init__(
        self, spool: Spool, project: Project, device: str, group: str, *, once: bool = False
    ) -> None:
        self._spool, self._project, self._group = spool, project, group
        self.device = check_device(device)
        self._once = LoggedOnce(spool, project, self.device) if once else None
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
        """Write what is gathered as files. Raises what the spool raises; then the rows stay here."""
        self._measure()
        while self._rows:
            part = self._rows[:FLUSH_ROWS]
            if self._once is not None:
                self._once.put(self._project.task, part)
            else:
                self._spool.put(self._project.project, self.device, spooled_log(self._project.task, part))
            self._rows = self._rows[FLUSH_ROWS:]
            self.written += len(part)
            self.captured += sum("frame" in row for row in part)

    def done(self) -> None:
        """Nothing more is logged, and whoever logs the same from now on logs it anew."""
        if self._once is not None:
            self._once.done()

    def _measure(self) -> None:
        """Make rows of what was seen. Another model may take images of another size. What no row can be made of is
        counted as dropped, and raised."""
        seen, self._seen = self._seen, []
        rows: list[dict[str, Any]] = []
        try:
            for _, alike in itertools.groupby(seen, key=lambda each: each[0].pixels.shape):
                rows += self._rows_of(list(alike))
        finally:
            self.dropped += len(seen) - len(rows)
            self._rows += rows
            if len(self._rows) > MOST_ROWS:
                self.dropped += len(self._rows) - MOST_ROWS
                self._rows = self._rows[-MOST_ROWS:]

    def _rows_of(self, alike: Sequence[tuple[Picture, Answer, datetime]]) -> list[dict[str, Any]]:
        """The rows of images of one size, with the frames that are kept."""
        batch, answers, times = zip(*alike, strict=True)
        rows = log_rows(batch, answers, device=self.device, group=self._group, times=times)
        for row, picture in zip(rows, batch, strict=True):
            candidate = Candidate(picture.sha256, row["confidence"], row["embedding"], len(picture.data))
            if self._captures.keep(candidate, row["timestamp"].date()) is not None:
                row["frame"] = picture.data
        return rows


class BackgroundLog:
    """A log that is written by a thread, so that no answer waits for it. `close` writes what is left.

    Nothing that happens to the log stops who answers, nor the log: what could not be kept is counted and said.
    """

    def __init__(self, log: PredictionLog, every: float = FLUSH_SECONDS) -> None:
        self._log, self._every = log, every
        self._changed = threading.Condition()
        self._batches: list[_Batch] = []
        self._waiting, self._is_closing = 0, False
        self._free_from = datetime.min.replace(tzinfo=UTC)
        self._dropped = self._told = 0
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, batch: Sequence[Picture], answers: Sequence[Answer]) -> None:
        """Take a batch; it is dropped, and counted, where the thread cannot keep up. Any thread may call it."""
        with self._changed:
            if len(self._batches) >= MOST_BATCHES:
                self._dropped += len(batch)
                return
            # Two batches at once have no microsecond in common: with the image that is what tells rows apart.
            when = max(datetime.now(UTC), self._free_from)
            self._free_from = when + timedelta(microseconds=len(batch))
            self._batches.append((batch, answers, when))
            self._waiting += len(batch)
            if self._is_enough:
                # Woken for each batch, the thread took the interpreter from who answers.
                self._changed.notify()

    @property
    def _is_enough(self) -> bool:
        return self._waiting >= min(MEASURED_TOGETHER, FLUSH_ROWS)

    @property
    def dropped(self) -> int:
        """Rows that were not kept, and will not be."""
        return self._log.dropped + self._dropped

    def close(self) -> None:
        """Write what is left and end the thread. What cannot be written is dropped, and said."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()
        self._dropped += len(self._log)
        self._tell_dropped()

    def to_json(self) -> dict[str, Any]:
        """How the log does."""
        return {
            "device": self._log.device,
            "written": self._log.written,
            "captured": self._log.captured,
            "waiting": self._waiting + len(self._log),
            "dropped": self.dropped,
            "problem": self._problem,
        }

    def _run(self) -> None:
        due = time.monotonic() + self._every
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._is_enough or self._is_closing, max(0.0, due - time.monotonic())
                )
                batches, is_closing = self._batches, self._is_closing
                self._batches, self._waiting = [], 0
            for batch, answers, when in batches:
                try:
                    self._log.add(batch, answers, when)
                except Exception:
                    _log.exception("a batch could not be logged")
            if is_closing or len(self._log) >= FLUSH_ROWS or time.monotonic() >= due:
                self._write()
                due = time.monotonic() + self._every
            if is_closing:
                return

    def _write(self) -> None:
        before, written = self._problem, self._log.written
        try:
            self._log.flush()
            self._problem = None
            if before is not None:
                _log.warning("the prediction log goes on: %d rows are written", self._log.written - written)
        except Exception as error:  # A bucket's errors share no base.
            # Serving goes on; /health and the metrics say so, and the next flush tries again.
            self._problem = in_words(error)
            if before is None:
                _log.warning("the prediction log waits: %s", self._problem)
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        """Say what was lost since it was said last."""
        lost, self._told = self.dropped - self._told, self.dropped
        if lost:
            why = self._problem or "they came faster than they could be written"
            _log.error("%d rows of the prediction log are lost, %d in all: %s", lost, self._told, why)
