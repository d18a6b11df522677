"""The same request gives the same bits: whoever trains, how often, with how many workers, however interrupted."""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_world import Processes, request, train_here

from visionops_assets.training.train import TrainingResult, train

HERE = Path(__file__).parent


def _script(workdir: Path) -> str:
    return (
        "from pathlib import Path; from training_world import train_here; "
        f"print(train_here(Path({str(workdir)!r})).weights_sha256)"
    )


@pytest.mark.stated
def test_a_fresh_interpreter_gives_the_same_weights(tmp_path: Path, trained: TrainingResult) -> None:
    path = os.pathsep.join((str(HERE), str(HERE.parents[1])))
    finished = subprocess.run(
        [sys.executable, "-c", _script(tmp_path)],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout.strip() == trained.weights_sha256


@pytest.mark.parametrize("workers", [1, 2])
def test_loader_workers_do_not_change_the_weights(
    workers: int, processes: Processes, tmp_path: Path, trained: TrainingResult
) -> None:
    assert processes.train(tmp_path, loader_workers=workers) == trained.weights_sha256


def test_training_killed_in_an_epoch_resumes_to_the_same_weights(
    processes: Processes, workdir: Path, trained: TrainingResult, count: Callable[[int, int], int]
) -> None:
    for epoch in (2, 1, 4)[: count(1, 3)]:
        place = workdir / str(epoch)
        processes.train_until_killed(place, kill_in_epoch=epoch)
        digest, restored = processes.train_with_history(place)
        assert digest == trained.weights_sha256
        assert restored == list(range(1, epoch))


def test_training_killed_while_writing_resumes_to_the_same_weights(
    processes: Processes, workdir: Path, trained: TrainingResult, count: Callable[[int, int], int]
) -> None:
    # Four checkpoints, then the weights.
    for write in (2, 5, 1, 4)[: count(2, 4)]:
        place = workdir / str(write)
        processes.train_until_killed(place, kill_in_epoch=write, kill_while_saving=True)
        assert not (place / "weights.safetensors").exists()
        assert processes.train(place) == trained.weights_sha256


def test_training_killed_again_and_again_at_any_moment_ends_in_the_same_weights(
    processes: Processes, workdir: Path, count: Callable[[int, int], int]
) -> None:
    options: dict[str, Any] = {"epochs": 12, "identity": "long"}
    expected = processes.train(workdir / "undisturbed", **options)
    moment = random.Random(0)
    for number in range(count(1, 20)):
        place = workdir / str(number)
        for _ in range(3):
            process, _ = processes.start(place, **options)
            process.join(moment.uniform(0.05, 0.8))
            process.kill()
            process.join()
        assert processes.train(place, **options) == expected


def test_a_lightning_module_with_an_epoch_schedule_resumes_to_the_same_weights(
    processes: Processes, tmp_path: Path
) -> None:
    options = {"model": {"class_path": "foreign_models.OwnLightning"}}
    expected = processes.train(tmp_path / "undisturbed", **options)
    processes.train_until_killed(tmp_path / "killed", kill_in_epoch=3, **options)
    assert processes.train(tmp_path / "killed", **options) == expected


def test_two_trainings_in_one_process_equal_each_in_its_own(
    processes: Processes, tmp_path: Path, trained: TrainingResult
) -> None:
    other = {"seed": 7, "precision": "32-true", "threads": 2}
    alone = processes.train(tmp_path / "alone", **other)
    assert train_here(tmp_path / "a", **other).weights_sha256 == alone
    assert train_here(tmp_path / "b").weights_sha256 == trained.weights_sha256
    assert train_here(tmp_path / "c", **other).weights_sha256 == alone


def test_a_finished_training_is_not_run_again_by_the_same_request(
    workdir: Path, trained: TrainingResult
) -> None:
    train_here(workdir)
    again = train_here(workdir)
    assert again.weights_sha256 == trained.weights_sha256
    assert all(report.restored for report in again.history)


def test_a_checkpoint_of_another_request_is_not_taken_up(workdir: Path) -> None:
    train_here(workdir)
    result = train_here(workdir, seed=1)
    assert not any(report.restored for report in result.history)


def test_training_in_a_thread_gives_the_same_weights(workdir: Path, trained: TrainingResult) -> None:
    results: list[TrainingResult] = []
    thread = threading.Thread(target=lambda: results.append(train_here(workdir)))
    thread.start()
    thread.join()
    assert results[0].weights_sha256 == trained.weights_sha256


def test_surroundings_neither_leak_in_nor_change(workdir: Path, trained: TrainingResult) -> None:
    threads = torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)
    before = (
        torch.get_rng_state(),
        random.getstate(),
        np.random.get_state(legacy=False)["state"]["key"].tolist(),
    )
    environment = dict(os.environ)
    try:
        with torch.no_grad():
            result = train(request(threads=1), workdir)
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert result.weights_sha256 == trained.weights_sha256
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == before[2]
    assert dict(os.environ) == environment
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
