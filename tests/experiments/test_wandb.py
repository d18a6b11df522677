"""Weights & Biases beside or instead of MLflow: it is told the same, and changes no bit."""

import importlib.util
import json
import sys

import pytest
from bench import Bench

from resources.models.records import FAILED
from resources.models.trackers import WandbMissing

needs_wandb = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="wandb is an extra and not installed"
)


@pytest.mark.stated
@needs_wandb
def test_without_a_key_the_run_is_kept_offline_and_the_weights_are_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(bench.world.root))
    registry, train = bench.world.registry, ("train", "shapes", "--set", "epochs=2", "--json")
    (without,) = json.loads(bench.run(*train))["runs"]
    registry.runs.end(without["run_id"], FAILED)
    bench.declare(tracking=["wandb"])

    (with_it,) = json.loads(bench.run(*train))["runs"]

    assert "no key (WANDB_API_KEY or `wandb login`), so the run is kept offline" in bench.remarks
    assert not with_it["reused"]
    assert with_it["run_id"] == without["run_id"]
    assert with_it["weights_sha256"] == without["weights_sha256"]
    (folder,) = (bench.world.root / "wandb" / "wandb").glob("offline-run-*")
    content = next(folder.glob(f"run-{with_it['run_id']}.wandb")).read_bytes()
    assert b"validation_accuracy" in content
    assert b"optimiser.lr" in content


def test_a_missing_package_is_one_message_before_anything_is_trained(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    bench.declare(tracking=["mlflow", "wandb"])
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(WandbMissing, match=r"pip install 'visionops\[wandb\]'"):
        bench.run("train", "shapes", "--set", "epochs=1")
