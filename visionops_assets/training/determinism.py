"""The same bits each time: randomness without state, torch as in a fresh process, checkpoints between epochs.

Random numbers are a pure function of (seed, epoch, sample), so no order and no worker matters. They come from
SplitMix64's finaliser (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) over a
chain of counters: integer arithmetic only, the same bits on every machine and with every release of numpy, whose
own generators promise no stable stream. Whoever trains two projects in one process gets for each the bits that a
process of its own would give, and a killed training goes on and ends in the same bits.
"""

import contextlib
import hashlib
import logging
import os
import pickle
import random
import signal
import threading
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_ENVIRONMENT = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "CUBLAS_WORKSPACE_CONFIG")
_CHATTY_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning_utilities", "torch.onnx", "onnxscript")
_log = logging.getLogger(__name__)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    return value ^ (value >> np.uint64(31))


def counter_hash(seed: int, *counters: int | NDArray[np.integer]) -> NDArray[np.uint64]:
    """Return 64 random bits for each combination of counters (arrays broadcast), at least one-dimensional."""
    state = _mix(np.atleast_1d(np.asarray(seed, dtype=np.uint64)) + _GOLDEN)
    for counter in counters:
        # Hashing between counters keeps (1, 2) and (2, 1) apart.
        state = _mix((state ^ np.asarray(counter).astype(np.uint64)) + _GOLDEN)
    return state


def uniform(seed: int, *counters: int | NDArray[np.integer]) -> NDArray[np.float64]:
    """Return numbers in [0, 1), one for each combination of counters."""
    return (counter_hash(seed, *counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    """Return the order in which an epoch visits `length` samples."""
    return np.argsort(counter_hash(seed, epoch, np.arange(length)), kind="stable")


def derived_seed(seed: int, purpose: str, number: int = 0) -> int:
    """Return a seed in 0..2**32-1 for one purpose ("initialisation", "epoch" with its number)."""
    text = f"{seed}/{purpose}/{number}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big")


def seed_generators(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators (every device)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed all global generators for one epoch, so that a resumed training draws what it would have drawn."""
    seed_generators(derived_seed(seed, "epoch", epoch))


@contextlib.contextmanager
def deterministic_session(*, seed: int, threads: int, bitwise: bool = True) -> Iterator[None]:
    """Fix threads, kernels and generators inside, restore them after.

    `bitwise=False` lets kernels without a deterministic form run (reproducibility: statistical).
    """
    with contextlib.ExitStack() as restore:
        _keep_generators(restore)
        _keep_torch_settings(restore)
        _keep_environment(restore)
        # Lightning and Dagster both take SIGINT; Lightning ignores it for good after the first Ctrl-C.
        if threading.current_thread() is threading.main_thread():
            restore.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))

        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.benchmark = False
        # Set before CUDA starts, or cuBLAS keeps a workspace whose use is not repeatable.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=not bitwise)
        restore.enter_context(torch.inference_mode(False))
        restore.enter_context(torch.enable_grad())
        seed_generators(derived_seed(seed, "initialisation"))
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the frameworks' tips, progress and own deprecations out of the log; errors still pass."""
    loggers = [logging.getLogger(name) for name in _CHATTY_LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, UserWarning):
            for module in (r"lightning\.", r"torch\.", r"onnxscript\.", r"copyreg"):
                warnings.filterwarnings("ignore", category=category, module=module)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _keep_generators(restore: contextlib.ExitStack) -> None:
    restore.callback(random.setstate, random.getstate())
    restore.callback(np.random.set_state, np.random.get_state())
    restore.callback(torch.set_rng_state, torch.get_rng_state())
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        restore.callback(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())


def _keep_torch_settings(restore: contextlib.ExitStack) -> None:
    restore.callback(torch.set_num_threads, torch.get_num_threads())
    restore.callback(torch.set_default_dtype, torch.get_default_dtype())
    restore.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
    restore.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    restore.callback(setattr, torch.backends.cudnn, "deterministic", torch.backends.cudnn.deterministic)
    restore.callback(
        torch.use_deterministic_algorithms,
        torch.are_deterministic_algorithms_enabled(),
        warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def _keep_environment(restore: contextlib.ExitStack) -> None:
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}

    def put_back() -> None:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    restore.callback(put_back)


class EpochBoundary(lightning.Callback):
    """Between epochs writes a checkpoint where one is due, then seeds all generators from (seed, epoch).

    Lightning keeps no generator state, which is why there is none to restore: an epoch's draws follow from its
    number. Written here and not at the epoch's end, because schedulers that step by the epoch have moved by now.
    """

    def __init__(self, path: Path, seed: int, every_seconds: float) -> None:
        self.path, self.seed, self.every_seconds = path, seed, every_seconds
        self._epoch, self._written = -1, 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # What was just restored, or not yet trained, needs no checkpoint.
        self._epoch, self._written = trainer.current_epoch, time.monotonic()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if time.monotonic() - self._written >= self.every_seconds:
            self._write(trainer)
        seed_epoch(self.seed, trainer.current_epoch)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Lightning has counted the epoch that is about to start as begun, and would skip its batches on resuming.
        # A state in which all counts agree means "between two epochs".
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
        for counts in (progress["current"], progress["total"]):
            counts["ready"] = counts["started"] = counts["completed"]

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._write(trainer)

    def _write(self, trainer: lightning.Trainer) -> None:
        if trainer.current_epoch == self._epoch:
            return
        unfinished = self.path.with_suffix(".unfinished")
        trainer.save_checkpoint(unfinished)
        unfinished.replace(self.path)
        self._epoch, self._written = trainer.current_epoch, time.monotonic()


def is_readable(path: Path) -> bool:
    """Say whether a checkpoint file exists, is whole and holds tensors and plain values; else it is as good as none.

    Whoever can write into the cache could have a checkpoint run code, so it is only ever read as data.
    """
    if not (path.is_file() and zipfile.is_zipfile(path)):
        return False
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        _log.warning("%s holds more than tensors and plain values: training starts anew (%s)", path, reason)
        return False
    return True
