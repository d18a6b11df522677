"""What comes up from a device: files of JSON lines, named by the device's own count, signed by its key."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from edge import EdgeError
from edge.fetch import Client, Unreachable
from edge.files import Files

FORMAT = "device_report/1"


class ReportError(EdgeError, ValueError):
    """A report is not what the device signed."""


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

    def deliver(self, events: Sequence[Mapping[str, Any]], status: Mapping[str, Any]) -> None:
        """Bring events, at least one, and what the device is now. The same events again have the same name.

        Raises `Unreachable`.
        """
        head = {"format": FORMAT, "project": self._project, "device": self._device, **status}
        content = report(head, events, self._key)
        name = f"{self._project}/{self._device}/{events[-1]['id']:012d}.jsonl.gz"
        if not self._to.startswith("file:"):
            self._client.send(f"{self._to}/{name}", content)
            return
        try:
            Files(Path(unquote(urlsplit(self._to).path))).write(name, content)
        except OSError as error:
            raise Unreachable(f"{self._to} cannot be written: {error.strerror}") from error


def report(head: Mapping[str, Any], events: Sequence[Mapping[str, Any]], key: Ed25519PrivateKey) -> bytes:
    """The bytes of a report: its head, its events, and last the signature over what precedes it."""
    lines = b"".join(json.dumps(each, sort_keys=True).encode() + b"\n" for each in (head, *events))
    signed = {"key": key_id(key.public_key()), "signature": base64.b64encode(key.sign(lines)).decode()}
    return gzip.compress(lines + json.dumps(signed).encode() + b"\n", mtime=0)


def read_report(content: bytes, key: Ed25519PublicKey) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Head and events of a report that this key signed. Raises `ReportError`."""
    from cryptography.exceptions import InvalidSignature

    try:
        lines, _, last = gzip.decompress(content).rstrip(b"\n").rpartition(b"\n")
        key.verify(base64.b64decode(json.loads(last)["signature"]), lines + b"\n")
        head, *events = (json.loads(line) for line in lines.splitlines())
    except (InvalidSignature, OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ReportError(f"the report is not what its device signed ({error!r})") from error
    if head.get("format") != FORMAT:
        raise ReportError(f"the report is of format {head.get('format')}, {FORMAT} is read")
    return head, events


def key_id(key: Ed25519PublicKey) -> str:
    """How a device's key is named."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()
