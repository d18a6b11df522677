"""`visionops predict`: the model in production on files, and what the log keeps of it."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from logged import png, sha256
from PIL import Image
from production_world import ProductionWorld
from typer.testing import CliRunner, Result

from edge.onnx_model import DEFAULT_MIN_SCORE
from resources.storage import Spool
from visionops import services
from visionops.cli.command_line import app
from visionops.serving import prediction_log
from visionops_assets.monitoring.inference_log import IDENTITY


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Seventy images: more than one batch."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(70):
        (folder / f"{number:02}.png").write_bytes(png(number))
    return folder


def predict(world: ProductionWorld, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setattr(services, "project", lambda name: world.project)
    monkeypatch.setattr(services, "registry", lambda: world.registry)
    monkeypatch.setattr(services, "spool", lambda: world.spool)
    return CliRunner().invoke(app, ["predict", "shapes", *arguments])


def test_every_image_is_answered_by_the_model_that_is_named(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, images: Path
):
    version = models.register(1)
    models.put_in_production(version)
    found = predict(models, monkeypatch, str(images), "--json")
    assert found.exit_code == 0, found.output
    told: dict[str, Any] = json.loads(found.stdout)
    assert told["model"]["sha256"] == version.weights_sha256
    assert [Path(one["image"]).name for one in told["predictions"]] == [
        f"{number:02}.png" for number in range(70)
    ]
    alone = json.loads(predict(models, monkeypatch, str(images / "69.png"), "--json").stdout)["predictions"]
    assert alone[0]["probabilities"] == pytest.approx(told["predictions"][69]["probabilities"], abs=1e-6)
    assert models.spool.files("shapes") == []


def test_what_is_logged_is_what_was_said(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, images: Path
):
    models.put_in_production(models.register(1))
    arguments = (str(images), "--log", "--device", "desk-1", "--json")
    told = json.loads(predict(models, monkeypatch, *arguments).stdout)["predictions"]
    ((_, content),) = models.spool.read_each("shapes", models.spool.files("shapes"))
    rows = pq.read_table(pa.BufferReader(content)).to_pylist()
    assert [row["image_sha256"] for row in rows] == [sha256(png(number)) for number in range(70)]
    assert [row["prediction"] for row in rows] == [one["prediction"] for one in told]
    assert {row["device"] for row in rows} == {"desk-1"}
    assert len({row["timestamp"] for row in rows}) == 70


class Killed(BaseException):
    """A process that ends here."""


class Spooled:
    """What reached the spool, its files taken away as the collector does where it `collects`."""

    def __init__(self, world: ProductionWorld, collects: bool) -> None:
        self._spool, self._collects = world.spool, collects
        self._files: dict[str, bytes] = {}

    def rows(self) -> list[tuple[Any, ...]]:
        """Identities of all rows that ever were in a file there."""
        names = self._spool.files("shapes")
        self._files |= dict(self._spool.read_each("shapes", names))
        if self._collects:
            self._spool.remove("shapes", names)
        found = [pq.read_table(pa.BufferReader(each)).to_pylist() for each in self._files.values()]
        return sorted(tuple(row[name] for name in IDENTITY) for rows in found for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("collects", [False, True])
@pytest.mark.parametrize("moment", ["before it is put", "before that is noted", "before it is told"])
def test_a_command_that_was_killed_logs_once_when_it_is_typed_again(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, images: Path, moment: str, collects: bool
):
    models.put_in_production(models.register(1))
    monkeypatch.setattr(prediction_log, "FLUSH_ROWS", 40)
    line = (str(images), "--log", "--device", "desk-1", "--json")
    spooled = Spooled(models, collects)
    owner, name, number = {
        "before it is put": (Spool, "put", 2),
        "before that is noted": (Spool, "note", 4),
        "before it is told": (typer, "echo", 1),
    }[moment]
    original, calls = getattr(owner, name), itertools.count(1)

    def dying(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            raise Killed
        return original(*arguments, **options)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(owner, name, dying)
        predict(models, patched, *line)
    before = spooled.rows()
    assert len(before) == {"before it is put": 40, "before that is noted": 64}.get(moment, 70)
    assert predict(models, monkeypatch, *line).exit_code == 0
    after = spooled.rows()
    assert len(after) == 70 and set(before) <= set(after)
    assert models.spool.notes("shapes", "desk-1") == {}
    assert predict(models, monkeypatch, *line).exit_code == 0
    assert len(spooled.rows()) == 140, "what was done is another prediction when it is typed again"


def test_a_note_that_is_none_or_too_old_is_taken_away(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, images: Path
):
    models.put_in_production(models.register(1))
    line = (str(images), "--log", "--device", "desk-1")

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(typer, "echo", die)
        predict(models, patched, *line)
    ((name, content),) = models.spool.notes("shapes", "desk-1").items()
    old = {**json.loads(content), "times": ["2026-01-01T00:00:00+00:00"] * 70}
    models.spool.note("shapes", "desk-1", name, json.dumps(old).encode())
    for number, other in enumerate([b"\xff", b"{}", b'{"times": []}', b"[" * 10_000]):
        models.spool.note("shapes", "desk-1", f"other-{number}", other)
    assert predict(models, monkeypatch, *line).exit_code == 0
    assert models.spool.notes("shapes", "desk-1") == {}
    assert len(Spooled(models, False).rows()) == 140


def test_an_image_that_cannot_be_read_is_named_and_the_others_answered(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, images: Path
):
    models.put_in_production(models.register(1))
    (images / "10.png").write_bytes(b"no image")
    found = predict(models, monkeypatch, str(images), "--json")
    assert found.exit_code == 1
    told = json.loads(found.stdout)["predictions"]
    assert [Path(one["image"]).name for one in told if "error" in one] == ["10.png"]
    assert len(told) == 70


def test_what_is_no_image_in_a_folder_is_skipped_and_named(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, images: Path
):
    models.put_in_production(models.register(1))
    labels = images / "labels.csv"
    labels.write_text("path,label\n")
    found = predict(models, monkeypatch, str(images), "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["skipped"] == [str(labels)]
    assert len(told["predictions"]) == 70
    assert predict(models, monkeypatch, str(labels)).exit_code == 1, "asked for by name, it is answered for"


def test_a_folder_answers_for_what_lies_in_it_alone(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, images: Path, tmp_path: Path
):
    models.put_in_production(models.register(1))
    (tmp_path / "elsewhere.png").write_bytes(png(99))
    (images / "away.png").symlink_to(tmp_path / "elsewhere.png")
    (images / "within.png").symlink_to("03.png")
    os.mkfifo(images / "pipe.png")
    found = predict(models, monkeypatch, str(images), "--json")
    assert found.exit_code == 1
    told = json.loads(found.stdout)
    assert [one["error"] for one in told["predictions"] if "error" in one] == [
        f"{images / 'away.png'}: cannot be read: is a link that leads out of the source"
    ]
    assert len(told["predictions"]) == 71 and told["skipped"] == [str(images / "pipe.png")]
    (images / "01.png").unlink()
    by_name = predict(models, monkeypatch, str(images / "away.png"), "--json")
    assert by_name.exit_code == 0, "who names a link means what it leads to"


@pytest.mark.parametrize("name", ["nowhere.png", "empty"])
def test_a_path_without_images_is_an_error_that_names_it(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
):
    (tmp_path / "empty").mkdir()
    models.put_in_production(models.register(1))
    found = predict(models, monkeypatch, str(tmp_path / name))
    assert isinstance(found.exception, FileNotFoundError)
    assert name in str(found.exception)


def test_a_device_that_cannot_be_named_so_is_refused_before_anything_runs(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, images: Path
):
    models.put_in_production(models.register(1))
    found = predict(models, monkeypatch, str(images), "--log", "--device", "line 4/camera")
    assert isinstance(found.exception, ValueError)
    assert "line 4/camera" in str(found.exception)
    assert models.spool.files("shapes") == []


def test_each_device_group_is_answered_by_its_own_model(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, images: Path
):
    everywhere, dock = models.register(1), models.register(2)
    models.put_in_production(everywhere)
    models.put_in_production(dock, group="dock")
    for group, version in (("all", everywhere), ("dock", dock), ("gate", everywhere)):
        found = predict(models, monkeypatch, str(images / "01.png"), "--group", group, "--json")
        assert json.loads(found.stdout)["model"]["version"] == version.version
        assert ("no champion of its own" in found.stderr) == (group == "gate")


@pytest.mark.parametrize("verb", ["predict", "serve"])
def test_a_device_group_that_is_misspelt_is_refused_with_the_nearest(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, images: Path, verb: str
):
    models.put_in_production(models.register(1))
    models.put_in_production(models.register(2), group="line-4")
    predict(models, monkeypatch, str(images / "01.png"))
    asked = [str(images / "01.png")] if verb == "predict" else []
    found = CliRunner().invoke(app, [verb, "shapes", *asked, "--group", "lime-4"])
    assert isinstance(found.exception, services.UnknownGroup)
    assert "did you mean line-4?" in str(found.exception)
    beside = predict(models, monkeypatch, str(images / "01.png"), "--group", "line-5")
    assert beside.exit_code == 0 and "that of `all` answers" in beside.stderr


def test_the_answer_is_written_under_each_image(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, images: Path, tmp_path: Path
):
    models.put_in_production(models.register(1))
    found = predict(models, monkeypatch, str(images), "--draw", str(tmp_path / "drawn"))
    assert f"drawn: 70 images in {tmp_path / 'drawn'}" in found.output
    for number in range(70):
        with Image.open(tmp_path / "drawn" / f"{number:02}.png") as picture:
            assert picture.width == 256 and picture.height > 256
    refused = predict(models, monkeypatch, str(images), "--min-score", "0.5")
    assert isinstance(refused.exception, ValueError)
    assert "is a classifier, which draws no boxes" in str(refused.exception)


def test_a_detector_of_before_shows_boxes_from_a_stated_score_on_and_logs_all(
    models: ProductionWorld, monkeypatch: pytest.MonkeyPatch, images: Path
):
    models.projects = [models.project.model_copy(update={"task": "detection"})]
    unsure = np.random.default_rng(1).normal(0, 1e-5, (64, 3)).astype(np.float32)
    models.put_in_production(models.register(1, unsure))
    told = json.loads(predict(models, monkeypatch, str(images), "--json").stdout)
    assert (told["min_score"], told["min_score_from"]) == (
        DEFAULT_MIN_SCORE,
        "the default, this version has none of its own",
    )
    strict = (str(images), "--json", "--min-score", "1", "--log", "--device", "desk-1")
    assert not any(
        one["boxes"] for one in json.loads(predict(models, monkeypatch, *strict).stdout)["predictions"]
    )
    ((_, content),) = models.spool.read_each("shapes", models.spool.files("shapes"))
    assert all(pq.read_table(pa.BufferReader(content)).to_pydict()["boxes"]), (
        "production is what the model says"
    )
