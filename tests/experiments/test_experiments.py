"""`visionops train`: experiments are runs that compare well, and change nothing that decides."""

import json

import pytest
from bench import Bench

from visionops_assets.config.recipe import Recipe
from visionops_assets.experiments.sweep import OverrideError, overridden, parse_assignments

RECIPE = Recipe.model_validate({"input": {"height": 8, "width": 8, "channels": 1}})


def test_the_recipe_as_it_is_gives_the_champions_bits_and_another_one_changes_nothing_that_decides(
    bench: Bench,
):
    before, versions = bench.registered, bench.world.registry.models.versions("shapes")

    (same,) = json.loads(bench.run("train", "shapes", "--json"))["runs"]
    assert same["reused"]
    assert same["weights_sha256"] == versions[0].weights_sha256

    told = json.loads(
        bench.run("train", "shapes", "--set", "epochs=1", "--set", "optimiser.lr=0.01", "--json")
    )

    (made,) = told["runs"]
    assert told["best"] == made["run_id"]
    assert told["metric"] == "validation_accuracy"
    run = bench.world.registry.runs.get(made["run_id"])
    assert run.finished
    assert (run.params["epochs"], run.params["optimiser.lr"]) == ("1", "0.01")
    assert run.tags["visionops.kind"] == "experiment"
    assert "validation_accuracy" in run.metrics
    assert bench.registered == before, "no alias, no history, no decision and no level was touched"
    assert bench.world.registry.models.versions("shapes") == versions


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("epochs=0", "--set: epochs: input should be greater than or equal to 1 (found 0)"),
        ("optimiser.speed=1", "--set: optimiser.speed: is not a field of a recipe"),
        (
            "augmentations.3.degrees=9",
            "augmentations.3: there is nothing to set, augmentations is a list of 0",
        ),
        ("epochs.first=2", "epochs.first: there is nothing to set, epochs is 20"),
        ("epochs", "expected path=value"),
    ],
)
def test_a_value_outside_the_schema_is_refused_by_field(given: str, said: str):
    with pytest.raises(OverrideError) as refused:
        overridden(RECIPE, parse_assignments([given]), "--set")
    assert said in str(refused.value)


def test_values_are_yaml_and_a_part_that_is_absent_is_made():
    values = parse_assignments(["optimiser.lr=1e-3", "optimiser.name=sgd", "model.init_args.width=8"])
    made = overridden(RECIPE, values, "--set")
    assert (made.optimiser.lr, made.optimiser.name, made.model.init_args) == (0.001, "sgd", {"width": 8})
