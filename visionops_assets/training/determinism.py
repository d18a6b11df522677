"""A stretch of code in which torch behaves as in a fresh process, and which leaves no trace afterwards.

Whoever trains two projects in one process gets for each the bits that a process of its own would give.
"""

import contextlib
import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Iterator

import numpy as np
import torch

from visionops_assets.training.randomness import derived_seed

_ENVIRONMENT = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "CUBLAS_WORKSPACE_CONFIG")
_CHATTY_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning_utilities", "torch.onnx", "onnxscript")


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
