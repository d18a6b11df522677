"""`visionops train`: experiments are runs that compare well, and change nothing that decides."""

import json

import pytest
from conftest import Bench

from visionops_assets.experiments.overrides import OverrideError


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
        ("epochs=0", "--set: epochs: input should be greater than or equal to 1"),
        ("optimiser.speed=1", "--set: optimiser.speed: is not a field of a recipe"),
        ("augmentations.3.degrees=9", "--set: augmentations.3.degrees: there is nothing to set"),
        ("epochs", "expected path=value"),
    ],
)
def test_a_value_outside_the_schema_is_refused_before_anything_is_trained(
    bench: Bench, given: str, said: str
):
    runs = bench.world.registry.runs.search("shapes")
    with pytest.raises(OverrideError) as refused:
        bench.run("train", "shapes", "--set", given)
    assert said in str(refused.value)
    assert bench.world.registry.runs.search("shapes") == runs
