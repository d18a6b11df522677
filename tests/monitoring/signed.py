"""Enrolled devices of a test, and the files that they sign."""

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from logged import NOW

from edge.reports import key_id, name_of, signed_report
from visionops_assets.monitoring.device_files import DeviceKey


class Camera:
    """A device with a key of its own."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes((name + str(seed)).encode().ljust(32, b".")[:32])

    def known(self, revoked: str = "", replaced: tuple[DeviceKey, ...] = ()) -> DeviceKey:
        public = self._key.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        return DeviceKey(key_id(public), pem, revoked, replaced)

    def report(
        self, sequence: int, rows: Iterable[Mapping[str, Any]] = (), at: datetime = NOW, **head: Any
    ) -> bytes:
        """The file of this number; rows are those of `logged.row`, whose device it leaves to the head."""
        told: list[dict[str, Any]] = [
            {
                "format": "device_report/1",
                "project": "shapes",
                "device": self.name,
                "group": "line-1",
                "sequence": sequence,
                "at": at.isoformat(),
                "phase": "IDLE",
                "serving": {"release": 1, "version": 1, "variant": "fp32", "bundle": "b" * 64},
                "report_every": 300,
                **head,
            },
            {"id": sequence, "at": at.isoformat(), "event": "well"},
            {"block": {"frames": 10, "logged": 2}},
        ]
        found = [as_json(row) for row in rows]
        if found:
            told += [{"format": "inference_log/1"}, *found]
        return self._signed(told)

    def signed(self, sequence: int, lines: Iterable[Mapping[str, Any]]) -> bytes:
        """The file of this number with these lines after its head."""
        head = gzip.decompress(self.report(sequence)).splitlines()[0]
        return self._signed([json.loads(head), *lines])

    def _signed(self, told: Iterable[Mapping[str, Any]]) -> bytes:
        return signed_report([json.dumps(each).encode() for each in told], self._key)

    def file(self, sequence: int) -> str:
        return f"{self.name}/{name_of(sequence)}"


def as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the spool as a device writes it."""
    found = {**row, "timestamp": row["timestamp"].isoformat()}
    del found["device"]
    if found.get("frame") is not None:
        found["frame"] = base64.b64encode(found["frame"]).decode()
    return found
