"""What devices report, as tables: read from their signed files, committed by day of collection.

In the repository of production:
```
reports/dt=<day>/<p>.<id>.parquet            one row a report's head, event and part of a block
report_findings/dt=<day>/<p>.<id>.parquet    which reports did not count, and why
```

Beside `inference_log/1`, sections of other formats come with a reader in `_SECTIONS`.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from edge import reports
from edge.formats import GROUP_NAME
from edge.reports import LOG_FORMAT, Report, ReportError, read_report
from resources.error_family import Invalid
from visionops_assets.monitoring.inference_log import spool_schema

REPORTS, REPORT_FINDINGS = "reports/", "report_findings/"
# Of one line, as the table keeps it.
LONGEST_CONTENT, LONGEST_NAME = 64 << 10, 200
_OF_HEAD = ("device", "device_group")


class UnusableReport(Invalid):
    """A device's file cannot be read as a report; the message says what is wrong with it."""


class UnsignedReport(UnusableReport):
    """None of the device's keys signed a file: whoever left it."""


@dataclass(frozen=True)
class SignedFile:
    """A report by its device's key. `head` names project, device, group, sequence and time; `lines` are rows of
    `report_schema` as values; `log` is a table with the columns of the spool, or None; `foreign` rows of it named
    another device and are left out; `key_id` names the key that signed it."""

    head: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    log: pa.Table | None
    foreign: int = 0
    key_id: str = ""


@cache
def report_schema() -> pa.Schema:
    """The columns of committed reports. `kind` is status, event or block; `number` counts within a report; `content`
    is the line as JSON."""
    return pa.schema(
        [
            pa.field("device", pa.string(), nullable=False),
            pa.field("device_group", pa.string(), nullable=False),
            pa.field("sequence", pa.int64(), nullable=False),
            pa.field("number", pa.int64(), nullable=False),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("at", pa.timestamp("us", "UTC"), nullable=False),
            pa.field("received", pa.timestamp("us", "UTC"), nullable=False),
            pa.field("event", pa.string()),
            pa.field("content", pa.string(), nullable=False),
        ]
    )


def read_signed(content: bytes, task: str, public_keys: Sequence[str]) -> SignedFile:
    """Read a device's file by its keys (PEM). Raises `UnusableReport`, and `UnsignedReport` where none of them did."""
    keys = [key for key in map(_public_key, public_keys) if isinstance(key, Ed25519PublicKey)]
    try:
        report = read_report(content, *keys)
        head = _head(report.head)
        log, foreign = None, 0
        for name, (_, rows) in report.sections.items():
            if name not in _SECTIONS:
                raise UnusableReport(f"has a section {name[:LONGEST_NAME]!r}; update the product")
            log, foreign = _SECTIONS[name](rows, head, task)
        return SignedFile(head, _lines(report, head), log, foreign, report.key)
    except reports.UnsignedReport as error:
        raise UnsignedReport(str(error)) from error
    except ReportError as error:
        raise UnusableReport(str(error)) from error


def _public_key(text: str) -> object:
    return load_pem_public_key(text.encode())


def _head(head: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = {name: str(head[name])[:LONGEST_NAME] for name in ("project", "device", "group")}
        if not GROUP_NAME.fullmatch(found["group"]):
            raise ValueError("no name of a group")
        sequence = int(head["sequence"])
        if not 0 <= sequence < 10**12:
            raise ValueError("no number of a report")
        return {**found, "sequence": sequence, "at": _time(head["at"]).isoformat()}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UnusableReport(f"does not say what it is of ({error!r})") from error


def _lines(report: Report, head: Mapping[str, Any]) -> list[dict[str, Any]]:
    told = [
        ("status", report.head),
        *(("event" if "event" in each else "block", each) for each in report.lines),
    ]
    found = []
    for number, (kind, line) in enumerate(told):
        told_of = line.get("block", line) if kind == "block" else line
        if not isinstance(told_of, dict):
            raise UnusableReport("has a block that is no JSON object")
        content = json.dumps(told_of, separators=(",", ":"))
        if len(content) > LONGEST_CONTENT:
            raise UnusableReport(f"has a line of {len(content):,} bytes about itself")
        event = str(line["event"])[:LONGEST_NAME] if kind == "event" else None
        found.append({"number": number, "kind": kind, "event": event, "content": content})
    return found


def _log(
    rows: Sequence[Mapping[str, Any]], head: Mapping[str, Any], task: str
) -> tuple[pa.Table | None, int]:
    """Rows of the inference log; a device speaks for itself alone."""
    schema = spool_schema(task)
    own = [row for row in rows if row.get("device", head["device"]) == head["device"]]
    foreign = len(rows) - len(own)
    extra = sorted({name for row in own for name in row} - set(schema.names))
    if extra:
        raise UnusableReport(f"has beside the columns of the log {', '.join(extra[:5])}"[:LONGEST_NAME])
    if not own:
        return None, foreign
    said = {"device": head["device"], "device_group": head["group"]}
    try:
        filled = [
            {
                **said,
                **row,
                "timestamp": _time(row["timestamp"]),
                "frame": base64.b64decode(row["frame"], validate=True) if row.get("frame") else None,
            }
            for row in own
        ]
        lenient = pa.schema([field.with_nullable(True) for field in schema])
        return pa.Table.from_pylist(filled, schema=lenient), foreign
    except (pa.ArrowException, binascii.Error, KeyError, TypeError, ValueError, OverflowError) as error:
        said_of_it = str(error).splitlines()[0][:LONGEST_NAME] if str(error) else type(error).__name__
        raise UnusableReport(f"has a row that is none of the log ({said_of_it})") from error


def _time(text: Any) -> datetime:
    found = datetime.fromisoformat(str(text))
    if found.tzinfo is None:
        raise ValueError("a time has a zone")
    return found


_SECTIONS: Mapping[
    str,
    Callable[[Sequence[Mapping[str, Any]], Mapping[str, Any], str], tuple[pa.Table | None, int]],
] = {LOG_FORMAT: _log}
