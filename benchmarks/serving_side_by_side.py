"""`serve` beside LitServe, and beside another checkout of itself, with the same ONNX file in one run.

    python benchmarks/serving_side_by_side.py [--side 64] [--threads 0] [--before CHECKOUT] [--rounds 15]

LitServe is the extra `benchmark` (`pip install '.[benchmark]'`), or a folder of `pip install --target` on PYTHONPATH.
It runs twice: as it comes, with one worker, and with a worker for each processor, of one thread each. `--threads` are
those of the model with one worker and in `serve`; 0 is what each does by itself.
Each server is a process of its own; rounds of a quarter of a second or so alternate between them, so that whatever
else the machine does meets all alike. Processor time a request is of the server and its children, the client's is
nobody's. Budgets against LitServe as it comes: 3 times its requests a second at 1 client, 1.6 times at 16 and 64, p99
at 64 clients no worse. Against the other checkout: processor time a request within 5%.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import psutil
from PIL import Image
from serving import CLASSES, closed_loop, export, jpeg, request_of, serving

try:
    import litserve
except ImportError:
    litserve = None

ROOT = Path(__file__).parents[1]
# Clients, with how many requests they send in a round, and how many times LitServe's requests a second is the budget.
LOADS = {1: (400, 3.0), 16: (800, 1.6), 64: (1200, 1.6)}
WITHIN = 1.05


class Round(NamedTuple):
    """What a server did in one round: requests a second, processor milliseconds a request, p99 in milliseconds."""

    rate: float
    processor: float
    p99: float


def serve_ours(file: Path, threads: int, workers: int) -> None:
    """Serve until standard input ends; the port goes to standard output."""
    from visionops.serving import request_handling
    from visionops_assets.inference.shipped_model import open_model
    from visionops_assets.monitoring.prediction import RunningModel

    # Checkouts before it answered one batch at a time.
    at_once = request_handling.batches_at_once(threads) if hasattr(request_handling, "batches_at_once") else 1
    opened = open_model(file, threads, *([at_once] if at_once > 1 else []))
    with serving(RunningModel(1, "0" * 64, "0" * 64, opened), at_once) as port:
        print(port, flush=True)
        sys.stdin.read()


class Classifier(litserve.LitAPI if litserve else object):  # type: ignore[misc]
    """The model as LitServe's examples serve one: images as base64 in JSON, up to 64 of those that wait in a batch."""

    def __init__(self, file: Path, threads: int) -> None:
        super().__init__(max_batch_size=64)
        self._file, self._threads = file, threads

    def setup(self, device: str) -> None:
        """Open the model, in the worker."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        self._session = onnxruntime.InferenceSession(str(self._file), options)

    def decode_request(self, request: dict[str, str]) -> Any:
        """Pixels of an image, uint8 (height, width, 3)."""
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(request["image"]))).convert("RGB"))

    def batch(self, inputs: Sequence[Any]) -> Any:
        """Images as one array."""
        return np.stack(inputs)

    def predict(self, x: Any) -> Any:
        """Probabilities, float32 (images, classes)."""
        return self._session.run(["probabilities"], {"images": np.atleast_1d(x)})[0]

    def unbatch(self, output: Any) -> list[Any]:
        """Probabilities of each image."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """What `serve` says of an image."""
        best = int(output.argmax())
        return {
            "prediction": CLASSES[best],
            "confidence": float(output[best]),
            "probabilities": dict(zip(CLASSES, output.tolist(), strict=True)),
        }


def serve_litserve(file: Path, threads: int, workers: int) -> None:
    """The same with LitServe."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    print(port, flush=True)
    server = litserve.LitServer(
        Classifier(file, threads), accelerator="cpu", workers_per_device=workers, fast_queue=True
    )
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


SERVERS = {"ours": serve_ours, "litserve": serve_litserve}


class Server:
    """A server in a process of its own, and what its clients send."""

    def __init__(self, process: subprocess.Popen[str], requests: Sequence[bytes]) -> None:
        assert process.stdout is not None
        self._process = psutil.Process(process.pid)
        self._requests = requests
        self.rounds: dict[int, list[Round]] = {clients: [] for clients in LOADS}
        self._port = int(process.stdout.readline())
        until = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                return
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit("a server did not start")
            time.sleep(0.1)

    def round(self, clients: int) -> None:
        """A closed loop of clients."""
        before, (count, _) = self._processor(), LOADS[clients]
        rate, taken = asyncio.run(closed_loop(self._port, self._requests, clients, count))
        spent = self._processor() - before
        self.rounds[clients].append(Round(rate, spent / count * 1000, float(np.quantile(taken, 0.99)) * 1000))

    def median(self, clients: int) -> Round:
        """Of each figure."""
        return Round(*(statistics.median(each) for each in zip(*self.rounds[clients], strict=True)))

    def _processor(self) -> float:
        """Seconds of the server and its children so far."""
        found = [self._process, *self._process.children(recursive=True)]
        return sum(times.user + times.system for times in (each.cpu_times() for each in found))


@contextlib.contextmanager
def running(
    kind: str, checkout: Path, file: Path, requests: Sequence[bytes], threads: int, workers: int = 1
) -> Iterator[Server]:
    """A server of a checkout."""
    path = os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [
            *(sys.executable, __file__, "--serve", kind, "--model", str(file)),
            *("--threads", str(threads), "--workers", str(workers)),
        ],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Server(process, requests)
    finally:
        children = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        for each in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def litserve_request(image: bytes) -> bytes:
    """An image as LitServe takes it."""
    body = json.dumps({"image": base64.b64encode(image).decode()}).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, help="another checkout of this repository")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--side", type=int, default=64, help="pixels of a side of the images, and of the model's input"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="threads of the model; 0: as each does by itself"
    )
    parser.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        SERVERS[options.serve](options.model, options.threads, options.workers)
        return
    threads = options.threads
    images = [jpeg(options.side, seed) for seed in range(256)]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        file = Path(folder) / "model.onnx"
        export(options.side, file)
        ours = [request_of(image) for image in images]
        servers = {"serve": stack.enter_context(running("ours", ROOT, file, ours, threads))}
        if options.before:
            before = options.before.resolve()
            servers["before"] = stack.enter_context(running("ours", before, file, ours, threads))
        if litserve:
            asked = [litserve_request(image) for image in images]
            servers["LitServe"] = stack.enter_context(running("litserve", ROOT, file, asked, threads))
            many = len(os.sched_getaffinity(0))
            if many > 1:
                name = f"LitServe, {many} workers"
                servers[name] = stack.enter_context(running("litserve", ROOT, file, asked, 1, many))
        else:
            print("LitServe is not installed: its lines are left out")
        for number in range(options.rounds + 1):
            first, each = number % len(servers), list(servers.values())
            for clients, server in itertools.product(LOADS, [*each[first:], *each[:first]]):
                server.round(clients)
                if number == 0:
                    server.rounds[clients].clear()
        report(servers)


def report(servers: dict[str, Server]) -> None:
    """Medians, ratios of the rounds that were side by side, and budgets."""
    print(f"{'':33}{'requests/s':>12}{'CPU ms each':>13}{'p99 ms':>9}")
    for clients in LOADS:
        for name, server in servers.items():
            found = server.median(clients)
            print(f"{clients:3} clients, {name:19}{found.rate:12,.0f}{found.processor:13.3f}{found.p99:9.1f}")
    for clients, (_, times) in LOADS.items():
        for name in [name for name in servers if name != "serve"]:
            pairs = list(zip(servers["serve"].rounds[clients], servers[name].rounds[clients], strict=True))
            rate, processor, p99 = (
                statistics.median(one[figure] / other[figure] for one, other in pairs) for figure in range(3)
            )
            line = (
                f"{clients:3} clients, against {name}: {rate:.2f} times the requests a second, {processor:.3f} of the "
                f"processor time, {p99:.2f} of the p99"
            )
            if name == "before":
                line += ": kept" if processor <= WITHIN else ": MISSED"
            elif name == "LitServe":
                line += ": kept" if rate >= times and (clients < 64 or p99 <= 1) else ": MISSED"
            print(line)


if __name__ == "__main__":
    main()
