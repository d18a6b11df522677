"""Ticks at the same time: one does the work, the others say so or find it done, and none fails."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import dagster as dg
import pytest
from homes import Home

from resources.storage import Scratch
from tests import dagster_storage, processes
from tests.operations_table import require_told
from tests.world import shapes_project
from visionops import bootstrap, services
from visionops.tick import alone

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Together:
    """Lets processes go on once all have come here."""

    barrier: Barrier

    def __call__(self) -> None:
        self.barrier.wait(processes.WITHIN)


def test_of_three_ticks_at_once_one_promotes_and_none_fails(
    new_home: Callable[[], Home], undisturbed: tuple[str, int]
) -> None:
    home, together = new_home(), Together(processes.context.Barrier(3))
    running = [home.start("tick", said=f"said-{number}", before=together) for number in range(3)]
    ended = [each.ended() for each in running]
    assert [each.code for each in ended] == [0, 0, 0], ended
    promoted = [each for each in ended if "shapes: promoted" in each.said]
    assert len(promoted) == 1, ended
    others = [each.said for each in ended if each not in promoted]
    assert all(
        "shapes: nothing to do: another `visionops tick` works on it (process" in said for said in others
    )
    for said in others:
        require_told("two `visionops tick` run at once", said)
    assert home.champion() == undisturbed


def open_dagster(together: Together) -> None:
    together()
    bootstrap.prepare()
    with services.dagster() as instance:
        assert instance.get_runs() == []


def test_commands_that_find_a_new_home_at_once_make_its_dagster_once(tmp_path: Path) -> None:
    together = Together(processes.context.Barrier(4))
    environment = {"VISIONOPS_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}
    running = [
        processes.start(open_dagster, together, environment=environment, said=tmp_path / str(number))
        for number in range(4)
    ]
    assert [each.ended() for each in running] == [processes.Ended(0, "")] * 4


def train_and_clean_up(root: str, together: Together) -> None:
    scratch = Scratch(root=root)
    together()
    with scratch.exclusive_training("0123456789abcdef") as folder:
        (folder / "weights").write_text("made by one")
        (folder / "weights").unlink()
        folder.rmdir()


def test_who_waits_for_a_training_whose_folder_is_removed_goes_on_then(tmp_path: Path) -> None:
    together = Together(processes.context.Barrier(3))
    running = [
        processes.start(
            train_and_clean_up, str(tmp_path), together, environment={}, said=tmp_path / str(number)
        )
        for number in range(3)
    ]
    assert [each.ended() for each in running] == [processes.Ended(0, "")] * 3


def test_a_tick_is_told_of_another_though_dagsters_folder_was_deleted_meanwhile(tmp_path: Path) -> None:
    root = tmp_path / "dagster"
    root.mkdir()
    project = shapes_project()
    with dg.instance_for_test(temp_dir=str(root), overrides=dagster_storage.QUIET) as instance:
        with alone(instance, project, wait=False) as nobody:
            assert nobody is None
            shutil.rmtree(root)
            root.mkdir()
            with alone(instance, project, wait=False) as other:
                assert other is not None and f"process {os.getpid()} " in other
        with alone(instance, project, wait=False) as nobody:
            assert nobody is None
