"""The format of what comes up from a device: one file of gzipped JSON lines, the last of them a signature.

```
{"format": "device_report/1", "project", "device", "group", "sequence", "at", …}    what the device is now
{"id", "at", "event", …}                        what happened to it, each once
{"block": …}                                    what a model answered in a block of time, in numbers
{"format": "inference_log/1", "task"}           another section; each line behind it is of that format
{"timestamp", "model_sha256", …}
{"key", "signature"}                            Ed25519 by the device, over all lines before
```

Nothing of a file is believed, and little of it unpacked, before its signature is found to be right.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge import EdgeError

FORMAT, LOG_FORMAT = "device_report/1", "inference_log/1"
SUFFIX = ".jsonl.gz"
# What a report may be: as a file, unpacked (also by how often its own size), in lines, and in each.
LARGEST_BYTES, LARGEST_TEXT, MOST_TIMES, FREE_TEXT = 16 << 20, 64 << 20, 64, 256 << 10
MOST_LINES, LONGEST_LINE = 20_000, 8 << 20
_DIGITS = 16
# Also as agents called them who gave no digest.
_NAME = re.compile(rf"([0-9]{{12}})(?:-[0-9a-f]{{{_DIGITS}}})?{re.escape(SUFFIX)}")


class ReportError(EdgeError, ValueError):
    """A report is not what the device signed, or larger than one may be."""


class UnsignedReport(ReportError):
    """No key that is believed signed a report: whoever left it."""


@dataclass(frozen=True)
class Report:
    """One report, as its device signed it: its head, what follows that, the sections of other formats by name, and by
    which key, named by `key_id`."""

    head: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    sections: Mapping[str, tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]]
    key: str = ""

    @property
    def events(self) -> list[Mapping[str, Any]]:
        """What happened to the device."""
        return [each for each in self.lines if "event" in each]

    @property
    def blocks(self) -> list[Mapping[str, Any]]:
        """What was answered, in numbers."""
        return [each["block"] for each in self.lines if "block" in each]


def name_of(sequence: int) -> str:
    """How a device's report is called, by its own count: in the order of names they follow each other."""
    return f"{sequence:012d}{SUFFIX}"


def brought_name(name: str, content: bytes) -> str:
    """How a report is called where it is collected: another of the same number, of a device with the same key, takes
    nothing's place there."""
    return f"{name.removesuffix(SUFFIX)}-{hashlib.sha256(content).hexdigest()[:_DIGITS]}{SUFFIX}"


def sequence_of(name: str) -> int:
    """A device's count of a report, from the name of its file. Raises ValueError."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name} is no name of a report, such as {name_of(17)}")
    return int(found[1])


def signed_report(lines: Iterable[bytes], key: Ed25519PrivateKey) -> bytes:
    """The bytes of a report of these lines, JSON without their ends. The same again for the same lines."""
    signed = b"".join(line + b"\n" for line in lines)
    last = {"key": key_id(key.public_key()), "signature": base64.b64encode(key.sign(signed)).decode()}
    return gzip.compress(signed + json.dumps(last).encode() + b"\n", mtime=0)


def read_report(content: bytes, *keys: Ed25519PublicKey) -> Report:
    """A report that one of these keys signed. Raises `UnsignedReport`, and `ReportError` for one that was signed so."""
    signed, key = signed_lines(content, *keys)
    found = [_parsed(line) for line in signed]
    if not found or found[0].get("format") != FORMAT:
        stated = found[0].get("format") if found else None
        raise ReportError(f"begins with the format {stated!r}, {FORMAT} is read; update the product")
    lines: list[Mapping[str, Any]] = []
    sections: dict[str, tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]] = {}
    into = lines
    for each in found[1:]:
        if "format" in each:
            name, into = str(each["format"]), []
            if name in sections:
                raise ReportError(f"has two sections {name}")
            sections[name] = each, into
        else:
            into.append(each)
    return Report(found[0], lines, sections, key)


def signed_lines(content: bytes, *keys: Ed25519PublicKey) -> tuple[list[bytes], str]:
    """The lines of a file that one of these keys signed, without the signature, and which did. Raises
    `UnsignedReport`."""
    text = _unpacked(content)
    signed, _, last = text.removesuffix(b"\n").rpartition(b"\n")
    signed += b"\n"
    try:
        said = _parsed(last)
        signature = base64.b64decode(str(said["signature"]), validate=True)
    except (ReportError, KeyError, ValueError) as error:
        raise UnsignedReport("ends with no signature") from error
    stated = str(said.get("key", ""))
    known = {key_id(key): key for key in keys}
    # One attempt, whoever is named: each reads all of it.
    name = stated if stated in known else next(iter(known))
    try:
        known[name].verify(signature, signed)
    except InvalidSignature as error:
        if stated != name:
            raise UnsignedReport(f"is signed by another key ({stated[:12]})") from error
        raise UnsignedReport("was altered after its device signed it") from error
    return signed[:-1].split(b"\n"), name


def key_id(key: Ed25519PublicKey) -> str:
    """How a device's key is named."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def _unpacked(content: bytes) -> bytes:
    """The text of a file, no more of it than a report may have."""
    if len(content) > LARGEST_BYTES:
        raise UnsignedReport(f"has {len(content):,} bytes, at most {LARGEST_BYTES:,} are read")
    allowed = min(LARGEST_TEXT, FREE_TEXT + MOST_TIMES * len(content))
    unpacking = zlib.decompressobj(wbits=31)
    try:
        text = unpacking.decompress(content, allowed + 1)
    except zlib.error as error:
        raise UnsignedReport("is no gzip file") from error
    if len(text) > allowed:
        raise UnsignedReport(f"has {len(content):,} bytes and takes more than {allowed:,} unpacked")
    if not unpacking.eof or unpacking.unused_data:
        raise UnsignedReport("is cut off, or goes on after its end")
    lines = text.count(b"\n")
    if lines > MOST_LINES:
        raise UnsignedReport(f"has {lines:,} lines, at most {MOST_LINES:,} are read")
    # Short files have no long line.
    if len(text) > LONGEST_LINE and max(map(len, text.split(b"\n"))) > LONGEST_LINE:
        raise UnsignedReport(f"has a line of more than {LONGEST_LINE:,} bytes")
    return text


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode())
        if b"\\u" in line:
            # Half of a pair is a text to JSON, and to nobody who is to write it down.
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise ReportError("has a line that is no Unicode text") from error
    except (ValueError, RecursionError) as error:
        raise ReportError("has a line that is no JSON") from error
    if not isinstance(found, dict):
        raise ReportError("has a line that is no JSON object")
    return found
