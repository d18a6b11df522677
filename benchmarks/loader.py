"""One warm epoch through the sample cache, against what decoding allows and against what people write first.

Epochs are shuffled and read in turn, so that what else the machine does hits all alike; each ratio is the median
over the rounds of two epochs of one round. The limit holds all encoded images in memory and decodes with the same
decoder in two threads; "folder" is a Dataset that opens files with Pillow under a DataLoader with two workers. A
row for webdataset appears where it is installed.

    python benchmarks/loader.py [--png 20000] [--jpeg 4000] [--rounds 3]
"""

import argparse
import hashlib
import importlib.util
import io
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from edge.images.decode import decode
from visionops_assets.dataset.cache.sample_cache import SampleCache
from visionops_assets.dataset.cache.sample_view import SampleView
from visionops_assets.training.batches import EpochOrder, Gathered, LabelledImages

BATCH = 64
BUDGETS = {"decoded / limit": 0.9, "encoded / limit": 0.9, "decoded / folder": 2.0, "encoded / folder": 2.0}


def write_images(folder: Path, count: int, side: int, suffix: str) -> dict[str, bytes]:
    """Images with large shapes, edges and some noise, as photographs have them; their bytes by name."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    contents = {}
    for number in range(count):
        coarse = generator.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
        noisy = smooth.astype(np.int16) + generator.integers(-4, 5, smooth.shape, dtype=np.int16)
        image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        buffer = io.BytesIO()
        image.save(buffer, "PNG" if suffix == "png" else "JPEG", quality=90)
        name = f"{number:06}.{suffix}"
        contents[name] = buffer.getvalue()
        (folder / name).write_bytes(contents[name])
    return contents


def through_our_loader(view: SampleView, labels: np.ndarray) -> Callable[[int], int]:
    """An epoch exactly as `training` reads it."""
    loader = DataLoader(
        Gathered(LabelledImages(view, np.arange(len(view)), labels)),
        sampler=(order := EpochOrder(len(view), BATCH, seed=0)),
        batch_size=None,
    )

    def epoch(number: int) -> int:
        order.epoch = number
        return sum(len(images) for images, *_ in loader)

    return epoch


def in_memory_limit(contents: dict[str, bytes], shape: tuple[int, int, int]) -> Callable[[int], int]:
    """Encoded images in a list, decoded by two threads into the batch."""
    encoded = list(contents.items())
    pool = ThreadPoolExecutor(2)

    def epoch(number: int) -> int:
        read = 0
        for positions in epoch_batches(len(encoded), number):
            out = np.empty((len(positions), *shape), np.uint8)

            def decode_some(start: int, out: np.ndarray = out, positions: np.ndarray = positions) -> None:
                for place in range(start, min(start + 8, len(positions))):
                    name, data = encoded[positions[place]]
                    decode(data, name, *shape, out=out[place])

            list(pool.map(decode_some, range(0, len(positions), 8)))
            read += len(torch.from_numpy(out))
        return read

    return epoch


def epoch_batches(length: int, epoch: int) -> Iterable[np.ndarray]:
    order = EpochOrder(length, BATCH, seed=0)
    order.epoch = epoch
    return order


class Folder(Dataset[tuple[torch.Tensor, int]]):
    """What most people write first."""

    def __init__(self, folder: Path, side: int) -> None:
        self.paths, self.side = sorted(folder.iterdir()), side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[index]) as image:
            pixels = image.convert("RGB")
            if pixels.size != (self.side, self.side):
                pixels = pixels.resize((self.side, self.side), Image.Resampling.BILINEAR)
            return torch.from_numpy(np.array(pixels)), index % 10


def from_folder(folder: Path, side: int) -> Callable[[int], int]:
    """Folder, Pillow, DataLoader with two workers."""

    def epoch(number: int) -> int:
        generator = torch.Generator().manual_seed(number)
        loader = DataLoader(Folder(folder, side), BATCH, shuffle=True, num_workers=2, generator=generator)
        return sum(len(images) for images, _ in loader)

    return epoch


def from_webdataset(shards: list[str], side: int, count: int) -> Callable[[int], int]:
    """webdataset over tar shards, two workers, a shuffle buffer of 1,000."""
    import webdataset

    def prepare(sample: dict[str, Any]) -> tuple[torch.Tensor, int]:
        data = sample.get("png") or sample["jpg"]
        with Image.open(io.BytesIO(data)) as image:
            pixels = image.convert("RGB")
            if pixels.size != (side, side):
                pixels = pixels.resize((side, side), Image.Resampling.BILINEAR)
            return torch.from_numpy(np.array(pixels)), 0

    def epoch(number: int) -> int:
        samples = webdataset.WebDataset(shards, shardshuffle=4, seed=number, empty_check=False)
        loader = DataLoader(samples.shuffle(1000).map(prepare).batched(BATCH), batch_size=None, num_workers=2)
        read = sum(len(images) for images, _ in loader)
        assert read == count
        return read

    return epoch


def write_shards(folder: Path, contents: dict[str, bytes]) -> list[str]:
    """The images in eight tar files."""
    folder.mkdir()
    shards = []
    names = list(contents)
    for number in range(8):
        shard = folder / f"{number}.tar"
        with tarfile.open(shard, "w") as tar:
            for name in names[number::8]:
                entry = tarfile.TarInfo(name)
                entry.size = len(contents[name])
                tar.addfile(entry, io.BytesIO(contents[name]))
        shards.append(str(shard))
    return shards


def measure(title: str, readers: dict[str, Callable[[int], int]], rounds: int) -> None:
    """Read epochs in turn and print images a second and the ratios."""
    speeds: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(rounds + 1):
        for name, epoch in readers.items():
            started = time.perf_counter()
            read = epoch(number)
            if number:
                speeds[name].append(read / (time.perf_counter() - started))
    print(f"\n{title}\n| reader | images/s | of the limit | of the folder |\n| --- | ---: | ---: | ---: |")
    for name, found in speeds.items():
        ratios = [
            statistics.median(one / other for one, other in zip(found, speeds[base], strict=True))
            for base in ("limit", "folder")
        ]
        print(f"| {name} | {statistics.median(found):,.0f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    for budget, least in BUDGETS.items():
        one, _, other = budget.partition(" / ")
        ratio = statistics.median(a / b for a, b in zip(speeds[one], speeds[other], strict=True))
        print(f"{'ok  ' if ratio >= least else 'MISS'} {budget}: {ratio:.2f} (at least {least})")


def run(title: str, count: int, side: int, shape: tuple[int, int, int], suffix: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        contents = write_images(Path(root) / "images", count, side, suffix)
        sha256s = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        wanted = [(name, sha256s[name], len(data)) for name, data in contents.items()]
        readers: dict[str, Callable[[int], int]] = {}
        for name, encoded in (("decoded", False), ("encoded", True)):
            cache = SampleCache(Path(root) / "cache", *shape, encoded=encoded)
            cache.fill(wanted, lambda paths: ((path, contents[path]) for path in paths))
            readers[name] = through_our_loader(cache.view(list(sha256s.values())), np.arange(count) % 10)
        readers["limit"] = in_memory_limit(contents, shape)
        readers["folder"] = from_folder(Path(root) / "images", shape[0])
        if importlib.util.find_spec("webdataset"):
            shards = write_shards(Path(root) / "shards", contents)
            readers["webdataset"] = from_webdataset(shards, shape[0], count)
        measure(title, readers, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--png", type=int, default=20_000)
    parser.add_argument("--jpeg", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    run(f"{given.png:,} PNG of 32×32", given.png, 32, (32, 32, 3), "png", given.rounds)
    run(
        f"{given.jpeg:,} JPEG of 256×256",
        given.jpeg,
        256,
        (256, 256, 3),
        "jpg",
        given.rounds,
    )


if __name__ == "__main__":
    main()
