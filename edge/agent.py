"""One device: looks at its repository, tries what it is assigned, and answers images all the while.

One thread looks, fetches and tests (`look`, `advance`, `deliver`, `tidy`), others may `answer`; what changes the state
is one write under a lock.
"""

from __future__ import annotations

import json
import statistics
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from edge import __version__, machine, states
from edge.fetch import PIECE, Client, NoSpace, Unreachable, WrongDigest
from edge.files import Files
from edge.formats import GOLDEN, MODEL, Assignment, Manifest, arm_of, manifest_of
from edge.outbox import Reporter
from edge.runner import BadImage, OpenRunner, ProcessRunner, Runner, RunnerDied
from edge.selftest import in_a_process
from edge.states import Assigned, Bundle, State
from edge.trust import Distrusted, Trust

STATE, STATUS = "state.json", "status.json"
# Answers whose median processor time is held against the budget.
TIMED, FEWEST_TIMED = 50, 20
# How often the good model is opened again before a frame is given up.
REOPENED = 2

Examine = Callable[[Path, Path, Mapping[str, Any], Mapping[str, Any]], "tuple[str | None, str] | None"]


class NoModel(RuntimeError):
    """Nothing answers on this device yet."""


@dataclass
class _Open:
    bundle: Bundle
    runner: Runner
    content: Mapping[str, Any]


class Agent:
    """A device in its folder. `now` and `synchronised` tell the time and whether it is known to be right."""

    def __init__(
        self,
        files: Files,
        *,
        device: str,
        group: str,
        trust: Trust,
        client: Client,
        reporter: Reporter | None = None,
        open_runner: OpenRunner = ProcessRunner,
        examine: Examine = in_a_process,
        threads: int = 1,
        lock_file: Path | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        synchronised: Callable[[], bool] = machine.clock_is_synchronised,
        facts: Callable[[], Mapping[str, Any]] = machine.facts,
    ) -> None:
        self._files, self._device, self._trust, self._client = files, device, trust, client
        self._reporter, self._open_runner, self._examine = reporter, open_runner, examine
        self._threads, self._lock_file = threads, lock_file
        self._now, self._synchronised, self._facts = now, synchronised, facts
        self._own_kbps = client.max_kbps
        self._changing, self._answering = threading.RLock(), threading.RLock()
        self._open: _Open | None = None
        self._answered = 0
        self._timed: deque[float] = deque(maxlen=TIMED)
        self._assignment: Assignment | None = None
        self._arm = "control"
        self.problems: dict[str, str] = {}
        self.state = self._read_state()
        boot_id = files.boot_id
        if boot_id != self.state.boot_id:
            self._cut_torn_parts()
        self._change(states.booted, boot_id)
        if not self.state.group:
            self._change(
                lambda state: states.moved(state, group, self._now()) if state.seq else _named(state, group)
            )

    @property
    def poll_every(self) -> float:
        """Seconds between two looks."""
        return self._assignment.poll_every if self._assignment is not None else 300.0

    def look(self) -> None:
        """Ask the repository what this device is to run. Raises `Distrusted` and `Unreachable`; both change nothing."""
        now = self._now()
        looked = self._trust.look(self.state.group, now, synchronised=self._synchronised())
        asked = looked.assignment
        self._assignment = asked
        limits = [each for each in (asked.max_kbps, self._own_kbps) if each]
        self._client.max_kbps = min(limits, default=None)
        moved_to = asked.moved.get(self._device)
        if moved_to is not None and moved_to != self.state.group:
            self._change(states.moved, moved_to, now)
            self.look()
            return
        here = self._facts()
        bundles = {id: _bundle(each) for id, each in looked.manifests.items()}
        for id, each in looked.manifests.items():
            if self._files.size(f"manifests/{id}.json") is None:
                self._files.write(f"manifests/{id}.json", _bytes(each))
        self._arm = arm_of(asked, self._device)
        reasons = {id: machine.unmet(each.requires, here) for id, each in looked.manifests.items()}
        wanted = Assigned(
            base=bundles[asked.base],
            candidate=bundles[asked.candidate] if asked.candidate is not None else None,
            rollout=asked.rollout,
            arm=self._arm,  # type: ignore[arg-type]
            floor=looked.floor,
            revoked=asked.revoked,
            unmet={id: why for id, why in reasons.items() if why is not None},
            may_swap=self._may_swap(now),
        )
        previous = self.state.previous
        whole = previous is not None and previous.id in bundles and self._whole(previous)
        self._change(states.assigned, wanted, now, previous_whole=whole)

    def advance(self) -> bool:
        """One step with the candidate; False where nothing is to be done. Raises `Unreachable`."""
        state = self.state
        if state.phase == "DOWNLOAD":
            self._download(_candidate(state))
            return True
        if state.phase == "SELFTEST":
            self._test(_candidate(state))
            return True
        if state.phase == "TRIAL":
            self._commit_if_observed()
        return False

    def settle(self) -> None:
        """Advance as far as it goes without an image."""
        while self.advance():
            pass
        self.tidy()

    def answer(self, image: bytes) -> dict[str, Any]:
        """What the model in force says of an image. Raises `NoModel`, and `BadImage` for one that cannot be decoded."""
        died = False
        with self._answering:
            for _ in range(states.MOST_STARTS + REOPENED + 2):
                opened = self._opened()
                if opened is None:
                    continue
                try:
                    found = opened.runner.answer(image)
                except RunnerDied as error:
                    self._died(opened, error)
                    died = True
                    continue
                self._was_right(opened, found)
                return {**found, "model": _model_named(opened)}
        if not died:
            raise NoModel(f"no model can be opened on {self._device}: {self.problems.get('model')}")
        # Neither the candidate nor the good model could answer it.
        raise BadImage("no model answers it: its process ends each time")

    def check_good(self) -> None:
        """Hold the good model to its digests. A bad disk leads to the previous one, or a new download."""
        good = self.state.good
        if good is not None and not self._whole(good):
            self._good_is_corrupt(good)

    def deliver(self) -> None:
        """Bring waiting events where they are collected. Raises `Unreachable`: they wait on."""
        events = self.state.outbox
        if self._reporter is None or not events:
            return
        self._reporter.deliver(events, self.status())
        self._change(states.delivered, int(events[-1]["id"]))

    def tidy(self) -> None:
        """Remove what the state no longer names."""
        with self._changing:
            held = self.state.held
            blobs = {sha256 for bundle in held for _, sha256, _ in bundle.files}
            candidate = self.state.candidate
            parts = {sha256 for _, sha256, _ in candidate.files} if candidate is not None else set()
            for folder, kept in (("blobs", blobs), ("incoming", parts)):
                for name in self._files.names(folder):
                    if name not in kept:
                        self._files.remove(f"{folder}/{name}")
            for name in self._files.names("manifests"):
                if name.removesuffix(".json") not in {bundle.id for bundle in held}:
                    self._files.remove(f"manifests/{name}")

    def status(self) -> dict[str, Any]:
        """What the device is now, for `status` and reports."""
        state = self.state
        return {
            "device": self._device,
            "group": state.group,
            "phase": state.phase,
            "serving": _short(state.serving),
            "good": _short(state.good),
            "previous": _short(state.previous),
            "candidate": _short(state.candidate),
            "quarantine": {id: why for id, why, _ in state.quarantine},
            "problem": "; ".join(f"{name}: {said}" for name, said in sorted(dict(self.problems).items()))
            or None,
            "waiting_events": len(state.outbox),
            "dropped_events": state.dropped,
            "agent": __version__,
            "runtime": str(self._facts()["onnxruntime"]),
        }

    def write_status(self) -> None:
        """Leave what `status` tells beside the state, for `visionops-edge status`."""
        content = (json.dumps(self.status(), indent=1) + "\n").encode()
        if content != self._files.read(STATUS):
            self._files.write(STATUS, content)

    def attempt(self, name: str, what: Callable[[], object]) -> bool:
        """Do something; whatever it raises becomes a problem by this name, and the old model goes on."""
        try:
            what()
        except Exception as error:
            if isinstance(error, Distrusted):
                self.problems[name] = f"{error.problem}: {error}"
            else:
                known = isinstance(error, Unreachable | NoSpace | OSError | ValueError)
                self.problems[name] = str(error) if known else f"{type(error).__name__}: {error}"
            return False
        self.problems.pop(name, None)
        return True

    def close(self) -> None:
        """End what answers."""
        with self._answering:
            self._close_runner()

    def _read_state(self) -> State:
        content = self._files.read(STATE)
        if content is None:
            return State()
        try:
            return states.from_json(json.loads(content))
        except states.StateError as error:
            raise states.StateError(
                f"{self._files.path(STATE)} {error}: use the agent that wrote it, or another --state"
            ) from error
        except ValueError:
            # A bad disk. What lies in `blobs` is still known by its digest and is not fetched again.
            self._files.move(STATE, f"{STATE}.damaged")
            self.problems["state"] = f"{STATE} was damaged and kept as {STATE}.damaged"
            return State()

    def _change(self, function: Callable[..., State], *arguments: Any, **named: Any) -> None:
        with self._changing:
            changed = function(self.state, *arguments, **named)
            if changed != self.state:
                self._files.write(STATE, json.dumps(states.to_json(changed)).encode())
                self.state = changed

    def _download(self, candidate: Bundle) -> None:
        for _, sha256, size in candidate.files:
            if self._files.sha256(f"blobs/{sha256}") == sha256:
                continue
            try:
                self._client.blob(self._files, self._trust.blob_url(sha256), sha256, size)
            except WrongDigest:
                self._change(states.wrong_digest, self._now())
                return
            except NoSpace as error:
                self._change(states.failed, "no_space", self._now(), str(error))
                return
        self._change(states.fetched, self._now())

    def _test(self, candidate: Bundle) -> None:
        self._change(states.test_starts, self._now())
        if self.state.phase != "SELFTEST":
            return
        manifest = self._manifest(candidate)
        model, golden = (self._files.path(f"blobs/{candidate.digest(name)}") for name in (MODEL, GOLDEN))
        if not self._whole(candidate):
            self._change(states.failed, "bad_digest", self._now(), "its files changed on this disk")
            return
        found = self._examine(model, golden, manifest.golden, manifest.budget)
        if found is None:
            # The process died: the next attempt is counted before it runs, too.
            return
        why, measured = found
        if why is not None:
            self._change(states.failed, why, self._now(), measured)
            return
        may_swap = self.state.good is None or self._may_swap(self._now())
        shadow = (
            self._arm == "shadow"
            and self._assignment is not None
            and (candidate.id == self._assignment.candidate)
        )
        self._change(states.tested, "shadow" if shadow or not may_swap else "trial", self._now())

    def _opened(self) -> _Open | None:
        """What serves, opened; None where that failed and something else serves now. Raises `NoModel`."""
        serving = self.state.serving
        if self._open is not None and self._open.bundle == serving:
            return self._open
        self._close_runner()
        if serving is None:
            raise NoModel(
                f"no model answers on {self._device} yet: {self.status()['problem'] or 'it has none'}"
            )
        trial = self.state.phase == "TRIAL"
        if trial:
            self._change(states.starts, self._now())
            if self.state.serving != serving:
                return None
            self._answered = 0
        if self._files.sha256(f"blobs/{serving.digest(MODEL)}") != serving.digest(MODEL):
            if trial:
                self._leave(serving, "bad_digest", "its file changed on this disk")
            else:
                self._good_is_corrupt(serving)
            return None
        try:
            runner = self._open_runner(self._files.path(f"blobs/{serving.digest(MODEL)}"), self._threads)
        except RunnerDied as error:
            self.problems["model"] = f"the model of release {serving.release} cannot be opened: {error}"
            return None
        self._timed.clear()
        self._open = _Open(serving, runner, self._manifest(serving).content)
        return self._open

    def _died(self, opened: _Open, error: RunnerDied) -> None:
        self._close_runner()
        self.problems["model"] = f"the model of release {opened.bundle.release}: {error}"
        self._leave(opened.bundle, error.why, str(error))

    def _was_right(self, opened: _Open, found: Mapping[str, Any]) -> None:
        self.problems.pop("model", None)
        if self.state.phase != "TRIAL" or self.state.candidate != opened.bundle:
            return
        self._change(states.first_answer)
        self._answered += 1
        self._timed.append(float(found.get("cpu_ms", 0.0)))
        allowed = float(opened.content["budget"].get("cpu_ms", "inf"))
        if len(self._timed) >= FEWEST_TIMED and statistics.median(self._timed) > allowed:
            took = f"{statistics.median(self._timed):.1f} ms of processor an image, {allowed:g} are allowed"
            self._leave(opened.bundle, "slow", took)
            return
        self._commit_if_observed()

    def _leave(self, bundle: Bundle, why: str, detail: str) -> None:
        """Leave a bundle that is on trial; what is not any more, since a look took it back, is left alone."""
        with self._changing:
            if self.state.phase == "TRIAL" and self.state.candidate == bundle:
                self._change(states.failed, why, self._now(), detail)

    def _commit_if_observed(self) -> None:
        with self._changing:
            state, asked = self.state, self._assignment
            if state.phase != "TRIAL" or not self._answered:
                return
            frames = asked.observe_frames if asked is not None else 200
            seconds = asked.observe_seconds if asked is not None else 86400.0
            age = self._now() - datetime.fromisoformat(state.since)
            if self._answered >= frames or age >= timedelta(seconds=seconds):
                self._change(states.observed, self._now())

    def _good_is_corrupt(self, good: Bundle) -> None:
        if self.state.good != good:
            return
        previous = self.state.previous
        whole = previous is not None and self._whole(previous)
        self._change(states.good_corrupt, self._now(), previous_whole=whole)
        for _, sha256, _ in good.files:
            if self._files.sha256(f"blobs/{sha256}") != sha256:
                self._files.remove(f"blobs/{sha256}")

    def _whole(self, bundle: Bundle) -> bool:
        return all(self._files.sha256(f"blobs/{sha256}") == sha256 for _, sha256, _ in bundle.files) and (
            self._files.sha256(f"manifests/{bundle.id}.json") == bundle.id
        )

    def _manifest(self, bundle: Bundle) -> Manifest:
        return manifest_of(self._files.read(f"manifests/{bundle.id}.json") or b"", bundle.id)

    def _may_swap(self, now: datetime) -> bool:
        if self._lock_file is not None and self._lock_file.exists():
            return False
        return machine.in_window(self._assignment.window if self._assignment is not None else None, now)

    def _cut_torn_parts(self) -> None:
        """After a power cut the last piece of a file may hold what was never written."""
        for name in self._files.names("incoming"):
            size = self._files.size(f"incoming/{name}") or 0
            self._files.truncate(f"incoming/{name}", max(0, size - PIECE))

    def _close_runner(self) -> None:
        if self._open is not None:
            self._open.runner.close()
            self._open = None


def _named(state: State, group: str) -> State:
    from dataclasses import replace

    return replace(state, group=group)


def _candidate(state: State) -> Bundle:
    assert state.candidate is not None
    return state.candidate


def _bundle(manifest: Manifest) -> Bundle:
    return Bundle(manifest.id, manifest.release, manifest.files)


def _bytes(manifest: Manifest) -> bytes:
    from edge.formats import canonical

    return canonical(manifest.content)


def _short(bundle: Bundle | None) -> dict[str, Any] | None:
    return {"release": bundle.release, "bundle": bundle.id} if bundle is not None else None


def _model_named(opened: _Open) -> dict[str, Any]:
    model = opened.content.get("model", {})
    return {
        "bundle": opened.bundle.id,
        "release": opened.bundle.release,
        "version": model.get("version"),
        "sha256": model.get("weights_sha256"),
        "onnx_sha256": opened.bundle.digest(MODEL),
    }
