"""Training against the same training written by hand over tensors that are already in memory.

Ours is everything `train` does: memory-mapped samples, augmentation, Lightning, per-epoch validation, a checkpoint an
epoch, weights. The baseline is the shortest loop that computes the same steps (model, optimiser, schedule, batch
order, augmentation, precision, validation) from float tensors normalised beforehand. Both run in turn in one process.

    python benchmarks/training_loop.py [--repeats 3]

The ratio is of processor seconds, on one thread: it holds on a machine that is busy with other things too.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from visionops_assets.config.recipe import Recipe, resolve
from visionops_assets.dataset.cache.sample_cache import SampleCache
from visionops_assets.training import code_digest
from visionops_assets.training.augmenting import augment
from visionops_assets.training.batches import EpochOrder, LabelledImages, channel_statistics
from visionops_assets.training.determinism import deterministic_session
from visionops_assets.training.model_files import export_onnx, golden_images, parity
from visionops_assets.training.models import Shipped, build_model, evaluating
from visionops_assets.training.train import TrainingRequest, train

CLASSES = tuple("0123456789")
TURNS = [{"name": "shift", "fraction": 0.1}, {"name": "rotate", "degrees": 8}]
CASES = {
    "digits, 900 grey 8 x 8, 20 epochs": (
        900,
        {
            "input": {"height": 8, "width": 8, "channels": 1},
            "batch_size": 32,
            "threads": 1,
            "augmentations": TURNS,
        },
    ),
    "3,000 colour 32 x 32, 4 epochs": (
        3000,
        {
            "input": {"height": 32, "width": 32, "channels": 3},
            "model": {"init_args": {"width": 16}},
            "epochs": 4,
            "threads": 1,
            "augmentations": TURNS,
        },
    ),
    "3,000 colour 32 x 32, 4 epochs, nothing augmented": (
        3000,
        {
            "input": {"height": 32, "width": 32, "channels": 3},
            "model": {"init_args": {"width": 16}},
            "epochs": 4,
            "threads": 1,
        },
    ),
}


def samples(cache: Path, count: int, recipe: Recipe) -> tuple[LabelledImages, LabelledImages]:
    """Stripes whose direction tells the class, in a sample cache as training has it; four fifths to train."""
    random = np.random.default_rng(0)
    labels = (np.arange(count) % len(CLASSES)).astype(np.int64)
    size = recipe.input
    y, x = np.mgrid[: size.height, : size.width]
    angle = (labels * np.pi / len(CLASSES))[:, None, None]
    waves = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 1.2 + random.uniform(0, 6, (count, 1, 1)))
    noisy = waves[..., None] * 60 + 128 + random.normal(0, 40, (count, *waves.shape[1:], size.channels))
    store = SampleCache(cache, size.height, size.width, size.channels)
    encoded = [_png(picture) for picture in noisy.clip(0, 255).astype(np.uint8)]
    names = [_sha256(content) for content in encoded]
    held = dict(zip(names, encoded, strict=True))
    store.fill([(name, name, len(held[name])) for name in names], lambda paths: ((p, held[p]) for p in paths))
    view, rows = store.view(names), np.arange(count)
    cut = count * 4 // 5
    return LabelledImages(view, rows[:cut], labels[:cut]), LabelledImages(view, rows[cut:], labels[cut:])


def by_hand(recipe: Recipe, train_images: LabelledImages, validation: LabelledImages) -> Callable[[], float]:
    """Put everything in memory, and return the loop; it returns the validation accuracy."""
    mean, std = channel_statistics(train_images)
    normalised = [_in_memory(images, mean, std) for images in (train_images, validation)]
    (inputs, targets), (held_inputs, held_targets) = normalised
    # Brightness is augmented before normalisation; geometry may as well come after it.
    inputs_01 = inputs if not recipe.augmentations else _denormalised(inputs, mean, std)
    held = 512 if recipe.input.height < 32 else 64
    channel = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def loop() -> float:
        accuracy = 0.0
        with deterministic_session(seed=recipe.seed, threads=recipe.threads):
            model = build_model(recipe.model, CLASSES, recipe.input)
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            optimiser = torch.optim.AdamW(
                model.parameters(),
                lr=recipe.optimiser.lr,
                weight_decay=recipe.optimiser.weight_decay,
                fused=True,
            )
            order = EpochOrder(len(targets), recipe.batch_size, recipe.seed)
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimiser, max_lr=recipe.optimiser.lr, total_steps=len(order) * recipe.epochs
            )
            for epoch in range(recipe.epochs):
                order.epoch = epoch
                for positions in order:
                    chosen = torch.from_numpy(positions)
                    images = inputs_01[chosen]
                    if recipe.augmentations:
                        images = augment(
                            images, recipe.augmentations, seed=recipe.seed, epoch=epoch, samples=positions
                        )
                        images = (images - channel[0]) / channel[1]
                        images = images.contiguous(memory_format=torch.channels_last)
                    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16-mixed"):
                        loss = functional.cross_entropy(model(images), targets[chosen])
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                    schedule.step()
                with evaluating(model):
                    right = [
                        model(part).argmax(dim=1) == wanted
                        for part, wanted in zip(
                            held_inputs.split(held), held_targets.split(held), strict=True
                        )
                    ]
                accuracy = float(torch.cat(right).float().mean())
        return accuracy

    return loop


def _in_memory(
    images: LabelledImages, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    pixels = torch.from_numpy(images.source.gather(images.rows)).permute(0, 3, 1, 2).float() / 255
    inputs = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    return inputs.contiguous(memory_format=torch.channels_last), torch.from_numpy(images.labels)


def _denormalised(inputs: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return inputs * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]


def _png(picture: np.ndarray) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.png_encode(picture[..., 0] if picture.shape[-1] == 1 else picture))


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def _seconds(work: Callable[[], float]) -> tuple[float, float]:
    started = time.process_time()
    accuracy = work()
    return time.process_time() - started, accuracy


def compare(name: str, count: int, fields: dict[str, object], repeats: int) -> None:
    """Time both in turn and print the ratio of their medians; then what shipping costs."""
    recipe = resolve(Recipe.model_validate(fields), fast_bf16=code_digest.fast_bf16())
    with tempfile.TemporaryDirectory() as folder:
        train_images, validation = samples(Path(folder), count, recipe)
        loop = by_hand(recipe, train_images, validation)
        request = TrainingRequest(recipe, CLASSES, train_images, validation, identity="benchmark")
        shipped: list[Shipped] = []

        def ours() -> float:
            with tempfile.TemporaryDirectory() as workdir:
                result = train(request, Path(workdir))
            shipped[:] = [result.shipped]
            return result.metrics["validation_accuracy"]

        ours(), loop()
        timed = [(_seconds(ours), _seconds(loop)) for _ in range(repeats)]
        seconds = [statistics.median(run[side][0] for run in timed) for side in (0, 1)]
        accuracy = [timed[0][side][1] for side in (0, 1)]
        print(f"{name} ({recipe.precision}, {recipe.threads} threads)")
        print(f"  train          {seconds[0]:6.2f} s   validation accuracy {accuracy[0]:.3f}")
        print(f"  loop by hand   {seconds[1]:6.2f} s   validation accuracy {accuracy[1]:.3f}")
        print(f"  speed          {seconds[1] / seconds[0]:6.2f} of the loop by hand (budget: at least 0.95)")
        onnx = Path(folder) / "model.onnx"
        export_seconds, _ = _seconds(lambda: float(bool(export_onnx(shipped[0], onnx))))
        parity_seconds, _ = _seconds(lambda: parity(onnx, shipped[0], golden_images(train_images)).agreement)
        print(f"  then ONNX      {export_seconds:6.2f} s   parity {parity_seconds:.2f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each side; the median counts")
    repeats = parser.parse_args().repeats
    for name, (count, fields) in CASES.items():
        compare(name, count, fields, repeats)


if __name__ == "__main__":
    main()
