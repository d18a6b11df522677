"""From a promoted version to a device that answers by it, on the command line, with processes as they ship."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from desk import Desk

from resources.home import ROOT
from tests.world import CLASSES, draw


def agent(command: str, device: Path, *arguments: str, fails: bool = False) -> str:
    """What the agent prints, as a process of its own."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "edge", command, "--device", str(device), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def photograph(folder: Path, seed: int) -> str:
    """A camera writes a picture; its true class."""
    from PIL import Image

    label = CLASSES[seed % len(CLASSES)]
    pixels = draw(label, np.random.default_rng(seed + 1000))
    Image.fromarray(pixels[..., 0]).save(folder / f"{seed:04d}.png")
    return label


def test_a_promoted_version_answers_on_a_device(desk_of_promoted: Desk, tmp_path: Path) -> None:
    desk = desk_of_promoted
    assert "made" in desk.run("fleet", "keys", "init", "shapes")
    device, camera = tmp_path / "cam-17", tmp_path / "camera"
    camera.mkdir()
    said = desk.run(
        "fleet",
        "provision",
        "shapes",
        "--group",
        "line-1",
        "--device",
        "cam-17",
        "--to",
        str(device),
        "--reports",
        str(tmp_path / "reports"),
    )
    assert "group line-1 is new" in said
    assert (device / "device.pem").stat().st_mode & 0o777 == 0o600
    settings = json.loads((device / "device.json").read_text())
    settings |= {"source": {"folder": str(camera)}, "sink": {"lines": "answers.jsonl"}}
    (device / "device.json").write_text(json.dumps(settings))
    assert "no_assignment" in agent("once", device, fails=True)

    said = desk.run("fleet", "publish", "shapes", "--group", "line-1", "--observe", "5")
    assert "version 1 of shapes as release 1 is assigned to line-1" in said
    truth = {f"{seed:04d}.png": photograph(camera, seed) for seed in range(12)}
    said = agent("once", device)
    assert "IDLE" in said and "release 1" in said
    lines = (device / "answers.jsonl").read_text().splitlines()
    answers = {each["name"]: each for each in map(json.loads, lines)}
    assert set(answers) == set(truth)
    assert sum(answers[name]["prediction"] == truth[name] for name in truth) >= 9
    # The product says the same of the same images.
    told = json.loads(desk.run("predict", "shapes", str(camera), "--json"))
    for each in told["predictions"]:
        found = answers[Path(each["image"]).name]
        assert found["prediction"] == each["prediction"]
        assert found["confidence"] == pytest.approx(each["confidence"], abs=1e-5)
        assert found["model"]["sha256"] == told["model"]["sha256"]
    # Once more: nothing is answered twice, and nothing is published twice.
    agent("once", device)
    assert len((device / "answers.jsonl").read_text().splitlines()) == 12
    assert "runs already" in desk.run("fleet", "publish", "shapes", "--group", "line-1", "--observe", "5")
    status = json.loads(agent("status", device, "--json"))
    assert status["phase"] == "IDLE" and status["problem"] is None and status["waiting_events"] == 0
    assert list((tmp_path / "reports" / "shapes" / "cam-17").glob("*.jsonl.gz"))
