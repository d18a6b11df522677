"""Sweeps: the same points each time, all of them checked first, and none trained twice."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from bench import Bench

from tests import processes
from tests.world import shapes_project
from visionops_assets.common.errors import TrainingError
from visionops_assets.config.recipe import Recipe
from visionops_assets.experiments import experiment
from visionops_assets.experiments.experiment import Trained, best_of
from visionops_assets.experiments.sweep import Sweep, SweepError, load_sweep, recipes_of
from visionops_assets.training.training_task import EpochReporter

RECIPE = Recipe.model_validate({"input": {"height": 8, "width": 8, "channels": 1}})


def written(folder: Path, **content: object) -> Path:
    file = folder / "search.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_a_grid_is_every_combination_in_order():
    sweep = Sweep.model_validate(
        {
            "name": "grid",
            "parameters": {
                "batch_size": [16, 32],
                "optimiser.lr": {"min": "1e-4", "max": 1e-2, "scale": "log", "steps": 3},
            },
        }
    )
    points = sweep.points()
    assert [point["batch_size"] for point in points] == [16, 16, 16, 32, 32, 32]
    assert [round(point["optimiser.lr"], 6) for point in points[:3]] == [0.0001, 0.001, 0.01]


def test_a_random_search_draws_the_same_points_each_time_within_its_ranges():
    content = {
        "name": "draws",
        "method": "random",
        "runs": 200,
        "parameters": {
            "optimiser.lr": {"min": 1e-4, "max": 1e-1, "scale": "log"},
            "epochs": {"min": 2, "max": 5},
        },
    }
    points = Sweep.model_validate(content).points()
    assert points == Sweep.model_validate(content).points()
    assert points != Sweep.model_validate({**content, "seed": 1}).points()
    assert {point["epochs"] for point in points} == {2, 3, 4, 5}
    assert all(1e-4 <= point["optimiser.lr"] <= 1e-1 for point in points)
    # Two of three decades lie below 0.01: of 200 draws 133 are expected there, with a deviation of 7.
    assert 105 < sum(point["optimiser.lr"] < 1e-2 for point in points) < 161


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"parameters": {"epochs": [1, 0]}},
            "parameters: epochs: input should be greater than or equal to 1",
        ),
        (
            {"parameters": {"optimiser.lr": {"min": 1, "max": 200, "steps": 2}}},
            "optimiser.lr: input should be less",
        ),
        (
            {"method": "random", "runs": 1, "parameters": {"optimiser.lr": {"min": 1e-9, "max": 101}}},
            "optimiser.lr: input should be less than or equal to 100",
        ),
        ({"parameters": {"epoch": [1, 2]}}, "epoch: is not a field of a recipe"),
        ({"parameters": {"epochs": {"min": 1, "max": 5}}}, "needs `steps` for the range of epochs"),
        (
            {"parameters": {"epochs": {"min": 5, "max": 1, "steps": 2}}},
            "parameters.epochs: min must be less than max",
        ),
        ({"parameters": {"epochs": 3}}, "parameters.epochs: expected a list of values, or a range"),
        ({"method": "random", "parameters": {"epochs": [1]}}, "method random needs `runs`"),
        ({"parameter": {"epochs": [1]}}, "parameters: is required"),
        (
            {"parameters": {"seed": {"min": 0, "max": 99999, "steps": 10000}, "epochs": [1, 2]}},
            "20,000 points",
        ),
    ],
)
def test_a_sweep_that_cannot_be_trained_is_refused_by_file_and_field(
    tmp_path: Path, content: dict, said: str
):
    file = written(tmp_path, **content)
    with pytest.raises(SweepError) as refused:
        recipes_of(load_sweep(file), RECIPE, file)
    assert said in str(refused.value)


def test_the_best_is_chosen_on_validation_and_a_failed_one_never():
    def run(name: str, **metrics: float) -> Trained:
        return Trained(name, name, None, {}, False, "0", metrics)

    results = [
        run("low", validation_accuracy=0.8, validation_loss=0.1),
        run("late", validation_accuracy=0.9, validation_loss=0.5),
        run("best", validation_accuracy=0.9, validation_loss=0.4),
        Trained(None, "diverged", None, {}, False, None, error="diverged"),
    ]
    best = best_of(results, "classification")
    assert best is not None
    assert best.run_id == "best"
    assert best_of(results[3:], "classification") is None


def test_a_killed_sweep_goes_on_where_it_was_and_trains_nothing_twice(bench: Bench, tmp_path: Path, count):
    seeds = list(range(1, count(2, 3) + 1))
    file = written(tmp_path, parameters={"seed": seeds, "epochs": [2]})
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path / "dagster")}
    before = bench.registered
    known = {run.id for run in bench.world.registry.runs.search("shapes")}
    # Trainings of two epochs each: the third epoch reported is the second training's first.
    for epoch in (3, *range(1, count(1, 4))):
        killed = processes.visionops(
            "train", "shapes", "--sweep", str(file),
            environment=environment, said=tmp_path / "said", before=processes.Dying(EpochReporter, "_report", epoch),
        )  # fmt: skip
        assert killed.code == -signal.SIGKILL, killed.said

    told = json.loads(bench.run("train", "shapes", "--sweep", str(file), "--json"))

    assert told["sweep"] == "search"
    assert [each["values"]["seed"] for each in told["runs"]] == seeds
    assert told["runs"][0]["reused"], "the first was finished when the second was killed"
    found = [run for run in bench.world.registry.runs.search("shapes") if run.id not in known]
    assert len(found) == len(seeds)
    assert all(run.finished and run.tags["visionops.sweep"] == "search" for run in found)
    assert bench.registered == before
    again = json.loads(bench.run("train", "shapes", "--sweep", str(file), "--json"))
    assert all(each["reused"] for each in again["runs"])


def test_a_training_that_diverges_fails_alone(monkeypatch: pytest.MonkeyPatch):
    def diverged(*arguments: object, **options: object) -> None:
        raise TrainingError("training diverged in epoch 1")

    monkeypatch.setattr(experiment, "challenge", diverged)
    heard: list[Trained] = []
    nothing: Any = None
    results = experiment.train_all(
        shapes_project(),
        nothing,
        [experiment.Attempt({"seed": seed}, RECIPE, f"seed {seed}") for seed in (1, 2)],
        nothing,
        hearing=experiment.Hearing(on_attempt=heard.append),
    )
    assert [each.error for each in results] == ["training diverged in epoch 1"] * 2
    assert heard == results
