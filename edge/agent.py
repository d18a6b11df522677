"""One device: looks at its repository, tries what it is assigned, and answers images all the while.

One thread looks, fetches and tests (`look`, `advance`, `deliver`, `tidy`), others may `answer`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from typing import Any

from edge import __version__, machine, states
from edge.answer_log import InferenceLog
from edge.answering import Answering
from edge.engines import CPU, Engine, Prepare, ProcessBuild, tolerated
from edge.fetch import Client, NoSpace, Paused, Unreachable, WrongDigest
from edge.files import DISK_IS_FULL, Files
from edge.formats import GOLDEN, MODEL, Assignment, Bundle, Manifest, State, arm_of
from edge.kept import Kept, Preparing
from edge.outbox import MOST_MB, Outbox, Reporter
from edge.runner import OpenRunner, ProcessRunner, examine_in_a_process
from edge.states import Assigned
from edge.trust import Distrusted, Looked, Trust

STATUS = "status.json"

# A model, its golden answers, rules, budget, and an engine where it has one.
Examine = Callable[
    [Path, Path, Mapping[str, Any], Mapping[str, Any], Engine | None], "tuple[str | None, str] | None"
]


@dataclass(frozen=True)
class Profile:
    """Which device this is, and what of the machine its model and its waiting reports may use. No model is exchanged
    while there is a file `lock_file`."""

    device: str
    group: str
    provider: str = CPU
    threads: int = 1
    lock_file: Path | None = None
    reports_mb: float = MOST_MB


@dataclass(frozen=True)
class Surroundings:
    """What an agent stands on: its machine, and how models run, are tested and are compiled there. `now` and
    `synchronised` tell the time and whether it is known to be right."""

    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    synchronised: Callable[[], bool] = machine.clock_is_synchronised
    facts: Callable[[], Mapping[str, Any]] = machine.facts
    open_runner: OpenRunner = ProcessRunner
    examine: Examine = examine_in_a_process
    prepare: Prepare = ProcessBuild


THIS_MACHINE = Surroundings()


class Agent:
    """A device in its folder."""

    def __init__(
        self,
        files: Files,
        profile: Profile,
        *,
        trust: Trust,
        client: Client,
        reporter: Reporter | None = None,
        around: Surroundings = THIS_MACHINE,
    ) -> None:
        """Raises `StateError` for a state that another agent wrote."""
        device, now = profile.device, around.now
        self._files, self._device, self._trust, self._client = files, device, trust, client
        self._examine, self._lock_file = around.examine, profile.lock_file
        self._now, self._synchronised, self._facts = now, around.synchronised, around.facts
        self._own_kbps = client.max_kbps
        self._arm = "control"
        self._looked = monotonic()
        # A download or a build waits for a look that is due.
        self.paused = False
        self._closed = False
        self.kept = Kept(files, profile.group, now, profile.provider)
        self.log = self._outbox = None
        if reporter is not None:
            self.kept.begin(states.reports_begin, now())
            self.log = InferenceLog(self.kept)
            self._outbox = Outbox(self.kept, reporter, self.log, profile.reports_mb)
        self.answering = Answering(self.kept, device, around.open_runner, profile.threads, self.log)
        self._preparing = Preparing(
            self.kept, around.prepare, self._examined, self._look_is_not_due, self.answering.reopen
        )

    @property
    def state(self) -> State:
        """What is durable of it now."""
        return self.kept.state

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong now, by who found it."""
        return self.kept.problems

    @property
    def poll_every(self) -> float:
        """Seconds between two looks."""
        return self._assignment.poll_every if self._assignment is not None else 300.0

    def look(self) -> None:
        """Ask the repository what this device is to run. Raises `Distrusted` and `Unreachable`; both change nothing."""
        now, self._looked = self._now(), monotonic()
        looked = self._trust.look(self.state.group, now, synchronised=self._synchronised())
        # Each group once: two that send a device to one another do not keep it from its work.
        seen = {self.state.group}
        while (moved_to := looked.assignment.moved.get(self._device, self.state.group)) not in seen:
            seen.add(moved_to)
            try:
                found = self._trust.look(moved_to, now, synchronised=self._synchronised())
            except Distrusted as error:
                if error.problem != "no_assignment":
                    raise
                # Nobody could send it back from there: it stays with the group that has news.
                break
            self.kept.change(states.moved, moved_to, now)
            looked = found
        asked = looked.assignment
        self.answering.assignment = asked
        if self.log is not None:
            self.log.rules = asked.log
            self.log.blocks.seconds = asked.block
        self._arm = arm_of(asked, self._device)
        limits = [each for each in (asked.max_kbps, self._own_kbps) if each]
        self._client.max_kbps = min(limits, default=None)
        for manifest in looked.manifests.values():
            self.kept.keep_manifest(manifest)
        wanted = self._wanted(looked, now)
        named = {each.id for each in (wanted.base, wanted.candidate) if each is not None}
        previous = self.state.previous
        whole = previous is not None and previous.id in named and self.kept.is_whole(previous)
        self.kept.change(states.assigned, wanted, now, previous_whole=whole)

    def advance(self) -> bool:
        """One step with the candidate; False where nothing is to be done. Raises `Unreachable`."""
        candidate = self.state.candidate
        if self.state.phase == "DOWNLOAD" and candidate is not None:
            return self._download(candidate)
        if self.state.phase == "PREPARE" and candidate is not None:
            self.paused = not self._preparing.candidate(candidate)
            return not self.paused
        if self.state.phase == "SELFTEST" and candidate is not None:
            self._test(candidate)
            return True
        self.answering.commit_if_observed()
        return False

    def settle(self) -> None:
        """Advance as far as it goes without an image."""
        self.paused = False
        self._preparing.leave_what_nobody_wants()
        while self.advance():
            pass
        self.paused |= not self._preparing.what_serves()
        if self._closed:
            self._preparing.end()
        self.kept.tidy()

    def answer(self, image: bytes) -> dict[str, Any]:
        """What the model in force says of an image. Raises `NoModel`, and `BadImage` for one that cannot be decoded."""
        return self.answering.answer(image)

    def check_good(self) -> None:
        """Hold the good model to its digests. A bad disk leads to the previous one, or a new download."""
        good = self.state.good
        if good is not None and not self.kept.is_whole(good):
            self.kept.good_is_corrupt(good)

    def deliver(self) -> None:
        """Bring reports where they are collected: at once where something happened, what is wrong too; else every
        `report_every` seconds, as a sign of life. Raises `Unreachable` and OSError: they wait."""
        if self._outbox is None:
            return
        # That reports do not arrive is no news once they do.
        try:
            self.kept.change(states.told_of, self._problem(without="reports"), self._now())
        except OSError as error:
            # Told once the outbox has made room.
            if error.errno not in DISK_IS_FULL:
                raise
        every = self._assignment.report_every if self._assignment is not None else 300.0
        self._outbox.deliver(self.status(), every)

    def status(self) -> dict[str, Any]:
        """What the device is now, for `status` and reports."""
        state = self.state
        return {
            "device": self._device,
            "group": state.group,
            "phase": state.phase,
            "serving": self._short(state.serving),
            "good": self._short(state.good),
            "previous": self._short(state.previous),
            "candidate": self._short(state.candidate),
            "quarantine": {id: why for id, why, _ in state.quarantine},
            "problem": self._problem(),
            "waiting_events": len(state.outbox),
            "dropped_events": state.dropped,
            "waiting_reports": self._outbox.waiting() if self._outbox is not None else 0,
            "dropped_reports": state.dropped_reports,
            "agent": __version__,
            "runtime": str(self._facts()["onnxruntime"]),
            "provider": self._provider(),
        }

    def _problem(self, without: str = "") -> str | None:
        found = sorted(each for each in dict(self.problems).items() if each[0] != without)
        return "; ".join(f"{name}: {said}" for name, said in found) or None

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
        """End what answers, and soon what another thread fetches or compiles."""
        self._closed = True
        self.answering.close()

    @property
    def _assignment(self) -> Assignment | None:
        return self.answering.assignment

    def _wanted(self, looked: Looked, now: datetime) -> Assigned:
        """An assignment as it is meant for this machine."""
        asked, here = looked.assignment, dict(self._facts())
        here["providers"] = {*here["providers"], self.kept.engines.provider}
        bundles = {id: _bundle(each) for id, each in looked.manifests.items()}
        reasons = {id: machine.unmet(each.requires, here) for id, each in looked.manifests.items()}
        return Assigned(
            base=bundles[asked.base],
            candidate=bundles[asked.candidate] if asked.candidate is not None else None,
            rollout=asked.rollout,
            arm=self._arm,  # type: ignore[arg-type]
            floor=looked.floor,
            revoked=asked.revoked,
            unmet={id: why for id, why in reasons.items() if why is not None},
            may_swap=self._may_swap(now),
        )

    def _look_is_not_due(self) -> bool:
        return not self._closed and monotonic() - self._looked < self.poll_every

    def _download(self, candidate: Bundle) -> bool:
        """False where a look is due first: hours of a slow line keep no device from news."""
        for _, sha256, size in candidate.files:
            if self._files.sha256(f"blobs/{sha256}") == sha256:
                continue
            try:
                url = self._trust.blob_url(sha256)
                self._client.blob(self._files, url, sha256, size, self._look_is_not_due)
            except Paused:
                self.paused = True
                return False
            except WrongDigest:
                self.kept.change(states.wrong_digest, self._now())
                return True
            except NoSpace as error:
                self.kept.change(states.failed, "no_space", self._now(), str(error))
                return True
        prepare = not self.kept.engines.has(candidate)
        self.kept.change(lambda state: states.fetched(state, self._now(), prepare=prepare))
        return True

    def _examined(self, bundle: Bundle, engine: Engine | None) -> tuple[str | None, str] | None:
        manifest = self.kept.manifest(bundle)
        model, golden = (self._files.path(f"blobs/{bundle.digest(name)}") for name in (MODEL, GOLDEN))
        return self._examine(model, golden, tolerated(manifest.golden, engine), manifest.budget, engine)

    def _short(self, bundle: Bundle | None) -> dict[str, Any] | None:
        return self.kept.named(bundle) if bundle is not None else None

    def _provider(self) -> str:
        """By which what serves answers."""
        serving, engines = self.state.serving, self.kept.engines
        return engines.provider if serving is not None and engines.has(serving) else CPU

    def _test(self, candidate: Bundle) -> None:
        kept = self.kept
        # First: a window that cannot be read must not count as a test.
        may_swap = self.state.good is None or self._may_swap(self._now())
        if not kept.engines.has(candidate):
            kept.change(states.unprepared, self._now())
            return
        kept.change(states.test_starts, self._now())
        if self.state.phase != "SELFTEST":
            return
        if not kept.is_whole(candidate):
            kept.change(states.failed, "bad_digest", self._now(), "its files changed on this disk")
            return
        engine = kept.engines.of(candidate)
        if engine is None and kept.engines.needed:
            kept.change(states.unprepared, self._now())
            return
        found = self._examined(candidate, engine)
        if found is None:
            # The process died: the next attempt is counted before it runs, too.
            return
        why, measured = found
        if why is not None:
            kept.change(states.failed, why, self._now(), measured)
            return
        asked = self._assignment
        shadow = self._arm == "shadow" and asked is not None and candidate.id == asked.candidate
        kept.change(states.tested, "shadow" if shadow or not may_swap else "trial", self._now())

    def _may_swap(self, now: datetime) -> bool:
        if self._lock_file is not None and self._lock_file.exists():
            return False
        return machine.in_window(self._assignment.window if self._assignment is not None else None, now)


def _bundle(manifest: Manifest) -> Bundle:
    return Bundle(manifest.id, manifest.release, manifest.files)
