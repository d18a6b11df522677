"""What decoding costs, beside another checkout: processor time, pair by pair, in an order that changes.

    python benchmarks/decoding.py --before CHECKOUT [--module visionops_assets.dataset.decode] [--pairs 200]

The median of the pairs' ratios with its 95% interval (bootstrap). Budgets of the limits that images are decoded behind,
against 69e4d4a~1, which had none: at most 5% on a JPEG of a megapixel, 10% on images of 64 pixels.
"""

import argparse
import importlib
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
OURS = "edge.images.decode"
CASES = ((1024, "JPEG", 2, 1.05), (64, "JPEG", 64, 1.10), (64, "PNG", 64, 1.10))


def encoded(side: int, kind: str) -> bytes:
    """Shades and a sensor's noise, in colour."""
    random = np.random.default_rng(side)
    coarse = random.integers(0, 256, (max(4, side // 32), max(4, side // 32), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), float)
    image = Image.fromarray((smooth + random.normal(0, 3, smooth.shape)).clip(0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=90)
    return buffer.getvalue()


class Decoder:
    """A checkout's decoder in a process of its own."""

    def __init__(self, root: Path, module: str) -> None:
        command = [sys.executable, __file__, "--serve", str(root), "--module", module]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def spent(self, file: Path, times: int) -> float:
        """Seconds of processor time for so many times."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(times, file, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(root: str, module: str) -> None:
    """Decode what standard input names, and say what it took."""
    sys.path.insert(0, root)
    decode = importlib.import_module(module).decode_whole
    for line in sys.stdin:
        times, _, file = line.strip().partition(" ")
        data = Path(file).read_bytes()
        started = time.process_time()
        for _ in range(int(times)):
            decode(data, "image", 3)
        print(time.process_time() - started, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path)
    parser.add_argument("--module", default="visionops_assets.dataset.decode")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.module)
        return
    if given.before is None:
        parser.error("--before names the other checkout")
    random = np.random.default_rng(0)
    both = Decoder(given.before, given.module), Decoder(ROOT, OURS)
    print("| image | before, ms | now, ms | ratio | 95% interval | |")
    print("| --- | ---: | ---: | ---: | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for side, kind, times, most in CASES:
            file = Path(folder, f"{side}.{kind.lower()}")
            file.write_bytes(encoded(side, kind))
            for one in both:
                one.spent(file, 3)
            taken = np.zeros((given.pairs, 2))
            for pair in range(given.pairs):
                for number in (0, 1) if pair % 2 else (1, 0):
                    taken[pair, number] = both[number].spent(file, times) * 1000 / times
            ratios = taken[:, 1] / taken[:, 0]
            drawn = np.median(ratios[random.integers(0, given.pairs, (2000, given.pairs))], axis=1)
            low, high = np.quantile(drawn, [0.025, 0.975])
            before, now = np.median(taken, axis=0)
            verdict = "ok" if np.median(ratios) <= most else "MISS"
            print(
                f"| {kind}, {side} px | {before:.3f} | {now:.3f} | {np.median(ratios):.3f} | {low:.3f} to {high:.3f} "
                f"| {verdict}, at most {most:g} |",
                flush=True,
            )
    for one in both:
        one.close()


if __name__ == "__main__":
    main()
