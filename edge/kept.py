"""What a device keeps: its state, changed in one write under a lock, and the files that the state names."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from edge import state_file, states
from edge.engines import CPU, Engines
from edge.fetch import PIECE
from edge.files import Files
from edge.formats import Manifest, canonical, manifest_of
from edge.state_file import Bundle, State

STATE = "state.json"


class Kept:
    """The state and files of one device. `problems` is what is wrong now, by who found it."""

    def __init__(self, files: Files, group: str, now: Callable[[], datetime], provider: str = CPU) -> None:
        """A process of the agent starts. Raises `StateError` for a state that another agent wrote."""
        self.files, self.now = files, now
        self.engines = Engines(files, provider)
        self.problems: dict[str, str] = {}
        # Held while the state and what hangs on it must not be changed by another thread.
        self.changing = threading.RLock()
        self.state = self._read()
        boot_id = files.boot_id
        if boot_id != self.state.boot_id:
            self._cut_torn_parts()
        self.change(states.booted, boot_id)
        if not self.state.group:
            self.change(lambda state: replace(state, group=group))

    def change(self, function: Callable[..., State], *arguments: Any, **named: Any) -> None:
        """Change the state by a function of `edge.states`, durably, before anything hangs on it."""
        with self.changing:
            changed = function(self.state, *arguments, **named)
            if changed != self.state:
                self.files.write(STATE, json.dumps(state_file.to_json(changed)).encode())
                self.state = changed

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
            return state_file.from_json(json.loads(content))
        except state_file.StateError as error:
            raise state_file.StateError(
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
