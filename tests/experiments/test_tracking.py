"""`visionops.tracking`: one's own script makes the same records, and its model can become champion."""

import json
import subprocess
import sys

import pytest
import torch
from bench import Bench
from torch import nn

from resources.models.records import PROVENANCE_ARTIFACT
from tests.world import GATE
from visionops import tracking
from visionops_assets.common.errors import ModelError
from visionops_assets.reproduction.clean_process import ReproductionFailed
from visionops_assets.training.provenance import Provenance

LENIENT = {**GATE, "require": "non_inferior", "min_improvement": 0.6}


class OneLayer(nn.Module):
    """As somebody else would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.flatten(1))


@pytest.mark.slow
def test_a_script_of_ones_own_is_recorded_submitted_and_promoted(
    bench: Bench, capsys: pytest.CaptureFixture[str]
):
    bench.declare(gate=LENIENT)
    before, registry = bench.registered, bench.world.registry
    torch.manual_seed(0)
    model = OneLayer()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    with tracking.start("shapes", params={"optimiser": {"name": "adam", "lr": 0.05}}) as run:
        images, targets = run.images("train")
        for epoch in range(1, 13):
            loss = nn.functional.cross_entropy(model(run.prepared(images)), torch.from_numpy(targets))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            run.log(epoch, train_loss=loss.item())
        weights = run.log_model(model)
        with pytest.raises(ValueError, match="the holdout is the gate's alone"):
            run.images("holdout")
    printed = capsys.readouterr()
    assert f"visionops submit shapes {run.id}" in printed.out
    assert f"run {run.id} of shapes" in printed.err and "images, 8×8, grey, of dataset version" in printed.err
    recorded = registry.runs.get(run.id)
    assert recorded.finished
    assert (recorded.params["input.height"], recorded.params["input.resize"]) == ("8", "fit")
    assert "8×8" in recorded.tags["mlflow.note.content"]
    assert recorded.params["optimiser.lr"] == "0.05"
    assert recorded.metrics["validation_accuracy"] > 0.8
    assert recorded.tags["visionops.kind"] == "script"
    made = Provenance.from_json(registry.artifacts.read_bytes(run.id, PROVENANCE_ARTIFACT).decode())
    assert (made.made_with["optimiser.lr"], made.made_with["input.width"]) == (0.05, 8)
    assert bench.registered == before

    told = json.loads(bench.run("submit", "shapes", run.id, "--json"))

    assert told["outcome"] == "promoted", told["reason"]
    judged = registry.runs.get(run.id)
    assert judged.tags["visionops.verdict"] == "PASS" and judged.metrics["holdout_accuracy"] > 0.8
    assert registry.models.version("shapes", told["version"]).weights_sha256 == weights
    assert bench.world.latest("challenger").metadata["recipe"].value["optimiser.name"] == "adam"
    with pytest.raises(ReproductionFailed, match="made by one's own script"):
        bench.run("reproduce", "shapes")


def test_an_input_that_a_script_only_claims_is_recorded_as_it_is(
    bench: Bench, capsys: pytest.CaptureFixture[str]
):
    claimed = {"input": {"height": 224, "width": 8}, "lr": 0.1}
    with tracking.start("shapes", params=claimed) as run, pytest.raises(ModelError, match="not dict"):
        run.log_model({"weight": 1})  # type: ignore[arg-type]
    printed = capsys.readouterr()
    assert "input.height: recorded as they are" in printed.err and "input.width" not in printed.err
    assert "without a model" in printed.out
    recorded = bench.world.registry.runs.get(run.id)
    assert (recorded.params["input.height"], recorded.params["lr"]) == ("8", "0.1")


def test_an_exception_in_the_script_ends_its_run_as_failed(bench: Bench):
    with pytest.raises(RuntimeError, match="out of memory"), tracking.start("shapes") as run:
        raise RuntimeError("out of memory")
    assert bench.world.registry.runs.get(run.id).status == "FAILED"


def test_importing_it_imports_nothing_heavy():
    heavy = "[name for name in ('torch', 'mlflow', 'pandas', 'dagster') if name in sys.modules]"
    told = f"import sys, visionops.tracking; print({heavy})"
    assert subprocess.run([sys.executable, "-c", told], capture_output=True, text=True).stdout.strip() == "[]"
