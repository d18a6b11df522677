"""Images answered by what serves: a candidate while it does well in its trial, else the good model."""

from __future__ import annotations

import statistics
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from edge import EdgeError, states
from edge.answer_log import InferenceLog
from edge.engines import Engine
from edge.files import DISK_IS_FULL
from edge.formats import MODEL, Assignment, Bundle
from edge.kept import Kept
from edge.runner import BadImage, OpenRunner, Runner, RunnerDied

# Answers whose median processor time is held against the budget.
TIMED, FEWEST_TIMED = 50, 20
# How often the good model is opened again before an image is given up.
REOPENED = 2
OBSERVED_FRAMES, OBSERVED_SECONDS = 200, 86400.0


class NoModel(EdgeError, RuntimeError):
    """Nothing answers on this device yet."""


@dataclass
class _Open:
    bundle: Bundle
    runner: Runner
    content: Mapping[str, Any]
    engine: Engine | None = None


class Answering:
    """The model that answers on a device, opened when an image comes. May be used by several threads."""

    def __init__(
        self,
        kept: Kept,
        device: str,
        open_runner: OpenRunner,
        threads: int,
        log: InferenceLog | None = None,
    ) -> None:
        self._kept, self._device, self._log = kept, device, log
        self.open_runner, self._threads = open_runner, threads
        self._lock = threading.RLock()
        self._open: _Open | None = None
        # Right answers of the candidate on trial, and which that is: those of one before are none of its.
        self._answered, self._on_trial = 0, ""
        self._timed: deque[float] = deque(maxlen=TIMED)
        self.assignment: Assignment | None = None

    def answer(self, image: bytes) -> dict[str, Any]:
        """What the model in force says of an image. Raises `NoModel`, and `BadImage` for one that cannot be decoded."""
        died = False
        with self._lock:
            for _ in range(states.MOST_STARTS + REOPENED + 2):
                opened = self._opened()
                if opened is None:
                    continue
                named, started = {"model": _named(opened)}, monotonic()
                try:
                    found = opened.runner.answer(image)
                except RunnerDied as error:
                    self._log_failure(named, "not_finite" if error.why == "not_finite" else "crashes")
                    self._died(opened, error)
                    died = True
                    continue
                except BadImage:
                    self._log_failure(named, "bad_images")
                    raise
                said = {**found, **named}
                if self._log is not None:
                    self._log.answered(image, said, opened.runner.measure, (monotonic() - started) * 1000)
                self._was_right(opened, found)
                return said
        if not died:
            raise NoModel(f"no model can be opened on {self._device}: {self._kept.problems.get('model')}")
        # Neither the candidate nor the good model could answer it.
        raise BadImage("no model answers it: its process ends each time")

    def commit_if_observed(self) -> None:
        """Keep a candidate that has answered rightly as often, or as long, as its group asks."""
        with self._kept.changing:
            state, asked = self._kept.state, self.assignment
            candidate = state.candidate
            if state.phase != "TRIAL" or candidate is None or not self._answered:
                return
            if candidate.id != self._on_trial:
                return
            frames = asked.observe_frames if asked is not None else OBSERVED_FRAMES
            seconds = asked.observe_seconds if asked is not None else OBSERVED_SECONDS
            age = self._kept.now() - datetime.fromisoformat(state.since)
            if self._answered >= frames or age >= timedelta(seconds=seconds):
                self._kept.change(states.observed, self._kept.now())

    def reopen(self) -> None:
        """Open what serves anew before the next image: its engine is there now."""
        self.close()

    def close(self) -> None:
        """End what answers."""
        with self._lock:
            self._close_runner()

    def _opened(self) -> _Open | None:
        """What serves, opened; None where that failed, or something else serves now. Raises `NoModel`."""
        kept = self._kept
        serving = kept.state.serving
        if self._open is not None and self._open.bundle == serving:
            return self._open
        self._close_runner()
        if serving is None:
            why = "; ".join(dict(kept.problems).values())
            raise NoModel(f"no model answers on {self._device} yet: {why or 'it has none'}")
        trial = kept.state.phase == "TRIAL"
        if trial:
            try:
                kept.change(states.starts, kept.now())
            except OSError as error:
                if error.errno not in DISK_IS_FULL or kept.state.good is None:
                    raise
                # A start that cannot be counted is none: the good model answers until there is room.
                serving, trial = kept.state.good, False
                kept.problems["room"] = f"the disk of {kept.files.root} is full: no model is tried"
            if trial and kept.state.serving != serving:
                return None
            self._answered, self._on_trial = 0, serving.id
        digest = serving.digest(MODEL)
        if kept.files.sha256(f"blobs/{digest}") != digest:
            if trial:
                kept.leave(serving, "bad_digest", "its file changed on this disk")
            else:
                kept.good_is_corrupt(serving)
            return None
        engine = kept.engines.of(serving)
        try:
            runner = self.open_runner(kept.files.path(f"blobs/{digest}"), self._threads, engine)
        except RunnerDied as error:
            kept.problems["model"] = f"the model of release {serving.release} cannot be opened: {error}"
            if engine is not None:
                # It answers without.
                kept.engines.drop(serving)
            return None
        self._timed.clear()
        self._open = _Open(serving, runner, kept.manifest(serving).content, engine)
        return self._open

    def _log_failure(self, named: Mapping[str, Any], what: str) -> None:
        if self._log is not None:
            self._log.failed(named, what)

    def _died(self, opened: _Open, error: RunnerDied) -> None:
        self._close_runner()
        self._kept.problems["model"] = f"the model of release {opened.bundle.release}: {error}"
        self._kept.leave(opened.bundle, error.why, str(error))
        if opened.engine is not None and self._kept.state.serving == opened.bundle:
            # The good model answers without what may have killed it.
            self._kept.engines.drop(opened.bundle)

    def _was_right(self, opened: _Open, found: Mapping[str, Any]) -> None:
        kept = self._kept
        kept.problems.pop("model", None)
        if kept.state.phase != "TRIAL" or kept.state.candidate != opened.bundle:
            return
        kept.change(states.first_answer)
        self._answered += 1
        if opened.engine is not None or not kept.engines.needed:
            # The budget is for the provider that was meant.
            self._timed.append(float(found.get("cpu_ms", 0.0)))
        allowed = float(opened.content["budget"].get("cpu_ms", "inf"))
        median = statistics.median(self._timed or (0.0,))
        if len(self._timed) >= FEWEST_TIMED and median > allowed:
            kept.leave(
                opened.bundle, "slow", f"{median:.1f} ms of processor an image, {allowed:g} are allowed"
            )
            return
        self.commit_if_observed()

    def _close_runner(self) -> None:
        if self._open is not None:
            self._open.runner.close()
            self._open = None


def _named(opened: _Open) -> dict[str, Any]:
    """How an answer names its model."""
    model = opened.content.get("model", {})
    return {
        "bundle": opened.bundle.id,
        "release": opened.bundle.release,
        "version": model.get("version"),
        "sha256": model.get("weights_sha256"),
        "onnx_sha256": opened.bundle.digest(MODEL),
    }
