"""Files of the spool: written by whoever predicts or labels, read by the collector, which trusts none of them.

They are read in another process, of little memory, which is ended and replaced where a file ends it.
"""

import atexit
import contextlib
import functools
import io
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from edge.images import bounds
from resources.error_family import Invalid
from resources.storage import LARGEST_SPOOLED
from visionops_assets.common.tables import arrow_parquet
from visionops_assets.monitoring.device_reports import SignedFile, UnsignedReport, UnusableReport, read_signed
from visionops_assets.monitoring.inference_log import (
    FORMAT,
    FORMAT_KEY,
    LABELS_FORMAT,
    TASK_KEY,
    labels_schema,
    spool_schema,
)

# What a file may be, and what its rows may take: of its own size a multiple, since text that is repeated is written
# once. A thousand files are collected at once.
LARGEST_BYTES = LARGEST_SPOOLED
MOST_ROWS = 1_000_000
LONGEST_DEVICE, LONGEST_TEXT = 256, 1024
_FREE_BYTES, _MOST_TIMES = 256 << 10, 64
_MOST_TEXT_BYTES = 256 << 20
_LARGEST_FOOTER, _MOST_PARTS = 16 << 20, 1_000_000
# What the reading process says of a file beside its rows.
_LARGEST_ANSWER = 32 << 20

SpoolKind = Literal["log", "labels"]
_KINDS: dict[str, SpoolKind] = {FORMAT: "log", LABELS_FORMAT: "labels"}
# Besides what Python and Arrow take themselves.
MEMORY_BYTES = 512 << 20
CPU_SECONDS = 10.0
# A machine that does much else is no reason to refuse a file.
WALL_SECONDS = 10 * CPU_SECONDS
_START_WITHIN = 120.0


class UnusableFile(Invalid):
    """A spooled file that cannot be read as what it should be; the message says what was expected."""


class SignedButUnusable(UnusableFile):
    """The same of one that a device's key signed."""


@dataclass(frozen=True)
class SpooledFile:
    """One file of the spool as a table with exactly the columns of its kind; any value may still be null or absurd."""

    kind: SpoolKind
    rows: pa.Table


def spooled_log(task: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Predictions as the bytes of a spooled file. Raises ValueError where a row lacks a value that must be there."""
    return _spooled_file(rows, spool_schema(task), FORMAT, task)


def spooled_labels(task: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Labels as the bytes of a spooled file. Raises ValueError where a row lacks a value."""
    return _spooled_file(rows, labels_schema(task), LABELS_FORMAT, task)


def read_spooled(content: bytes, task: str) -> SpooledFile:
    """Read one file. Raises `UnusableFile` for anything but a table of this task in a format that is known here, of an
    ordinary size; MemoryError where there is not enough to find out: `spool_reader` reads what devices send.
    """
    try:
        limits = {"thrift_string_size_limit": _LARGEST_FOOTER, "thrift_container_size_limit": _MOST_PARTS}
        with pq.ParquetFile(pa.BufferReader(content), **limits) as file:
            kind, schema = _described(file, task)
            footer = file.metadata
        texts = [field.name for field in schema if field.type == pa.string()]
        # Each different text once.
        with pq.ParquetFile(
            pa.BufferReader(content), metadata=footer, read_dictionary=texts, **limits
        ) as file:
            # A device leaves a few rows a file: threads cost more than they read.
            found = file.read(use_threads=False)
    except (UnusableFile, MemoryError):
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnusableFile(f"is no Parquet file ({_first_line(error)}); write it again") from error
    _check_lengths(found)
    rows = with_types(found, schema)
    allowed = _FREE_BYTES + _MOST_TIMES * len(content)
    if (taken := rows.nbytes) > allowed:
        raise UnusableFile(
            f"has {len(content):,} bytes and takes {taken:,}, at most {allowed:,} are believed"
        )
    return SpooledFile(kind, rows)


def _described(file: pq.ParquetFile, task: str) -> tuple[SpoolKind, pa.Schema]:
    """What a file says that it holds, before any of it is read."""
    described = file.schema_arrow.metadata or {}
    stated = described.get(FORMAT_KEY, b"").decode(errors="replace")
    if stated not in _KINDS:
        known = " or ".join(_KINDS)
        raise UnusableFile(f"has the format {stated or 'none'!r}, {known} is read here; update the writer")
    if (written_for := described.get(TASK_KEY, b"").decode(errors="replace")) != task:
        raise UnusableFile(f"is of the task {written_for or 'none'!r}, the project's is {task!r}")
    kind = _KINDS[stated]
    schema = spool_schema(task) if kind == "log" else labels_schema(task)
    _check_columns(file.schema_arrow.names, schema.names)
    if file.metadata.num_rows > MOST_ROWS:
        raise UnusableFile(
            f"has {file.metadata.num_rows:,} rows, at most {MOST_ROWS:,} are read; write smaller files"
        )
    return kind, schema


def _check_lengths(table: pa.Table) -> None:
    """Refuse long texts while each different one is held once: of repeated ones a file may have a million."""
    for name in table.column_names:
        longest = LONGEST_DEVICE if name in ("device", "device_group") else LONGEST_TEXT
        found, rows = 0, table[name]
        for part in rows.chunks:
            texts = part.dictionary if pa.types.is_dictionary(part.type) else part
            if pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type):
                found = max(found, pc.max(pc.binary_length(texts)).as_py() or 0)
        if found > longest:
            raise UnusableFile(f"has a text of {found:,} bytes in `{name}`, at most {longest} are read")
        if found * len(rows) > _MOST_TEXT_BYTES:
            raise UnusableFile(
                f"has {len(rows):,} texts of up to {found} bytes in `{name}`; write fewer rows a file"
            )


def with_types(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The schema's columns in its types, nulls allowed: which rows lack a value is said row by row.

    Raises `UnusableFile` where a column is of another type.
    """
    lenient = pa.schema([field.with_nullable(True) for field in schema])
    columns = []
    for field in lenient:
        column = table[field.name]
        try:
            columns.append(column if column.type == field.type else column.cast(field.type))
        except (pa.ArrowException, ValueError) as error:
            raise UnusableFile(
                f"has {column.type} in `{field.name}`, {field.type} is expected ({_first_line(error)})"
            ) from error
    return pa.table(columns, schema=lenient)


def _check_columns(found: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    twice = sorted({name for name in found if found.count(name) > 1})
    faults = [
        f"{what} {', '.join(names)}"
        for what, names in (("lacks", missing), ("has beside its columns", extra), ("has twice", twice))
        if names
    ]
    if faults:
        raise UnusableFile(f"{' and '.join(faults)}; write the columns of the format that it states")


def _spooled_file(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, name: str, task: str) -> bytes:
    for row in rows:
        absent = [field.name for field in schema if not field.nullable and row.get(field.name) is None]
        if absent:
            raise ValueError(f"a row of the spool lacks {', '.join(absent)}: {dict(row)}")
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    return arrow_parquet(table.replace_schema_metadata({FORMAT_KEY: name.encode(), TASK_KEY: task.encode()}))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


class SpoolReader:
    """One such process, started when it is needed and kept for the next file. May be used by several threads."""

    def __init__(self) -> None:
        self._using = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def read(self, content: bytes, task: str) -> SpooledFile:
        """What `read_spooled` reads. Raises `UnusableFile`, also where reading took too much, and OSError."""
        told, rows = self._asked({"task": task}, content)
        if rows is None:
            raise UnusableFile("was read as no table; write it again")
        return SpooledFile(told["kind"], rows)

    def read_signed(self, content: bytes, task: str, public_keys: Sequence[str]) -> SignedFile:
        """A device's file by its keys (PEM). Raises `UnusableReport`, `UnsignedReport` where none of them signed it or
        reading took too much, and OSError."""
        try:
            told, rows = self._asked({"task": task, "keys": list(public_keys)}, content)
        except SignedButUnusable as error:
            raise UnusableReport(str(error)) from error
        except UnusableFile as error:
            raise UnsignedReport(str(error)) from error
        return SignedFile(told["head"], told["lines"], rows, int(told["foreign"]), told["key_id"])

    def _asked(self, asked: Mapping[str, Any], content: bytes) -> tuple[dict[str, Any], pa.Table | None]:
        if len(content) > LARGEST_BYTES:
            raise UnusableFile(
                f"has {len(content):,} bytes, at most {LARGEST_BYTES:,} are read; write smaller files"
            )
        with self._using:
            connection = self._started()
            done = False
            try:
                connection.send_bytes(json.dumps(asked).encode())
                connection.send_bytes(content)
                if not connection.poll(WALL_SECONDS):
                    raise UnusableFile(f"took more than {WALL_SECONDS:g} s to read; leave it out")
                told = json.loads(connection.recv_bytes(_LARGEST_ANSWER))
                table = connection.recv_bytes(MEMORY_BYTES)
                done = True
            except (OSError, EOFError, ValueError) as error:
                raise UnusableFile(
                    "ended the process that read it: it takes more memory or processor time than a file may have "
                    f"({MEMORY_BYTES >> 20} MiB, {CPU_SECONDS:g} s)"
                ) from error
            finally:
                # Also where this thread is interrupted: what comes next would be of this file.
                if not done:
                    self._end()
        if "refused" in told:
            raise (SignedButUnusable if told.get("signed") else UnusableFile)(told["refused"])
        if not table:
            return told, None
        rows = pa.ipc.open_stream(pa.py_buffer(table)).read_all()
        rows.validate()
        return told, rows

    def end(self) -> None:
        """End the process."""
        with self._using:
            self._end()

    def forget(self) -> None:
        """In a forked child: the process is its parent's."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.returncode = 0
        self.__init__()  # type: ignore[misc]

    def _started(self) -> Connection:
        if self._connection is not None and self._process is not None and self._process.poll() is None:
            return self._connection
        self._end()
        ours, theirs = socket.socketpair()
        with theirs:
            code = f"from visionops_assets.monitoring.spool_files import main; main({theirs.fileno()})"
            self._process = bounds.start_process(
                code, theirs.fileno(), {"ARROW_DEFAULT_MEMORY_POOL": "system"}
            )
        self._connection = Connection(ours.detach())
        with contextlib.suppress(EOFError):
            if self._connection.poll(_START_WITHIN) and self._connection.recv_bytes(1) == b"R":
                return self._connection
        self._end()
        raise OSError("the process that reads the spool could not be started")

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._connection = self._process = None


@functools.cache
def spool_reader() -> SpoolReader:
    """The one of this process."""
    found = SpoolReader()
    atexit.register(found.end)
    os.register_at_fork(after_in_child=found.forget)
    return found


def main(descriptor: int) -> None:
    """In the process itself: read one file after the other until the other end goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    _limit_reader()
    connection.send_bytes(b"R")
    with contextlib.suppress(EOFError, OSError):
        while True:
            asked, content = json.loads(connection.recv_bytes()), connection.recv_bytes()
            told, table = _answer_of_reader(content, asked)
            connection.send_bytes(json.dumps(told).encode())
            connection.send_bytes(table)


def _answer_of_reader(content: bytes, asked: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    # Nobody handles SIGPROF: the kernel ends this process, whatever it does then.
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        if "keys" in asked:
            return _answer_of_signed(content, asked)
        found = read_spooled(content, asked["task"])
        return {"kind": found.kind}, _streamed(found.rows)
    except UnusableReport as error:
        return {"refused": str(error), "signed": not isinstance(error, UnsignedReport)}, b""
    except UnusableFile as error:
        return {"refused": str(error)}, b""
    except MemoryError:
        return {"refused": f"takes more than {MEMORY_BYTES >> 20} MiB to read; write fewer rows a file"}, b""
    except Exception as error:
        # Of whatever kind: it is this file's alone.
        return {"refused": f"cannot be read ({type(error).__name__}); write it again"}, b""
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answer_of_signed(content: bytes, asked: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    found = read_signed(content, asked["task"], asked["keys"])
    try:
        if found.log is not None:
            _check_lengths(found.log)
    except UnusableFile as error:
        raise UnusableReport(str(error)) from error
    told = {"head": found.head, "lines": found.lines, "foreign": found.foreign, "key_id": found.key_id}
    return told, _streamed(found.log)


def _streamed(rows: pa.Table | None) -> bytes:
    if rows is None:
        return b""
    written = io.BytesIO()
    with pa.ipc.new_stream(written, rows.schema) as stream:
        stream.write_table(rows)
    return written.getvalue()


def _limit_reader() -> None:
    import resource

    own = bounds.limit_of_memory(bounds.memory_pages()[1] + MEMORY_BYTES)
    with contextlib.suppress(OSError):
        bounds.hold_process_to({**own, resource.RLIMIT_CORE: 0})
