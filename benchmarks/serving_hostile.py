"""`serve` with 64 good clients, with and without one that means harm, in turn, on one server.

    python benchmarks/serving_hostile.py [--seconds 5] [--rounds 3]

The bad client sends at once images that decoders choke on or take long for, bodies a byte at a time, and headers that
never end. Budget: no good request fails, p99 at most twice what it is without, memory at most what it is before any of
that and what the workers may have.
"""

import argparse
import asyncio
import contextlib
import io
import multiprocessing
import os
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import psutil
from PIL import Image
from serving import CLASSES, CLIENTS, ask, jpeg, models, request_of

BUDGET = 2.0


def hostile_images() -> list[bytes]:
    """Poison, a bomb, what takes long, and what takes much memory."""
    poison = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHI4s", 256, 2, 2, b"8\0\0\0") + b"\0" * 4
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    slow, large = io.BytesIO(), io.BytesIO()
    Image.fromarray(noise).resize((5000, 5000)).save(slow, "WEBP", quality=20, method=0)
    Image.new("RGBA", (8000, 8000)).save(large, "WEBP", lossless=True, quality=0, method=0)
    gif = b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + b"\0" * 20
    return [poison, slow.getvalue(), large.getvalue(), gif]


async def good(port: int, images: Sequence[bytes], until: float, taken: list[float]) -> int:
    """Ask again and again; how often it failed."""
    failed = number = 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        started = time.perf_counter()
        try:
            await ask(reader, writer, request_of(images[number % len(images)]))
            taken.append(time.perf_counter() - started)
        except (RuntimeError, OSError, asyncio.IncompleteReadError):
            failed += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        number += 1
    writer.close()
    return failed


async def harm(port: int, until: float, send: Callable[[Any, Any], Awaitable[None]]) -> None:
    """Connect and send so, again and again."""
    while time.perf_counter() < until:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                async with asyncio.timeout(max(0.1, until - time.perf_counter())):
                    await send(reader, writer)
            finally:
                writer.close()


def all_harm(images: Sequence[bytes]) -> list[Callable[[Any, Any], Awaitable[None]]]:
    """What one bad client does at once, on connections of its own."""

    def image(data: bytes) -> Callable[[Any, Any], Awaitable[None]]:
        async def send(reader: Any, writer: Any) -> None:
            writer.write(request_of(data))
            await reader.readuntil(b"\r\n\r\n")

        return send

    async def slow_body(reader: Any, writer: Any) -> None:
        writer.write(b"POST /predict HTTP/1.1\r\nhost: here\r\ncontent-length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.2)

    async def endless_headers(reader: Any, writer: Any) -> None:
        writer.write(b"POST /predict HTTP/1.1\r\nhost: here\r\n")
        while not writer.is_closing():
            writer.write(b"x: y\r\n" * 1000)
            await writer.drain()

    return [*[image(data) for data in images] * 2, *[slow_body] * 8, *[endless_headers] * 2]


def good_clients(port: int, length: float, answers: Any) -> None:
    """64 of them, in a process of their own."""
    images = [jpeg(64, seed) for seed in range(64)]

    async def run() -> tuple[int, list[float]]:
        until, taken = time.perf_counter() + length, list[float]()
        failed = await asyncio.gather(*(good(port, images, until, taken) for _ in range(CLIENTS)))
        return sum(failed), taken

    answers.put(asyncio.run(run()))


def bad_client(port: int, length: float, images: Sequence[bytes], begun: Any) -> None:
    """The one that means harm: elsewhere, in earnest, so that it takes no processor from the others here."""
    os.nice(19)
    bad = all_harm(images)

    async def run() -> None:
        until = time.perf_counter() + length
        begun.set()
        await asyncio.gather(*(harm(port, until, send) for send in bad))

    asyncio.run(run())


def memory() -> int:
    """Bytes that this process and its workers hold."""
    here = psutil.Process()
    found = 0
    for each in (here, *here.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            if each is here or "decode_worker" in " ".join(each.cmdline()):
                found += each.memory_info().rss
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each load lasts")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of loads")
    options = parser.parse_args()

    from edge.images.bounds import image_limits, image_workers
    from visionops.serving.prediction_app import PredictionApp
    from visionops.serving.prediction_server import in_thread
    from visionops.serving.request_handling import CurrentModel, batches_at_once

    current = CurrentModel.__new__(CurrentModel)
    current.at_once = batches_at_once(1)
    current._set(models(64, 1)["ONNX Runtime"])
    assert current.model.shipped.classes == CLASSES
    app = PredictionApp("bench", "all", current, None, batch=64, look_every=3600)
    context, harmful = multiprocessing.get_context("spawn"), hostile_images()
    p99: dict[bool, list[float]] = {False: [], True: []}
    failed = before = most = 0
    with in_thread(app) as server:
        port = int(server.address.rpartition(":")[2])
        for number in range(2 * options.rounds):
            is_harmful = number % 2 == 1
            answers = context.Queue()
            process = context.Process(target=good_clients, args=(port, options.seconds, answers))
            # Begins before the others, however busy the machine is, and ends after them.
            begun = context.Event()
            bad = context.Process(target=bad_client, args=(port, 3600, harmful, begun))
            if is_harmful:
                bad.start()
                begun.wait()
                time.sleep(1)
            process.start()
            while answers.empty():
                most = max(most, memory())
                time.sleep(0.1)
            wrong, taken = answers.get()
            process.join()
            if is_harmful:
                bad.kill()
                bad.join()
            # In later rounds workers are there already.
            before = before or most
            failed += wrong
            p99[is_harmful].append(float(np.quantile(taken, 0.99)))
            what = "with the bad client" if is_harmful else "good clients alone"
            shown = f"{len(taken):8,} answers, {wrong} failed, p99 {p99[is_harmful][-1] * 1000:.0f} ms"
            print(f"{what:22}{shown}", flush=True)
    ratio = float(np.median(np.divide(p99[True], p99[False])))
    more = most - before
    allowed = image_workers() * image_limits().worker_memory
    kept = "kept" if not failed and ratio <= BUDGET and more <= allowed else "MISSED"
    print(
        f"p99 {ratio:.2f} times, {failed} failed, memory {more >> 20} MiB more than before, workers may have "
        f"{allowed >> 20}: budget {BUDGET:g} times, {kept}"
    )


if __name__ == "__main__":
    main()
