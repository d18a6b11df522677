"""The same, on a real MLflow: processes killed with SIGKILL, and processes that promote at once."""

import os
import shutil
import signal
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from promotion_world import PROJECT, digest, hour, judged

from resources.models.lock import PromotionLocked
from resources.models.records import (
    ONNX_ARTIFACT,
    TAG_ONNX,
    TAG_PARTITION,
    TAG_WEIGHTS,
    WEIGHTS_ARTIFACT,
    Run,
)
from resources.models.registry import ModelRegistry
from tests.processes import context as processes
from tests.world import copy_registry
from visionops_assets.champions.history import production
from visionops_assets.common.errors import ChampionMoved, DigestMismatch
from visionops_assets.promotion.production_change import STEPS, Attribution
from visionops_assets.promotion.promote import promote
from visionops_assets.promotion.rollback import release, rollback


def registry_in(folder: Path) -> ModelRegistry:
    return ModelRegistry(tracking_uri=f"sqlite:///{folder}/mlflow.db")


def trained_on(registry: ModelRegistry, name: str) -> Run:
    """A finished MLflow run with its files."""
    weights, onnx = f"weights of {name}".encode(), f"onnx of {name}".encode()
    tags = {TAG_WEIGHTS: digest(weights), TAG_ONNX: digest(onnx), TAG_PARTITION: f"partition-of-{name}"}
    run = registry.runs.start(PROJECT, name, tags)
    registry.artifacts.put_bytes(run.id, WEIGHTS_ARTIFACT, weights)
    registry.artifacts.put_bytes(run.id, ONNX_ARTIFACT, onnx)
    registry.runs.end(run.id)
    return registry.runs.get(run.id)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> tuple[Path, dict[str, str]]:
    """A store where version 2 is champion and `three` and `four` passed against it; verdicts by name."""
    folder = tmp_path_factory.mktemp("begun") / "mlflow"
    copy_registry(mlflow_template, folder)
    registry = registry_in(folder)
    for number, name in enumerate(("one", "two"), start=1):
        verdict = judged(registry, trained_on(registry, name))
        promote(registry, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(number))
    names = ("three", "four")
    return folder, {name: judged(registry, trained_on(registry, name)).identity for name in names}


@pytest.fixture
def store(begun: tuple[Path, dict[str, str]], tmp_path: Path) -> Path:
    """A copy of the store without its locks; a copy follows the addresses of its files by itself."""
    shutil.copytree(begun[0], tmp_path / "mlflow", ignore=shutil.ignore_patterns("locks"))
    return tmp_path / "mlflow"


def change_and_die(folder: Path, verdict: str | None, step: str) -> None:
    """Promote, or roll back where no verdict is given, and be killed after `step`."""

    def die(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    registry = registry_in(folder)
    if verdict is None:
        rollback(registry, project=PROJECT, by=Attribution("ada", hour(3), "bad"), on_step=die)
    else:
        promote(registry, project=PROJECT, verdict=verdict, who="sensor", when=hour(3), on_step=die)


def killed(folder: Path, verdict: str | None, step: str) -> None:
    child = processes.Process(target=change_and_die, args=(folder, verdict, step))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL


def require_agreement(registry: ModelRegistry, version: int) -> None:
    now = production(registry.models.get(PROJECT))
    assert now.version == version and now.incomplete is None and not now.foreign
    assert now.since is not None and now.since.to_version == version
    assert now.intervals[-1].version == version


@pytest.mark.parametrize("step", STEPS)
def test_after_promotion_is_killed_at_any_step_the_next_one_goes_through(
    store: Path, begun: tuple[Path, dict[str, str]], step: str
) -> None:
    three, four = begun[1]["three"], begun[1]["four"]
    killed(store, three, step)
    registry = registry_in(store)
    if step == "aliased":
        require_agreement(registry, 3)
        again = promote(registry, project=PROJECT, verdict=three, who="sensor", when=hour(4))
        assert not again.changed
        return
    assert production(registry.models.get(PROJECT)).version == 2
    change = promote(registry, project=PROJECT, verdict=four, who="sensor", when=hour(4))
    require_agreement(registry, change.version or 0)
    with pytest.raises(ChampionMoved):
        promote(registry, project=PROJECT, verdict=three, who="sensor", when=hour(5))


@pytest.mark.parametrize("step", [step for step in STEPS if step != "registered"])
def test_after_rollback_is_killed_at_any_step_the_next_one_goes_through(store: Path, step: str) -> None:
    killed(store, None, step)
    registry = registry_in(store)
    rollback(registry, project=PROJECT, by=Attribution("ada", hour(4), "bad"), to=1)
    require_agreement(registry, 1)
    assert production(registry.models.get(PROJECT)).on_hold


def test_a_rollback_goes_through_after_a_killed_promotion_and_the_other_way_round(
    begun: tuple[Path, dict[str, str]], store: Path
) -> None:
    registry = registry_in(store)
    killed(store, begun[1]["three"], "recorded")
    rollback(registry, project=PROJECT, by=Attribution("ada", hour(4), "bad"), to=1)
    require_agreement(registry, 1)
    release(registry, project=PROJECT, by=Attribution("ada", hour(5), "found it"))
    rollback(registry, project=PROJECT, by=Attribution("ada", hour(6), "it was 1"), to=2)
    killed(store, None, "recorded")
    release(registry, project=PROJECT, by=Attribution("ada", hour(7), "it was neither"))
    change = promote(registry, project=PROJECT, verdict=begun[1]["four"], who="sensor", when=hour(8))
    require_agreement(registry, change.version or 0)


def promote_together(folder: Path, verdict: str, ready: Barrier, results: Path) -> None:
    """Promote when the other process is ready too, and write down how it went."""
    registry = registry_in(folder)
    registry.models.get(PROJECT)
    ready.wait(60)
    try:
        change = promote(registry, project=PROJECT, verdict=verdict, who=verdict[:8], when=hour(3))
        answer = f"version {change.version}"
    except ChampionMoved as error:
        answer = str(error)
    results.joinpath(verdict).write_text(answer)


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told_to_evaluate_again(
    begun: tuple[Path, dict[str, str]], tmp_path: Path, count
) -> None:
    for attempt in range(count(2, 20)):
        folder = tmp_path / str(attempt)
        shutil.copytree(begun[0], folder, ignore=shutil.ignore_patterns("artifacts", "locks"))
        results = folder / "results"
        results.mkdir()
        ready = processes.Barrier(2)
        rivals = [
            processes.Process(target=promote_together, args=(folder, verdict, ready, results))
            for verdict in begun[1].values()
        ]
        for rival in rivals:
            rival.start()
        for rival in rivals:
            rival.join(120)
        won, lost = sorted((each.read_text() for each in results.iterdir()), reverse=True)
        assert won == "version 3" and "champion moved, evaluate again" in lost
        require_agreement(registry_in(folder), 3)


def hold_the_lock(folder: Path, ready: Barrier) -> None:
    """Take the lock and keep it."""
    with registry_in(folder).lock(PROJECT):
        ready.wait(60)
        signal.pause()


def test_lock_of_a_live_holder_is_waited_for_and_of_a_killed_one_is_free(tmp_path: Path) -> None:
    ready = processes.Barrier(2)
    child = processes.Process(target=hold_the_lock, args=(tmp_path, ready))
    child.start()
    ready.wait(60)
    registry = registry_in(tmp_path)
    with (
        pytest.raises(PromotionLocked, match=f"locked by process {child.pid} since"),
        registry.lock(PROJECT, 0.2),
    ):
        pass
    with registry.lock("another project", 0.2):
        pass
    child.kill()
    child.join(60)
    with registry.lock(PROJECT, 5):
        pass


def test_run_with_altered_weights_on_disk_is_not_promoted(begun: tuple[Path, dict[str, str]]) -> None:
    registry = registry_in(begun[0])
    run = trained_on(registry, "altered")
    verdict = judged(registry, run)
    registry.artifacts.put_bytes(run.id, WEIGHTS_ARTIFACT, b"other weights")
    with pytest.raises(DigestMismatch, match=run.id):
        promote(registry, project=PROJECT, verdict=verdict.identity, who="sensor", when=hour(3))
