"""Parquet of strangers is read by another process, which has the file's handle, little memory and no secrets.

A few kilobytes of Parquet may say that they are gigabytes, in many ways: rows, pages, dictionaries. What comes to this
process is plain, has been counted, and is a bounded number of rows at a time; a file that ends the other process is
refused.
"""

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from edge.images import bounds as limited_process
from resources.error_family import Invalid

_SECONDS, _SECONDS_A_BYTE = 10.0, 1 / (10 << 20)
# A machine that does much else is no reason to refuse a file.
_WALL_TIMES_CPU = 10
_START_WITHIN = 120.0
_MOST_ROWS, _BATCH_BYTES = 1024, 8 << 20
# Python and Arrow themselves.
_AT_REST = 128 << 20
_LARGEST_FOOTER, _MOST_PARTS = 64 << 20, 1_000_000
# What Arrow has not given back by then it never will.
_KEPT = 96 << 20
_READY, _DESCRIBED, _ROWS, _ENDED = b"+", b"D", b"B", b"E"


class TableRefused(Invalid):
    """A table that is not read; the message says why, and `setting` what allows it."""

    def __init__(self, why: str, setting: str = "") -> None:
        super().__init__(why)
        self.setting = setting


@dataclass(frozen=True)
class Bounds:
    """What a table may be: `rows`, `size` in bytes once it is plain, `memory` in bytes of the process that reads it."""

    rows: int
    size: int
    memory: int


def read_parquet(file: int, bounds: Bounds, *, schema_only: bool = False) -> Generator[Any, None, None]:
    """First the schema of a table of which `file` is the handle, then its rows, some at a time, as record batches.

    Raises `TableRefused` for what is no Parquet or takes too much, and OSError where no process can be started.
    """
    size = os.fstat(file).st_size
    reader = _ready()
    try:
        yield from reader.read(file, size, bounds, schema_only)
    finally:
        # Also where nobody wants the rest: what comes next would be of this file.
        if reader.rests and not _idle:
            _idle.append(reader)
        else:
            reader.end()


class _Reader:
    """One process. It `rests` between two tables."""

    def __init__(self) -> None:
        self.rests = False
        self._socket, theirs = socket.socketpair()
        with theirs:
            code = f"from {__name__} import main; main({theirs.fileno()})"
            own = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
            self._process: subprocess.Popen[bytes] = limited_process.start_process(code, theirs.fileno(), own)
        self._connection = Connection(os.dup(self._socket.fileno()))
        with contextlib.suppress(EOFError, OSError):
            if self._connection.poll(_START_WITHIN) and self._connection.recv_bytes(1) == _READY:
                return
        self.end()
        raise OSError("the process that reads Parquet could not be started")

    def read(self, file: int, size: int, bounds: Bounds, schema_only: bool) -> Iterator[Any]:
        seconds = _SECONDS + size * _SECONDS_A_BYTE
        memory = bounds.memory + 4 * size
        job = {**vars(bounds), "memory": memory, "seconds": seconds, "of": size, "schema_only": schema_only}
        self.rests = False
        try:
            socket.send_fds(self._socket, [json.dumps(job).encode()], [file])
            while True:
                if not self._connection.poll(_WALL_TIMES_CPU * seconds):
                    raise TableRefused(f"took more than {_WALL_TIMES_CPU * seconds:.0f} s to read")
                kind, told = self._connection.recv_bytes(1), self._connection.recv_bytes(memory)
                if kind == _ENDED:
                    last = json.loads(told)
                    self.rests = not last["leaves"]
                    if last["refused"] is None:
                        return
                    raise TableRefused(*last["refused"])
                stream = pa.ipc.open_stream(pa.py_buffer(told))
                if kind == _DESCRIBED:
                    yield stream.schema
                else:
                    for batch in stream:
                        batch.validate()
                        yield batch
        except (OSError, EOFError, LookupError, TypeError, json.JSONDecodeError, pa.ArrowInvalid) as error:
            raise TableRefused(
                "takes more memory or processor time than its size lets believe "
                f"({memory >> 20} MiB, {seconds:.0f} s)",
                "memory",
            ) from error

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._connection.close()
        self._socket.close()
        self._process.kill()
        self._process.wait()


_idle: list[_Reader] = []


def _ready() -> _Reader:
    while _idle:
        reader = _idle.pop()
        if reader.alive:
            return reader
        # Ended by somebody else meanwhile, as where memory is short: no file's fault.
        reader.end()
    return _Reader()


def _end_idle() -> None:
    while _idle:
        _idle.pop().end()


atexit.register(_end_idle)
# In a forked child they are its parent's.
os.register_at_fork(after_in_child=_idle.clear)


def main(descriptor: int) -> None:
    """In the process itself: read one file after the other until the other end goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ours = socket.socket(fileno=descriptor)
    connection = Connection(os.dup(descriptor))
    at_rest = limited_process.memory_pages()[0]
    connection.send_bytes(_READY)
    with contextlib.suppress(EOFError, OSError):
        while True:
            told, files, *_ = socket.recv_fds(ours, 4096, 1)
            if not told:
                return
            refused = None
            try:
                for kind, content in _answers(json.loads(told), files[0]):
                    connection.send_bytes(kind)
                    connection.send_bytes(content)
            except TableRefused as error:
                refused = str(error), error.setting
            leaves = limited_process.memory_pages()[0] > at_rest + _KEPT
            connection.send_bytes(_ENDED)
            connection.send_bytes(json.dumps({"refused": refused, "leaves": leaves}).encode())
            if leaves:
                return


def _answers(job: dict[str, Any], file: int) -> Iterator[tuple[bytes, Any]]:
    _limit(job["memory"])
    # Nobody handles SIGPROF: the kernel ends this process, whatever it does then.
    signal.setitimer(signal.ITIMER_PROF, job["seconds"])
    try:
        with os.fdopen(file, "rb") as stream:
            yield from _read(stream, job)
    except TableRefused:
        raise
    except MemoryError:
        raise TableRefused(f"takes more than {job['memory'] >> 20} MiB to read", "memory") from None
    except Exception:
        # Of whatever kind: it is this file's alone.
        raise TableRefused("is not a Parquet file that can be read; is it complete?") from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _read(stream: Any, job: dict[str, Any]) -> Iterator[tuple[bytes, Any]]:
    limits = {"thrift_string_size_limit": _LARGEST_FOOTER, "thrift_container_size_limit": _MOST_PARTS}
    # Whole columns are not held: pages come as they are needed.
    options = {"buffer_size": 1 << 20, "pre_buffer": False, **limits}
    with pq.ParquetFile(stream, **options) as described:
        schema, footer = described.schema_arrow, described.metadata
    rows = footer.num_rows
    _check(rows, job["rows"], "rows", job)
    claimed = sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups))
    at_once = max(1, min(_MOST_ROWS, _BATCH_BYTES * max(1, rows) // max(1, claimed)))
    yield _DESCRIBED, _stream(schema.empty_table().to_batches() or [], schema)
    if job["schema_only"]:
        return
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    seen = taken = 0
    stream.seek(0)
    with pq.ParquetFile(stream, metadata=footer, read_dictionary=texts, **options) as file:
        # Threads cost more than they read.
        for batch in file.iter_batches(at_once, use_threads=False):
            seen += len(batch)
            _check(seen, job["rows"], "rows", job)
            taken += sum(map(_plain_size, batch.columns))
            _check(taken, job["size"], "bytes once it is plain", job)
            columns = [
                column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
                for column in batch.columns
            ]
            plain = pa.record_batch(
                columns,
                pa.schema(
                    [
                        field.with_type(column.type)
                        for field, column in zip(batch.schema, columns, strict=True)
                    ]
                ),
            )
            yield _ROWS, _stream([plain], plain.schema)


def _plain_size(column: Any) -> int:
    """The bytes of a column once every value is written out."""
    if not pa.types.is_dictionary(column.type):
        return int(column.get_total_buffer_size() if column.offset == 0 else column.nbytes)
    lengths = pc.binary_length(column.dictionary)
    return int(pc.sum(lengths.take(column.indices)).as_py() or 0)


def _check(found: int, most: int, what: str, job: dict[str, Any]) -> None:
    if found > most:
        raise TableRefused(
            f"has more than {most:,} {what}, which is not believed of {job['of']:,} bytes", "times"
        )


def _stream(batches: Sequence[Any], schema: Any) -> Any:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def _limit(memory: int) -> None:
    import resource

    own = limited_process.limit_of_memory(_AT_REST + memory)
    with contextlib.suppress(OSError, ValueError):
        limited_process.hold_process_to(own, for_good=False)
        limited_process.hold_process_to({resource.RLIMIT_CORE: 0})
