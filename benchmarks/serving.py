"""`predict` and `serve` against the same model in eager PyTorch, in one run, at batch 1 and 64.

    python benchmarks/serving.py [--side 64] [--rate 100] [--seconds 10]

Everything around the model is the same: bytes are decoded, the model runs, answers are made, rows are logged; only the
session differs, ONNX Runtime's on the file that ships or torch's on the module it was exported from. Budget: at batch 1
at least 1.5 times as many images a second, for `predict`. Serve's latencies are those that clients in a process of
their own see, on the machine that serves.
"""

import argparse
import asyncio
import contextlib
import io
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timing import seconds

BUDGET = 1.5
CLASSES = tuple("abcdefghij")
REQUESTS_ALONE, REQUESTS_TOGETHER, CLIENTS = 400, 3200, 64


def jpeg(side: int, seed: int) -> bytes:
    """A smooth colour image, as a camera's is."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


class EagerSession:
    """A module in the place of ONNX Runtime's session."""

    def __init__(self, shipped: Any) -> None:
        self._shipped = shipped.eval()

    def get_outputs(self) -> list[argparse.Namespace]:
        """The names of what the module gives."""
        return [argparse.Namespace(name=name) for name in self._shipped.outputs]

    def run(self, outputs: Sequence[str], given: dict[str, Any]) -> list[Any]:
        """The asked outputs of a batch."""
        import torch

        with torch.inference_mode():
            found = dict(
                zip(self._shipped.outputs, self._shipped(torch.from_numpy(given["images"])), strict=True)
            )
        return [found[name].numpy() for name in outputs]


def export(side: int, file: Path) -> tuple[Any, str]:
    """Write a model to a file: the module that it was exported from, and the file's SHA-256."""
    import torch

    from visionops_assets.config.recipe import InputSpec, ModelSpec
    from visionops_assets.training.classification import ShippedClassifier
    from visionops_assets.training.model_files import export_onnx
    from visionops_assets.training.models import build_model

    torch.manual_seed(0)
    spec = InputSpec(height=side, width=side, channels=3)
    module = ShippedClassifier(build_model(ModelSpec(), CLASSES, spec), CLASSES, spec)
    return module, export_onnx(module, file)


def models(side: int, threads: int) -> dict[str, Any]:
    """The same model twice: the file that ships, and the module it was exported from."""
    import torch

    from visionops_assets.inference.shipped_model import ShippedModel, open_model
    from visionops_assets.monitoring.prediction import RunningModel

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        module, digest = export(side, file)
        opened = open_model(file, threads)
    eager = ShippedModel(opened.path, EagerSession(module), opened.task, opened.classes, opened.input)
    return {
        name: RunningModel(1, digest, digest, shipped)
        for name, shipped in (("ONNX Runtime", opened), ("eager PyTorch", eager))
    }


def images_a_second(
    model: Any, images: Sequence[bytes], batch: int, *, whole: bool, repeats: int = 5
) -> float:
    """Median over repeats. `whole`: from bytes to answers, else the model alone on decoded images."""
    from visionops_assets.monitoring.prediction import Picture, answer, pictures

    named = [("image", image) for image in images]
    decoded = [each for each in pictures(named, model.shipped) if isinstance(each, Picture)]

    def once() -> None:
        for start in range(0, len(images), batch):
            if whole:
                seen = pictures(named[start : start + batch], model.shipped)
                answer(model, [each for each in seen if isinstance(each, Picture)])
            else:
                model.shipped.run(
                    [np.stack([each.pixels for each in decoded[start : start + batch]])], ["probabilities"]
                )

    once()
    return statistics.median(len(images) / seconds(once).wall for _ in range(repeats))


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    """One request on an open connection."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)


def request_of(image: bytes) -> bytes:
    """An image as an HTTP request."""
    return b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(image) + image


async def closed_loop(
    port: int, requests: Sequence[bytes], clients: int, count: int
) -> tuple[float, list[float]]:
    """Requests a second of clients that each ask again as soon as they are answered, and the seconds of each."""
    left, taken = iter(range(count)), []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in left:
            began = time.perf_counter()
            await ask(reader, writer, requests[number % len(requests)])
            taken.append(time.perf_counter() - began)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return count / (time.perf_counter() - started), taken


async def open_loop(port: int, images: Sequence[bytes], rate: float, length: float) -> list[float]:
    """Seconds of each request, from when it was due, of arrivals as random as people's (Poisson)."""
    due = np.cumsum(np.random.default_rng(0).exponential(1 / rate, int(rate * length)))
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CLIENTS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    started, taken = time.perf_counter(), []

    async def one(number: int, when: float) -> None:
        await asyncio.sleep(max(0.0, started + when - time.perf_counter()))
        connection = await free.get()
        await ask(*connection, request_of(images[number % len(images)]))
        free.put_nowait(connection)
        taken.append(time.perf_counter() - started - when)

    await asyncio.gather(*(one(number, when) for number, when in enumerate(due.tolist())))
    return taken


def clients(port: int, images: Sequence[bytes], rate: float, length: float, answers: Any) -> None:
    """All loads, one after the other, in a process of their own."""
    requests = [request_of(image) for image in images]
    asyncio.run(closed_loop(port, requests, 4, 200))
    alone, _ = asyncio.run(closed_loop(port, requests, 1, REQUESTS_ALONE))
    together, _ = asyncio.run(closed_loop(port, requests, CLIENTS, REQUESTS_TOGETHER))
    answers.put((alone, together, asyncio.run(open_loop(port, images, rate, length)) if rate else []))


@contextlib.contextmanager
def serving(model: Any, at_once: int) -> Iterator[int]:
    """The port of a server in this process that logs, and answers so many batches at once."""
    from resources.storage import Spool
    from visionops.serving.prediction_app import PredictionApp
    from visionops.serving.prediction_log import BackgroundLog, PredictionLog
    from visionops.serving.prediction_server import in_thread
    from visionops.serving.request_handling import CurrentModel
    from visionops_assets.config.project import Project

    current = CurrentModel.__new__(CurrentModel)
    current.at_once = at_once
    current._set(model)
    project = Project.model_validate(
        {
            "project": "bench",
            "repository": "bench",
            "annotations": "bench",
            "classes": list(CLASSES),
            "recipe": {"input": {"height": 64, "width": 64}},
        }
    )
    with tempfile.TemporaryDirectory() as spool:
        log = BackgroundLog(PredictionLog(Spool(root=spool), project, "bench", "all"))
        app = PredictionApp("bench", "all", current, log, batch=64, look_every=3600)
        # Of checkouts before, `--before`.
        with in_thread(getattr(app, "asgi", app)) as server:
            yield int(server.address.rpartition(":")[2])


def served(
    model: Any, images: Sequence[bytes], rate: float, length: float, at_once: int
) -> tuple[float, float, list[float]]:
    """Requests a second of one client and of 64, and latencies at a stated load, of a server that logs."""
    with serving(model, at_once) as port:
        context = multiprocessing.get_context("spawn")
        answers = context.Queue()
        process = context.Process(target=clients, args=(port, images, rate, length, answers))
        process.start()
        found = answers.get()
        process.join()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=64, help="pixels of a side of the images")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second of the stated load")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long the stated load lasts")
    parser.add_argument("--threads", type=int, default=1, help="threads of either model")
    options = parser.parse_args()

    from visionops.serving.request_handling import batches_at_once

    images = [jpeg(options.side, seed) for seed in range(256)]
    both = models(options.side, options.threads)
    print(f"{options.side} x {options.side} JPEG, SmallConvNet, {options.threads} thread(s); images a second")
    print(f"{'':28}{'ONNX Runtime':>14}{'eager PyTorch':>15}{'ratio':>8}")

    def line(what: str, ours: float, eager: float) -> float:
        print(f"{what:28}{ours:14,.0f}{eager:15,.0f}{ours / eager:8.2f}", flush=True)
        return ours / eager

    first = 0.0
    for whole in (False, True):
        for batch in (1, 64):
            speeds = [images_a_second(model, images, batch, whole=whole) for model in both.values()]
            ratio = line(f"{'predict' if whole else 'model alone'}, batch {batch}", *speeds)
            first = ratio if whole and batch == 1 else first
    at_once = batches_at_once(options.threads)
    ours = served(both["ONNX Runtime"], images, options.rate, options.seconds, at_once)
    eager = served(both["eager PyTorch"], images, 0, 0, at_once)
    line("serve, 1 client", ours[0], eager[0])
    line(f"serve, {CLIENTS} clients", ours[1], eager[1])
    p50, p99 = np.quantile(ours[2], [0.5, 0.99]) * 1000
    print(
        f"serve at {options.rate:g} requests a second for {options.seconds:g} s: p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    )
    kept = "kept" if first >= BUDGET else "MISSED"
    print(f"predict at batch 1: {first:.2f} times eager PyTorch, budget {BUDGET}: {kept}")


if __name__ == "__main__":
    main()
