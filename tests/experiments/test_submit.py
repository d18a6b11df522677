"""`visionops submit`: an experiment's run becomes the challenger of a decision, once, through the gate."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bench import Bench

from resources.models.records import ONNX_ARTIFACT, TAG_COMMIT, WEIGHTS_ARTIFACT, RunNotFound
from tests.world import GATE
from visionops_assets.config.project import ProjectError
from visionops_assets.dataset.versions.annotations import read_annotations, write_annotations
from visionops_assets.dataset.versions.layout import annotations_path
from visionops_assets.training.challenger import SubmissionRefused

# Wide enough that an honest challenger passes.
LENIENT = {**GATE, "require": "non_inferior", "min_improvement": 0.6}


def trained(bench: Bench, *values: str) -> str:
    """The run of an experiment."""
    given = [text for value in values for text in ("--set", value)]
    return json.loads(bench.run("train", "shapes", *given, "--json"))["best"]


def submitted(bench: Bench, run: str) -> dict[str, Any]:
    return json.loads(bench.run("submit", "shapes", run, "--json"))


def test_a_run_is_judged_and_promoted_once_and_submitting_it_again_changes_nothing(bench: Bench):
    bench.declare(gate=LENIENT)
    world = bench.world
    run = trained(bench, "epochs=5")
    assert world.champion() == 1

    told = submitted(bench, run)

    assert (told["outcome"], told["version"]) == ("promoted", 2)
    version = world.registry.models.version("shapes", 2)
    assert version.run_id == run
    shown = world.latest("challenger").metadata
    assert shown["submitted"].value is True
    assert shown["recipe"].value["epochs"] == 5
    assert world.latest("in_production").metadata["version"].value == 2
    (listed,) = [name for name in bench.registered.tags if told["verdict"] in name]
    assert run in bench.registered.tags[listed]

    after, runs = bench.registered, len(world.instance.get_runs())
    again = submitted(bench, run)
    assert (again["outcome"], again["version"]) == ("unchanged", 2)
    assert bench.registered == after
    assert len(world.instance.get_runs()) == runs
    assert world.tick().run_id is None, "the sensor asked for its own recipe's decision already"


@pytest.mark.slow
def test_a_run_that_trained_on_what_is_the_holdout_now_fails_and_spends_significance_once(bench: Bench):
    bench.declare(gate=LENIENT)
    run = trained(bench, "epochs=5")
    file = annotations_path("week-01", "shapes")
    lakefs = bench.world.lakefs
    table = pd.DataFrame(read_annotations(lakefs.read("shapes", "main", file), file).to_pandas())
    seen = table.index[table["split"] == "train"][:3]
    table.loc[seen, "split"] = "holdout"
    lakefs.write("shapes", "main", file, write_annotations(table, file))
    lakefs.save("shapes", "main", "three images change sides", {})

    told = submitted(bench, run)

    assert told["outcome"] == "refused"
    assert "3 holdout images" in told["reason"]
    assert bench.world.champion() == 1
    after = bench.registered
    assert sum(name.startswith("visionops.decision") for name in after.tags) == 2
    assert submitted(bench, run)["verdict"] == told["verdict"]
    assert bench.registered == after


def test_what_cannot_be_submitted_is_refused_by_name_and_starts_nothing(bench: Bench):
    world, registry = bench.world, bench.world.registry
    run = trained(bench, "epochs=1")
    folder = Path(registry.runs.get(run).artifact_uri.removeprefix("file://"))
    before, runs = bench.registered, len(world.instance.get_runs())

    def refusal(run_id: str, project: str = "shapes", kind: type[Exception] = SubmissionRefused) -> str:
        with pytest.raises(kind) as refused:
            bench.run("submit", project, run_id)
        return str(refused.value)

    assert "does not exist" in refusal("0" * 32, kind=RunNotFound)
    foreign = registry.runs.start("signs", "of another project", {})
    assert "no project is called signs" in refusal(foreign.id, "signs", kind=ProjectError)
    assert "is of project signs, not of shapes" in refusal(foreign.id)
    unfinished = registry.runs.start("shapes", "half", {})
    assert "is RUNNING, not FINISHED" in refusal(unfinished.id)
    registry.runs.end(unfinished.id)
    assert "holds no model" in refusal(unfinished.id)

    model = (folder / ONNX_ARTIFACT).read_bytes()
    (folder / ONNX_ARTIFACT).write_bytes(model + b" ")
    assert f"{ONNX_ARTIFACT} of run {run} was altered" in refusal(run)
    (folder / ONNX_ARTIFACT).write_bytes(model)
    weights = (folder / WEIGHTS_ARTIFACT).rename(folder / "elsewhere")
    assert f"has no artifact {WEIGHTS_ARTIFACT}" in refusal(run)
    weights.rename(folder / WEIGHTS_ARTIFACT)
    registry.runs.set_tags(run, {TAG_COMMIT: "ab" * 32})
    assert "which is gone" in refusal(run)

    assert bench.registered == before
    assert len(world.instance.get_runs()) == runs
