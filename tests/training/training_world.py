"""A small world to train in: three kinds of 8 x 8 pictures, easily told apart, and how to train on them."""

import multiprocessing
import os
import signal
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionops_assets.config.recipe import Recipe
from visionops_assets.training.batches import LabelledImages
from visionops_assets.training.provenance import EpochReport
from visionops_assets.training.train import TrainingRequest, TrainingResult, train

CLASSES = ("bar", "dot", "frame")
TRAIN, VALIDATION = 60, 24
SMALL_DROPOUT_NET = {"init_args": {"width": 4, "embedding": 16, "dropout": 0.5}}


class Pictures:
    """Decoded samples in memory: uint8 [N, 8, 8, C]."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels

    def gather(self, rows: NDArray[np.integer], /) -> NDArray[np.uint8]:
        return self.pixels[rows]


def pictures(count: int, channels: int = 1, seed: int = 0) -> tuple[Pictures, NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 3).astype(np.int64)
    pixels = random.integers(0, 60, size=(count, 8, 8, channels))
    for image, label in zip(pixels, labels, strict=True):
        if label == 0:
            image[:, 3:5] += 180
        elif label == 1:
            image[3:5, 3:5] += 180
        else:
            image[[0, -1], :] += 180
    return Pictures(pixels.astype(np.uint8)), labels


def request(
    identity: str = "test", loader_workers: int = 0, channels: int = 1, **recipe: Any
) -> TrainingRequest:
    declared = {
        "input": {"height": 8, "width": 8, "channels": channels},
        "model": SMALL_DROPOUT_NET,
        "epochs": 4,
        "batch_size": 16,
        "threads": 1,
        "augmentations": [{"name": "shift", "fraction": 0.1}, {"name": "noise", "sigma": 0.05}],
        **recipe,
    }
    source, labels = pictures(TRAIN + VALIDATION, channels)
    rows = np.arange(TRAIN + VALIDATION)
    return TrainingRequest(
        recipe=Recipe.model_validate(declared),
        classes=CLASSES,
        train=LabelledImages(source, rows[:TRAIN], labels[:TRAIN]),
        validation=LabelledImages(source, rows[TRAIN:], labels[TRAIN:]),
        identity=identity,
        loader_workers=loader_workers,
        checkpoint_seconds=0,
    )


def _train_and_tell(
    answers: "SimpleQueue[tuple[str, list[int]]]",
    workdir: Path,
    options: dict[str, Any],
    kill_in_epoch: int | None,
    kill_while_saving: bool,
) -> None:
    # Else each loader worker would import everything anew.
    multiprocessing.set_start_method("fork", force=True)
    if kill_while_saving:
        _die_when_renaming(kill_in_epoch or 1)

    def on_epoch(report: EpochReport) -> None:
        if report.epoch == kill_in_epoch and not kill_while_saving:
            os.kill(os.getpid(), signal.SIGKILL)

    result = train(request(**options), workdir, on_epoch)
    answers.put((result.weights_sha256, [report.epoch for report in result.history if report.restored]))


def _die_when_renaming(number: int) -> None:
    rename, renamed = Path.replace, [0]

    def dying(path: Path, target: Path) -> Path:
        renamed[0] += 1
        if renamed[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)

    Path.replace = dying  # type: ignore[method-assign, assignment]


class Processes:
    """Trains in processes that have imported everything and run nothing yet."""

    def __init__(self, context: ForkServerContext) -> None:
        self._context = context

    def start(
        self,
        workdir: Path,
        kill_in_epoch: int | None = None,
        kill_while_saving: bool = False,
        **options: Any,
    ) -> tuple[ForkServerProcess, "SimpleQueue[tuple[str, list[int]]]"]:
        answers: SimpleQueue[tuple[str, list[int]]] = self._context.SimpleQueue()
        process = self._context.Process(
            target=_train_and_tell, args=(answers, workdir, options, kill_in_epoch, kill_while_saving)
        )
        process.start()
        return process, answers

    def train(self, workdir: Path, **options: Any) -> str:
        """Train to the end and return the weights' digest."""
        return self.train_with_history(workdir, **options)[0]

    def train_with_history(self, workdir: Path, **options: Any) -> tuple[str, list[int]]:
        """Train to the end and return the weights' digest and the epochs taken over from before."""
        process, answers = self.start(workdir, **options)
        process.join(120)
        assert process.exitcode == 0
        return answers.get()

    def train_until_killed(self, workdir: Path, **options: Any) -> None:
        process, _ = self.start(workdir, **options)
        process.join(120)
        assert process.exitcode == -signal.SIGKILL


def train_here(workdir: Path, **options: Any) -> TrainingResult:
    return train(request(**options), workdir)
