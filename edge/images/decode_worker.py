"""The process that decodes what may do harm: `main` answers one image after the other on a socket until it closes.

It has little memory, the last turn for a processor and no environment of its parent's. Each image has its own deadline
of processor time, which the kernel keeps: whatever a decoder does then, the process is gone, and its parent says so.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edge.images import bounds
from edge.images.bounds import MEMORY, ImageLimits
from edge.images.decode import Target, decode_here, header_here, load_codecs
from edge.images.decode_pool import FRAME
from edge.images.header import UnreadableImage

READY = b"R"
_NICE = 10
# What a decoder has not given back by then it never will.
_KEPT = 96 << 20


def main(descriptor: int, memory: int) -> None:
    """Answer until the other end goes away; `memory` is what this process may take in all, in bytes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICE)
    connection = socket.socket(fileno=descriptor)
    _load_decoders()
    _limit(memory)
    at_rest = bounds.memory_pages()[0]
    connection.sendall(READY)
    while head := receive(connection, FRAME.size):
        words, length = FRAME.unpack(head)
        job = json.loads(receive(connection, words) or b"")
        data = receive(connection, length)
        if data is None:
            return
        told, pixels = _answer(job, data)
        del data
        told["leaves"] = bounds.memory_pages()[0] > at_rest + _KEPT
        said = json.dumps(told).encode()
        connection.sendall(FRAME.pack(len(said), len(pixels)) + said)
        connection.sendall(pixels)
        if told["leaves"]:
            return


def receive(connection: socket.socket, length: int) -> bytearray | None:
    """So many bytes; None where the other end went away before."""
    found = bytearray(length)
    view, place = memoryview(found), 0
    while place < length:
        came = connection.recv_into(view[place:])
        if not came:
            return None
        place += came
    return found


def _answer(job: dict[str, Any], data: bytearray) -> tuple[dict[str, Any], memoryview]:
    limits = ImageLimits(*job["limits"])
    nothing = memoryview(b"")
    try:
        with _deadline(limits.seconds):
            image = bytes(data)
            header = header_here(image, job["path"], limits)
            if job["channels"] is None:
                return {"header": header}, nothing
            target = Target(*job["target"]) if job["target"] else None
            pixels = decode_here(image, job["path"], header, target, job["channels"])
            return {"header": header}, pixels.reshape(-1).data
    except UnreadableImage as error:
        return {"refused": error.reason}, nothing
    except MemoryError:
        return {
            "refused": f"takes more memory than the {limits.worker_memory >> 20} MiB that a decoder may have; scale it "
            f"down, or raise {MEMORY}"
        }, nothing


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    # Nobody handles SIGPROF: it ends the process.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _load_decoders() -> None:
    """Import what decoding would import, while there is memory for it."""
    from PIL import Image

    Image.preinit()
    Image.init()
    # Our own limits come first, and are settings.
    Image.MAX_IMAGE_PIXELS = None
    load_codecs()


def _limit(memory: int) -> None:
    import resource

    own = bounds.limit_of_memory(memory)
    bounds.hold_process_to({**own, resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0})
