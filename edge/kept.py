"""What a device keeps: its state, changed in one write under a lock, the files that the state names, and what it
compiles of them for this machine while others answer.

A build takes minutes, perhaps hours: it is begun, counted before it is, and glanced at between looks for news.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from edge import formats, states
from edge.engines import CPU, Build, Engine, Engines, Prepare
from edge.fetch import PIECE
from edge.files import DISK_IS_FULL, Files
from edge.formats import MODEL, Bundle, Manifest, State, canonical, manifest_of

STATE = "state.json"
# Between two glances at a build.
GLANCE_SECONDS = 0.5
# A model by its engine held to its golden answers, as `edge.selftest`.
Examined = Callable[[Bundle, Engine], "tuple[str | None, str] | None"]


class Kept:
    """The state and files of one device. `problems` is what is wrong now, by who found it."""

    def __init__(self, files: Files, group: str, now: Callable[[], datetime], provider: str = CPU) -> None:
        """A process of the agent starts. Raises `StateError` for a state that another agent wrote."""
        self.files, self.now = files, now
        self.engines = Engines(files, provider)
        self.problems: dict[str, str] = {}
        self._named: dict[str, dict[str, Any]] = {}
        # Held while the state and what hangs on it must not be changed by another thread.
        self.changing = threading.RLock()
        self.state = self._read()
        boot_id = files.boot_id
        if boot_id != self.state.boot_id:
            self._cut_torn_parts()
        self.begin(states.booted, boot_id)
        if not self.state.group:
            self.begin(lambda state: replace(state, group=group))

    def begin(self, function: Callable[..., State], *arguments: Any) -> None:
        """Change the state as a process starts. On a full disk it goes on without: the next change that finds room
        writes this one, too, and until then nothing that is to be durable happens."""
        try:
            self.change(function, *arguments)
        except OSError as error:
            if error.errno not in DISK_IS_FULL:
                raise
            self.state = function(self.state, *arguments)
            self.problems["room"] = f"the disk of {self.files.root} is full: what it has goes on"

    def change(self, function: Callable[..., State], *arguments: Any, **named: Any) -> None:
        """Change the state by a function of `edge.states`, durably, before anything hangs on it."""
        with self.changing:
            changed = function(self.state, *arguments, **named)
            if changed != self.state:
                self.files.write(STATE, json.dumps(formats.state_to_json(changed)).encode())
                self.state = changed
                self.problems.pop("room", None)

    def leave(self, bundle: Bundle, why: str, detail: str) -> None:
        """Leave a bundle that is on trial; what is not any more, since a look took it back, is left alone."""
        with self.changing:
            if self.state.phase == "TRIAL" and self.state.candidate == bundle:
                self.change(states.failed, why, self.now(), detail)

    def is_whole(self, bundle: Bundle) -> bool:
        """Whether all of a bundle is there, right by its digests."""
        return all(self.files.sha256(f"blobs/{sha256}") == sha256 for _, sha256, _ in bundle.files) and (
            self.files.sha256(f"manifests/{bundle.id}.json") == bundle.id
        )

    def keep_manifest(self, manifest: Manifest) -> None:
        """Before the state names a bundle, its manifest is there."""
        name = f"manifests/{manifest.id}.json"
        if self.files.sha256(name) != manifest.id:
            self.files.write(name, canonical(manifest.content))

    def manifest(self, bundle: Bundle) -> Manifest:
        """The manifest of a bundle that the state names. Raises `FormatError`."""
        return manifest_of(self.files.read(f"manifests/{bundle.id}.json") or b"", bundle.id)

    def named(self, bundle: Bundle) -> dict[str, Any]:
        """How a bundle is told of: its release, identity, and the registered version and variant that its manifest
        names."""
        if bundle.id not in self._named:
            try:
                manifest = self.manifest(bundle)
                model = {
                    "version": int(manifest.content["model"]["version"]),
                    "variant": str(manifest.content.get("variant", "fp32")),
                }
            except (formats.FormatError, KeyError, TypeError, ValueError):
                # A bad disk: it is fetched again.
                return {"release": bundle.release, "bundle": bundle.id, "version": None, "variant": None}
            self._named[bundle.id] = {"release": bundle.release, "bundle": bundle.id, **model}
        return self._named[bundle.id]

    def good_is_corrupt(self, good: Bundle) -> None:
        """The good model's files are not what was signed: the previous one answers if it is whole, else none."""
        with self.changing:
            if self.state.good != good:
                return
            previous = self.state.previous
            whole = previous is not None and self.is_whole(previous)
            self.change(states.good_corrupt, self.now(), previous_whole=whole)
        for _, sha256, _ in good.files:
            if self.files.sha256(f"blobs/{sha256}") != sha256:
                self.files.remove(f"blobs/{sha256}")

    def tidy(self) -> None:
        """Remove what the state no longer names."""
        with self.changing:
            held = self.state.held
            blobs = {sha256 for bundle in held for _, sha256, _ in bundle.files}
            candidate = self.state.candidate
            parts = {sha256 for _, sha256, _ in candidate.files} if candidate is not None else set()
            manifests = {f"{bundle.id}.json" for bundle in held}
            for folder, kept in (("blobs", blobs), ("incoming", parts), ("manifests", manifests)):
                for name in self.files.names(folder):
                    if name not in kept:
                        self.files.remove(f"{folder}/{name}")
            self.engines.tidy(held)

    def _read(self) -> State:
        content = self.files.read(STATE)
        if content is None:
            return State()
        try:
            return formats.state_from_json(json.loads(content))
        except formats.StateError as error:
            raise formats.StateError(
                f"{self.files.path(STATE)} {error}: use the agent that wrote it, or another --state"
            ) from error
        except ValueError:
            # A bad disk. What lies in `blobs` is still known by its digest and is not fetched again.
            self.files.move(STATE, f"{STATE}.damaged")
            self.problems["state"] = f"{STATE} was damaged and kept as {STATE}.damaged"
            return State()

    def _cut_torn_parts(self) -> None:
        """After a power cut the last piece of a file may hold what was never written."""
        for name in self.files.names("incoming"):
            size = self.files.size(f"incoming/{name}") or 0
            self.files.truncate(f"incoming/{name}", max(0, size - PIECE))


@dataclass
class _UnderWay:
    """The engine that is being made."""

    name: str
    engine: Engine
    build: Build


class Preparing:
    """The builds of one device. `go_on` says whether nothing else is due, `reopen` lets the new engine answer."""

    def __init__(
        self,
        kept: Kept,
        prepare: Prepare,
        examined: Examined,
        go_on: Callable[[], bool],
        reopen: Callable[[], None],
    ) -> None:
        self._kept, self._prepare, self._examined = kept, prepare, examined
        self._go_on, self._reopen = go_on, reopen
        self._building: _UnderWay | None = None

    def candidate(self, candidate: Bundle) -> bool:
        """Compile the candidate, while the good model answers. False where a look is due first."""
        kept, engines = self._kept, self._kept.engines
        if engines.has(candidate):
            kept.change(states.prepared, kept.now())
            return True
        if not self._is_under_way(candidate):
            kept.change(states.prepare_starts, engines.name(candidate), kept.now())
            if kept.state.phase != "PREPARE":
                return True
        compiled = self._compiled(candidate)
        if compiled is None:
            return False
        engine, said = compiled
        if said == "":
            engines.keep(candidate, engine)
            kept.change(states.prepared, kept.now())
            return True
        engines.discard(engine)
        if said is not None:
            kept.change(states.failed, "unprepared", kept.now(), said)
        return True

    def what_serves(self) -> bool:
        """Another runtime or driver, or a bad disk: what answers by the CPU provider gets its engine, tested first.

        False where a look is due first.
        """
        kept, serving, problems = self._kept, self._kept.state.serving, self._kept.problems
        if serving is None or kept.engines.has(serving):
            problems.pop("engine", None)
            return True
        under_way = self._is_under_way(serving)
        if self._building is not None and not under_way:
            # A candidate's comes first.
            return True
        name = kept.engines.name(serving)
        without = f"release {serving.release} answers by {CPU}"
        if not under_way:
            if not states.may_prepare(kept.state, name, kept.now()):
                problems.setdefault(
                    "engine", f"{without}: its engine could not be made, and is tried again a day later"
                )
                return True
            kept.change(states.prepare_starts, name, kept.now())
        compiled = self._compiled(serving)
        if compiled is None:
            return False
        engine, said = compiled
        if said == "":
            found = self._examined(serving, engine)
            said = "its self-test died" if found is None else "" if found[0] is None else found[1]
        if said != "":
            kept.engines.discard(engine)
            problems["engine"] = f"{without}: {said or 'its process died'}"
            return True
        kept.engines.keep(serving, engine)
        problems.pop("engine", None)
        self._reopen()
        return True

    def leave_what_nobody_wants(self) -> None:
        """End a build whose candidate was withdrawn, or whose runtime is another now."""
        wanted = (self._kept.state.candidate, self._kept.state.serving)
        if not any(each is not None and self._is_under_way(each) for each in wanted):
            self.end()

    def end(self) -> None:
        """End what is being made; nothing is kept of it."""
        if self._building is not None:
            self._building.build.close()
            self._kept.engines.discard(self._building.engine)
            self._building = None

    def _is_under_way(self, bundle: Bundle) -> bool:
        return self._building is not None and self._building.name == self._kept.engines.name(bundle)

    def _compiled(self, bundle: Bundle) -> tuple[Engine, str | None] | None:
        """What the provider made and said; None where a look is due first: it goes on meanwhile."""
        if not self._is_under_way(bundle):
            self.end()
            engines, state = self._kept.engines, self._kept.state
            engine = engines.begin(bundle, f"{state.boots}-{state.preparing[1]}")
            model = self._kept.files.path(f"blobs/{bundle.digest(MODEL)}")
            self._building = _UnderWay(engines.name(bundle), engine, self._prepare(model, engine))
        made = self._building
        assert made is not None
        while not made.build.ended(GLANCE_SECONDS):
            if not self._go_on():
                return None
        self._building = None
        return made.engine, made.build.said()
