"""Files of the spool are read in another process, of little memory, which is ended and replaced where a file ends it.

Anybody with a device writes there, and a few kilobytes of Parquet may say that they are gigabytes. Nothing that the
collector does with a file is done before another process has read it and found it of an ordinary size.
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
from multiprocessing.connection import Connection

import pyarrow as pa

from edge import limited_process
from visionops_assets.monitoring.spooled import LARGEST_BYTES, SpooledFile, UnusableFile, read_spooled

# Besides what Python and Arrow take themselves.
MEMORY_BYTES = 512 << 20
CPU_SECONDS = 10.0
# A machine that does much else is no reason to refuse a file.
WALL_SECONDS = 10 * CPU_SECONDS
_START_WITHIN = 120.0


class SpoolReader:
    """One such process, started when it is needed and kept for the next file. May be used by several threads."""

    def __init__(self) -> None:
        self._using = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def read(self, content: bytes, task: str) -> SpooledFile:
        """What `read_spooled` reads. Raises `UnusableFile`, also where reading took too much, and OSError."""
        if len(content) > LARGEST_BYTES:
            raise UnusableFile(
                f"has {len(content):,} bytes, at most {LARGEST_BYTES:,} are read; write smaller files"
            )
        with self._using:
            connection = self._started()
            done = False
            try:
                connection.send_bytes(task.encode())
                connection.send_bytes(content)
                if not connection.poll(WALL_SECONDS):
                    raise UnusableFile(f"took more than {WALL_SECONDS:g} s to read; leave it out")
                told = json.loads(connection.recv_bytes(1 << 16))
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
            raise UnusableFile(told["refused"])
        rows = pa.ipc.open_stream(pa.py_buffer(table)).read_all()
        rows.validate()
        return SpooledFile(told["kind"], rows)

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
            code = f"from visionops_assets.monitoring.spool_reader import main; main({theirs.fileno()})"
            self._process = limited_process.start(
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
    _limit()
    connection.send_bytes(b"R")
    with contextlib.suppress(EOFError, OSError):
        while True:
            task, content = connection.recv_bytes().decode(), connection.recv_bytes()
            told, table = _answer(content, task)
            connection.send_bytes(json.dumps(told).encode())
            connection.send_bytes(table)


def _answer(content: bytes, task: str) -> tuple[dict[str, str], bytes]:
    # Nobody handles SIGPROF: the kernel ends this process, whatever it does then.
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        found = read_spooled(content, task)
        written = io.BytesIO()
        with pa.ipc.new_stream(written, found.rows.schema) as stream:
            stream.write_table(found.rows)
        return {"kind": found.kind}, written.getvalue()
    except UnusableFile as error:
        return {"refused": str(error)}, b""
    except MemoryError:
        return {"refused": f"takes more than {MEMORY_BYTES >> 20} MiB to read; write fewer rows a file"}, b""
    except Exception as error:
        # Of whatever kind: it is this file's alone.
        return {"refused": f"cannot be read ({type(error).__name__}); write it again"}, b""
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit() -> None:
    import resource

    own = limited_process.memory_in_all(limited_process.pages()[1] + MEMORY_BYTES)
    with contextlib.suppress(OSError):
        limited_process.hold_to({**own, resource.RLIMIT_CORE: 0})
