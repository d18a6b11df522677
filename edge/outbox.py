"""Reports on their way: signed once, kept on the disk until they are where they are collected, in their order."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edge import states
from edge.answer_log import InferenceLog
from edge.fetch import Client, Unreachable
from edge.files import DISK_IS_FULL, Files
from edge.kept import Kept
from edge.reports import FORMAT, LOG_FORMAT, SUFFIX, brought_name, name_of, sequence_of, signed_report

FOLDER = "outbox"
# On the device, while nobody takes them: the oldest go first, and are counted.
MOST_MB = 50.0


class Reporter:
    """Signs what a device tells, and brings it where it is collected: a folder, or an address that takes PUT."""

    def __init__(self, client: Client, to: str, project: str, device: str, key: bytes) -> None:
        try:
            loaded: object = load_pem_private_key(key, None)
        except (ValueError, TypeError):
            loaded = None
        if not isinstance(loaded, Ed25519PrivateKey):
            raise ValueError("the device's key is no Ed25519 key")
        self._key, self._client, self._to = loaded, client, to.rstrip("/")
        self._project, self._device = project, device

    def signed(self, head: Mapping[str, Any], lines: Iterable[bytes]) -> bytes:
        """The bytes of a report; `head` says what the device is now."""
        named = {"format": FORMAT, "project": self._project, "device": self._device, **head}
        return signed_report([json.dumps(named, sort_keys=True).encode(), *lines], self._key)

    def bring(self, name: str, content: bytes) -> None:
        """Leave a file where it is collected; the same again is the same file. Raises `Unreachable`."""
        name = f"{self._project}/{self._device}/{brought_name(name, content)}"
        if not self._to.startswith("file:"):
            self._client.send(f"{self._to}/{name}", content)
            return
        try:
            Files(Path(unquote(urlsplit(self._to).path))).write(name, content)
        except OSError as error:
            raise Unreachable(f"{self._to} cannot be written: {error.strerror}") from error


class Outbox:
    """The reports of one device, `outbox/<sequence>.jsonl.gz`. A file that the state does not know yet is no report."""

    def __init__(self, kept: Kept, reporter: Reporter, log: InferenceLog, most_mb: float = MOST_MB) -> None:
        self._kept, self._reporter, self._log = kept, reporter, log
        self._most = int(most_mb * 1_000_000)
        self._signed_at: float | None = None

    def deliver(self, status: Mapping[str, Any], every: float) -> None:
        """Bring all that waits, and sign what there is to tell, at least so often (seconds). Raises `Unreachable` and
        OSError: then it waits."""
        away: Unreachable | None = None
        try:
            # First: what was brought makes room on a full disk.
            self._bring()
        except Unreachable as error:
            away = error
        now = monotonic()
        if self._kept.state.outbox or self._signed_at is None or now - self._signed_at >= every:
            self._sign_on_any_disk({**status, "report_every": every})
            self._signed_at = now
        self._make_room()
        if away is not None:
            raise away
        self._bring()

    def _bring(self) -> None:
        for name in self._waiting():
            content = self._kept.files.read(f"{FOLDER}/{name}")
            if content is not None:
                self._reporter.bring(name, content)
            self._kept.files.remove(f"{FOLDER}/{name}")

    def waiting(self) -> int:
        """How many reports wait."""
        return len(self._waiting())

    def _sign_on_any_disk(self, status: Mapping[str, Any]) -> None:
        """Where the disk is full, the oldest that wait make room. Raises OSError."""
        dropped = 0
        while True:
            try:
                self._sign(status)
                break
            except OSError as error:
                waiting = self._waiting()
                if error.errno not in DISK_IS_FULL or not waiting:
                    raise
                # Removed before it is counted: the state, too, needs room.
                self._kept.files.remove(f"{FOLDER}/{waiting[0]}")
                dropped += 1
        for _ in range(dropped):
            self._kept.change(states.report_dropped)

    def _sign(self, status: Mapping[str, Any]) -> None:
        kept, blocks = self._kept, self._log.blocks
        with self._log.reporting() as rows:
            sequence, events, parts = kept.state.reported + 1, kept.state.outbox, blocks.parts()
            head = {
                **status,
                "sequence": sequence,
                "at": kept.now().isoformat(timespec="seconds"),
                "boots": kept.state.boots,
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "disk_free_mb": kept.files.room() // 1_000_000,
            }
            told = [json.dumps(each, sort_keys=True).encode() for each in events]
            told += [json.dumps({"block": each}).encode() for each in parts]
            if rows:
                told += [json.dumps({"format": LOG_FORMAT}).encode(), *rows]
            kept.files.write(f"{FOLDER}/{name_of(sequence)}", self._reporter.signed(head, told))
            kept.change(states.report_signed, sequence, int(events[-1]["id"]) if events else 0)
            blocks.reported(parts)

    def _waiting(self) -> list[str]:
        names = [name for name in self._kept.files.names(FOLDER) if name.endswith(SUFFIX)]
        return [name for name in names if sequence_of(name) <= self._kept.state.reported]

    def _make_room(self) -> None:
        """The newest says most of a device: the oldest go."""
        files, names = self._kept.files, self._waiting()
        sizes = [files.size(f"{FOLDER}/{name}") or 0 for name in names]
        while len(names) > 1 and sum(sizes) > self._most:
            self._kept.change(states.report_dropped)
            files.remove(f"{FOLDER}/{names.pop(0)}")
            sizes.pop(0)
