"""`visionops submit --onnx`: a finished file from elsewhere becomes a challenger, or is refused in one line."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from bench import Bench
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from resources.models.records import ONNX_ARTIFACT, TAG_KIND, TAG_UNSEEN
from tests.operations_table import require_told
from tests.world import GATE
from visionops_assets.reproduction.clean_process import ReproductionFailed
from visionops_assets.training.foreign.onnx_declaration import ForeignFileRefused

# Wide enough that what answers anything sensible passes.
LENIENT = {
    **GATE,
    "require": "non_inferior",
    "min_improvement": 0.95,
    "floors": {"overall": 0.0, "batch": 0.0},
    "regressions": {"tolerance": 0.95},
}
SAID = (
    "--convention",
    "logits",
    "--channel-order",
    "grey",
    "--scale",
    "255",
    "--mean",
    "0.5",
    "--std",
    "0.25",
)
ALL_SAID = (*SAID, "--padding", "none")
UNSEEN = ("--unseen", "--why", "bought before the first image was taken")


@pytest.fixture(autouse=True)
def _somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONOPS_ACTOR", "ada@example.com")


def linear(path: Path) -> Path:
    """A file that answers three logits by one layer, as somebody's exporter wrote it."""
    random = np.random.default_rng(0)
    weight = numpy_helper.from_array(random.normal(size=(64, 3)).astype(np.float32), "weight")
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weight"], ["y"]),
        ],
        "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def submitted(bench: Bench, *typed: str, code: int = 0) -> dict[str, Any]:
    return json.loads(bench.run("submit", "shapes", *typed, "--json", code=code))


@pytest.mark.slow
def test_a_file_that_nobody_knows_the_training_of_fails_until_the_project_takes_a_persons_word(
    bench: Bench, tmp_path: Path
):
    world, file = bench.world, linear(tmp_path / "bought.onnx")
    bench.declare(gate=LENIENT)

    told = submitted(bench, "--onnx", str(file), *ALL_SAID, *UNSEEN)

    assert told["outcome"] == "refused" and world.champion() == 1
    require_told("nobody knows what a submitted file was trained on", told["reason"])
    assert told["reason"].startswith("FAIL: Training data unknown: ada@example.com says that bought.onnx")
    assert "foreign_models: allow" in told["reason"]

    bench.declare(gate={**LENIENT, "foreign_models": "allow"})
    told = submitted(bench, "--onnx", str(file), *ALL_SAID, *UNSEEN)

    assert (told["outcome"], told["version"]) == ("promoted", 2), told["reason"]
    version = world.registry.models.version("shapes", 2)
    ships = world.registry.artifacts.read_bytes(version.run_id, ONNX_ARTIFACT)
    assert version.weights_sha256 == version.onnx_sha256 == hashlib.sha256(ships).hexdigest()
    assert version.tags[TAG_KIND] == "onnx" and "ada@example.com" in version.tags[TAG_UNSEEN]
    assert "bought before" in bench.run("why", "shapes")
    assert world.latest("challenger").metadata["trained_on"].value.startswith("unknown; ada@example.com")
    with pytest.raises(
        ReproductionFailed, match=r"bought\.onnx .*submitted by ada@example.com: it was made elsewhere"
    ):
        bench.run("reproduce", "shapes")

    images = sorted((world.root / "drop").rglob("*.png"))[:4]
    told = json.loads(bench.run("predict", "shapes", *map(str, images), "--json"))
    answered = {each["image"]: each["probabilities"] for each in told["predictions"]}
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for path in images:
        pixels = (np.asarray(Image.open(path), np.float32)[None, None] / 255 - 0.5) / 0.25
        (logits,) = session.run(None, {"x": pixels})
        expected = np.exp(logits[0] - logits[0].max())
        found = list(answered[str(path)].values())
        assert found == pytest.approx((expected / expected.sum()).tolist(), abs=1e-5)

    before, runs = bench.registered, len(world.instance.get_runs())
    again = submitted(bench, "--onnx", str(file), *ALL_SAID, *UNSEEN)
    assert (again["outcome"], again["version"]) == ("unchanged", 2)
    assert (bench.registered, len(world.instance.get_runs())) == (before, runs)

    gone = Path(world.registry.runs.get(version.run_id).artifact_uri.removeprefix("file://")) / ONNX_ARTIFACT
    gone.unlink()
    assert "submit its ONNX file once more" in bench.run("status", "shapes")
    submitted(bench, "--onnx", str(file), *ALL_SAID, *UNSEEN)
    assert gone.read_bytes() == ships


@pytest.mark.slow
def test_the_same_file_said_to_be_trained_on_a_version_is_judged_anew(bench: Bench, tmp_path: Path):
    """As the refusal of the first says; what it found of another word is no verdict on this one."""
    file = linear(tmp_path / "bought.onnx")
    bench.declare(gate=LENIENT)
    refused = submitted(bench, "--onnx", str(file), *ALL_SAID, *UNSEEN)
    assert refused["outcome"] == "refused" and "with --trained-on" in refused["reason"]

    told = submitted(bench, "--onnx", str(file), *ALL_SAID, "--trained-on", "week-01")

    assert (told["outcome"], told["version"]) == ("promoted", 2), told["reason"]
    assert told["verdict"] != refused["verdict"]


@pytest.mark.stated
def test_a_file_that_was_trained_on_what_is_the_holdout_fails_and_one_of_ours_says_itself_how_it_is_used(
    bench: Bench, tmp_path: Path
):
    bench.declare(gate=LENIENT)
    world = bench.world
    champion = world.registry.models.version("shapes", 1)
    content = world.registry.artifacts.read_bytes(champion.run_id, ONNX_ARTIFACT)
    file = tmp_path / "ours.onnx"
    model = onnx.load_model_from_string(content)
    model.producer_name = "another exporter"
    file.write_bytes(model.SerializeToString())
    typed = ("--onnx", str(file), "--convention", "visionops", "--trained-on", "week-01")

    told = submitted(bench, *typed)

    assert told["outcome"] == "promoted", told["reason"]
    version = world.registry.models.version("shapes", 2)
    assert version.weights_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "ada@example.com says that ours.onnx" in bench.run("why", "shapes")


def refused(bench: Bench, *typed: str) -> str:
    with pytest.raises(ForeignFileRefused) as told:
        bench.run("submit", "shapes", *typed)
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.slow
def test_a_hostile_or_unfit_file_is_refused_in_one_line_and_nothing_is_recorded(bench: Bench, tmp_path: Path):
    before, runs = bench.registered, bench.world.registry.runs.search("shapes")
    made = tmp_path / "made"
    made.mkdir()

    def said_of(file: Path, *changed: str) -> str:
        typed = list(ALL_SAID)
        for name, value in zip(changed[::2], changed[1::2], strict=True):
            typed[typed.index(name) + 1] = value
        return refused(bench, "--onnx", str(file), *typed, *UNSEEN)

    garbage = made / "garbage.onnx"
    garbage.write_bytes(b"PK\x03\x04 not a model" * 50)
    assert "it is no ONNX file" in said_of(garbage)
    assert "cannot be read" in said_of(made / "absent.onnx")
    os.mkfifo(made / "pipe.onnx")
    assert "is no file" in said_of(made / "pipe.onnx")
    whole = linear(made / "whole.onnx")
    assert "has no side of 3" in said_of(whole, "--channel-order", "rgb")
    assert "is for detection, the project's task is classification" in said_of(whole, "--convention", "yolo")
    assert "did you mean logits" in said_of(whole, "--convention", "logit")
    assert "it is no file of the convention visionops" in refused(
        bench, "--onnx", str(whole), "--convention", "visionops", *UNSEEN
    )
    assert "give --padding" in refused(bench, "--onnx", str(whole), *SAID, *UNSEEN)
    wrong = refused(bench, "--onnx", str(whole), *ALL_SAID, "--class-order", "bar,ring", *UNSEEN)
    assert "each class of the project once" in wrong

    assert bench.registered == before
    assert bench.world.registry.runs.search("shapes") == runs


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ((), "name a RUN, or a finished file"),
        (("abc", "--onnx", "f.onnx"), "not both"),
        (("abc", "--scale", "255"), "--scale is said of a file"),
        (("--onnx", "f.onnx"), "say what its outputs mean by --convention"),
        (("--onnx", "f.onnx", "--convention", "logits"), "--trained-on VERSION, or by --unseen --why TEXT"),
        (("--onnx", "f.onnx", "--convention", "logits", "--unseen"), "--unseen takes --why TEXT"),
    ],
)
def test_what_is_typed_for_one_way_is_not_mixed_with_the_other(
    bench: Bench, typed: tuple[str, ...], said: str
):
    from typer.testing import CliRunner

    from visionops.cli.command_line import app

    told = CliRunner().invoke(app, ["submit", "shapes", *typed])
    assert told.exit_code == 2
    assert said in " ".join(told.output.replace("│", " ").split())
