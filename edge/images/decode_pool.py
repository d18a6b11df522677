"""Workers that decode what may do harm, ended and replaced where it does: nobody but the sender of an image notices."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.images import bounds
from edge.images.bounds import ImageLimits, image_limits, image_workers
from edge.images.header import Header, UnreadableImage, look

# What is asked of a worker and what it says: the lengths of the words and of the bytes that follow them.
FRAME = struct.Struct(">IQ")
_START_WITHIN = 120.0
_MOST_SAID = 64 << 10


class _Gone(Exception):
    """A worker that ended, or was ended, over an image: why, in words."""


class Workers:
    """At most so many workers, started when they are needed. May be used by several threads."""

    def __init__(self, most: int, memory: int) -> None:
        self._most, self._memory = most, memory
        self._slots = threading.BoundedSemaphore(most)
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()

    def probe(self, data: bytes, path: str, limits: ImageLimits) -> Header:
        """The header of an image. Raises `UnreadableImage`."""
        return self._ask(data, path, None, None, limits)[0]

    def decode(
        self, data: bytes, path: str, target: tuple[int, int, str] | None, channels: int, limits: ImageLimits
    ) -> tuple[Header, NDArray[np.uint8]]:
        """Header and pixels of an image. Raises `UnreadableImage`."""
        return self._ask(data, path, target, channels, limits)

    def _ask(
        self,
        data: bytes,
        path: str,
        target: tuple[int, int, str] | None,
        channels: int | None,
        limits: ImageLimits,
    ) -> tuple[Header, NDArray[np.uint8]]:
        job = {"path": path, "target": target, "channels": channels, "limits": dataclasses.astuple(limits)}
        with self._slots:
            worker = self._take()
            try:
                told, pixels = worker.ask(job, data, limits)
            except _Gone as gone:
                raise UnreadableImage(path, str(gone)) from None
            finally:
                if worker.rests:
                    self._idle.append(worker)
                else:
                    # Also where this thread is interrupted: what the worker says next would be of this image.
                    self._end(worker)
        if "refused" in told:
            raise UnreadableImage(path, str(told["refused"]))
        return told["header"], pixels

    def _take(self) -> _Worker:
        while self._idle:
            try:
                worker = self._idle.pop()
            except IndexError:
                break
            if worker.alive:
                return worker
            self._end(worker)
        worker = _Worker(self._memory)
        self._all.add(worker)
        return worker

    def _end(self, worker: _Worker) -> None:
        self._all.discard(worker)
        worker.end()

    def end(self) -> None:
        """End all of them."""
        self._idle.clear()
        while self._all:
            self._all.pop().end()

    def forget(self) -> None:
        """In a forked child: the workers are its parent's."""
        for worker in self._all:
            worker.forget()
        self.__init__(self._most, self._memory)  # type: ignore[misc]


class _Worker:
    """One process. It `rests` between two images."""

    def __init__(self, memory: int) -> None:
        """Start it. Raises `OSError` where it cannot be."""
        self._connection, other = socket.socketpair()
        code = f"from edge.images.decode_worker import main; main({other.fileno()}, {memory})"
        with other:
            self._process = bounds.start_process(code, other.fileno(), {"OPENBLAS_NUM_THREADS": "1"})
        self.rests = False
        try:
            self._receive(1, time.monotonic() + _START_WITHIN)
        except _Gone:
            self.end()
            raise OSError(f"the image decoder could not be started ({self._ended()})") from None
        self.rests = True

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(
        self, job: dict[str, Any], data: bytes, limits: ImageLimits
    ) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """What it says of an image, and the pixels. Raises `_Gone`."""
        self.rests = False
        wall = limits.wall_seconds
        by = time.monotonic() + wall
        words = json.dumps(job).encode()
        try:
            self._connection.settimeout(wall)
            self._connection.sendall(FRAME.pack(len(words), len(data)) + words)
            self._connection.sendall(data)
            said, length = FRAME.unpack(self._receive(FRAME.size, by).tobytes())
            # It may have been taken over by an image: nothing of what it says is believed.
            if said > _MOST_SAID or length > limits.memory:
                raise ValueError
            told = json.loads(self._receive(said, by).tobytes())
            pixels = self._receive(length, by)
            if "refused" not in told:
                told["header"] = _header_of(told["header"])
                pixels = pixels.reshape(_shape(job, told["header"]))
        except TimeoutError:
            raise _Gone(
                f"took more than {wall:g} s to decode; scale it down, or raise {limits.seconds_setting}"
            ) from None
        except _Gone:
            raise _Gone(self._why(limits)) from None
        except OSError:
            raise _Gone(self._why(limits)) from None
        except (ValueError, TypeError, LookupError):
            raise _Gone("broke the process that decoded it; save it anew") from None
        self.rests = not told.get("leaves")
        return told, pixels

    def end(self) -> None:
        """End it, whatever it does."""
        self.rests = False
        self._process.kill()
        self._connection.close()
        self._process.wait()

    def forget(self) -> None:
        """Close this process's copy of the connection."""
        self._connection.close()
        self._process.returncode = 0

    def _receive(self, length: int, by: float) -> NDArray[np.uint8]:
        found = np.empty(length, np.uint8)
        view, place = found.data, 0
        while place < length:
            self._connection.settimeout(max(0.001, by - time.monotonic()))
            came = self._connection.recv_into(view[place:])
            if not came:
                raise _Gone
            place += came
        return found

    def _why(self, limits: ImageLimits) -> str:
        ended = self._ended()
        if ended == "SIGPROF":
            return (
                f"takes more than {limits.seconds:g} s of processor time to decode; scale it down, or "
                f"raise {limits.seconds_setting}"
            )
        return f"ended the process that decoded it ({ended}); save it anew"

    def _ended(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "it does not answer"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _header_of(told: list[Any]) -> Header:
    header = Header(*told)
    if list(map(type, header)) != [str, int, int, int, int, bool, int]:
        raise ValueError
    return header


def _shape(job: dict[str, Any], header: Header) -> tuple[int, int, int]:
    if job["channels"] is None:
        return 0, 0, 0
    height, width, *_ = job["target"] or (header.height, header.width)
    return height, width, job["channels"]


@functools.cache
def _workers(memory: int) -> Workers:
    found = Workers(image_workers(), memory)
    atexit.register(found.end)
    os.register_at_fork(after_in_child=found.forget)
    return found


def workers(limits: ImageLimits) -> Workers:
    """The workers of this process that have as much memory as these limits say."""
    return _workers(limits.worker_memory)


def probe(data: bytes, path: str, limits: ImageLimits | None = None) -> Header:
    """Read format, upright size, orientation and number of frames without decoding a pixel.

    The format is told by the bytes, never by the file name. Raises `UnreadableImage` when the bytes are
    no image or ask for more than `limits` (by default the process's): a few bytes can ask for gigabytes of memory.
    """
    limits = limits or image_limits()
    header = look(data, path, limits)
    if header is not None:
        return header
    return workers(limits).probe(data, path, limits)
