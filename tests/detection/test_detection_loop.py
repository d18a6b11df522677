"""A commit of images with boxes becomes a promoted detector, or a clear reason why not."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from detection_world import CLASSES, RECIPE, write_coco
from PIL import Image
from typer.testing import CliRunner

from resources.home import ROOT
from resources.storage import Scratch
from tests.reproduction.past_and_present import commit_all, copy_of_this_code
from tests.world import World, new_world, shapes_project
from visionops import services
from visionops.cli.command_line import app
from visionops_assets.config.project import AuditRules, Project, load_project
from visionops_assets.dataset.batch_plan import BatchRules, OnMain, plan_batch
from visionops_assets.dataset.batch_publishing import Publisher
from visionops_assets.dataset.versions.dataset_version import manifest_at
from visionops_assets.dataset.versions.manifest import read_manifest
from visionops_assets.evaluation.scoring import champion_opinion
from visionops_assets.reproduction import reproduce as reproduction
from visionops_assets.training import challenge, code_digest

pytestmark = pytest.mark.slow

GATE: dict[str, Any] = {
    "floors": {"overall": 0.4, "batch": 0.4, "min_samples": 8},
    "min_holdout": 8,
    "object_sizes": [9, 11],
    "bootstrap": {"draws": 1000},
}


def detection_project(**changes: Any) -> Project:
    content = {"task": "detection", "classes": list(CLASSES), "recipe": RECIPE, "gate": GATE, **changes}
    return shapes_project(**content)


def publish(world: World, batch: str, count: int, seed: int, shift: int = 0) -> None:
    folder = write_coco(world.root / "boxes" / batch, count, seed, shift)
    Publisher(world.project, world.lakefs, world.artifacts).publish(folder, batch)


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Iterator[World]:
    """A world whose first week made a detector the champion, by code that has a repository of its own."""
    root = tmp_path_factory.mktemp("detecting")
    commit_all(copy_of_this_code(root / "code"), "the code of then")
    with new_world(root / "world", mlflow_template) as world, pytest.MonkeyPatch.context() as patch:
        patch.setattr(challenge, "code_state", lambda: code_digest.code_state(root / "code"))
        patch.setattr(reproduction, "ROOT", root / "code")
        patch.setenv("VISIONOPS_HOME", str(root / "home"))
        world.projects = [detection_project()]
        publish(world, "week-01", 72, seed=1)
        ticked = world.tick()
        assert ticked.outcome == "promoted", ticked.reason
        yield world


def test_boxes_become_a_champion_with_its_pictures_and_predictions(promoted: World) -> None:
    assert promoted.champion() == 1
    (partition, *_) = promoted.partitions()
    evaluation = promoted.latest("evaluation", partition).metadata
    shown = str(evaluation["answers_against_truths"].value)
    picture = base64.b64decode(shown.partition("base64,")[2].rstrip(")"))
    assert picture.startswith(b"\x89PNG") and len(picture) < 50_000
    assert "mAP50" in " ".join(promoted.latest("challenger", partition).metadata)

    predictions: Any = promoted.definitions.load_asset_value(
        ["shapes", "evaluation"], partition_key=partition, instance=promoted.instance
    )
    assert {"boxes", "challenger_boxes"} < set(predictions.columns)


@pytest.mark.stated
def test_a_promoted_detector_is_made_again_with_the_same_bits(promoted: World, tmp_path: Path) -> None:
    reproduced = reproduction.reproduce(
        replace(promoted.services.stores, scratch=Scratch(root=str(tmp_path))),
        "shapes",
        1,
        when=datetime.now(UTC),
        say=lambda text: None,
    )
    certificate = reproduced.certificate
    assert (certificate.result, certificate.compared) == ("identical", "weights"), certificate.words


def test_boxes_that_the_champion_doubts_are_listed(promoted: World, tmp_path: Path) -> None:
    project, base = promoted.project, promoted.lakefs.head("shapes", "main").id
    main = read_manifest(manifest_at(promoted.lakefs, promoted.artifacts, project, base), promoted.artifacts)
    doubted = {}
    for shift in (0, 6):
        plan = plan_batch(
            write_coco(tmp_path / str(shift), 24, seed=3, shift=shift),
            "week-03",
            replace(BatchRules.of(project), audit=AuditRules(confidence=0.3)),
            OnMain(main),
            opinion=champion_opinion(promoted.registry, project)(),
        )
        assert plan.ok
        doubted[shift] = plan.findings.loc[plan.findings["check"] == "labels plausible", "what"].tolist()
    assert len(doubted[6]) > 12 > len(doubted[0])
    assert "has no label at" in doubted[6][0]


def test_a_batch_with_shifted_boxes_is_refused_by_name(promoted: World) -> None:
    publish(promoted, "week-02", 48, seed=2, shift=6)
    refused = promoted.tick()
    assert refused.outcome == "refused", refused.reason
    assert refused.reason.startswith("FAIL: Batch week-02"), refused.reason
    assert promoted.champion() == 1


def test_the_project_file_of_the_parts_is_sound() -> None:
    project = load_project(Path(ROOT) / "projects" / "parts.yaml")
    assert project.task == "detection"
    assert project.gate.floors.batch == 0.6


def test_predict_shows_the_boxes_that_are_meant_and_draws_them(
    promoted: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_coco(tmp_path / "images", 6, seed=9)
    (images / "sub").mkdir()
    (images / "sub" / "0001.png").write_bytes((images / "0001.png").read_bytes())
    (images / "broken.png").write_bytes(b"no image")
    before = {file: file.read_bytes() for file in images.rglob("*.png")}
    monkeypatch.setattr(services, "project", lambda name: promoted.project)
    monkeypatch.setattr(services, "registry", lambda: promoted.registry)

    def predict(*options: str) -> dict[str, Any]:
        told = CliRunner().invoke(app, ["predict", "shapes", str(images), "--json", *options])
        assert told.exit_code == 1, "one image is none"
        return json.loads(told.stdout)

    everything, usual, none = predict("--min-score", "0"), predict(), predict("--min-score", "1")
    assert usual["min_score_from"] == "the best F1 on validation" and 0 < usual["min_score"] < 1
    for all_of_it, meant, nothing in zip(
        *(told["predictions"] for told in (everything, usual, none)), strict=True
    ):
        if "error" in meant:
            continue
        kept = [box for box in all_of_it["boxes"] if box["score"] >= usual["min_score"]]
        assert meant["boxes"] == kept and len(all_of_it["boxes"]) > len(kept) > 0
        assert (meant["prediction"], meant["confidence"]) == (kept[0]["label"], kept[0]["score"])
        assert (nothing["boxes"], nothing["prediction"]) == ([], None)

    drawn = predict("--draw", str(tmp_path / "drawn"))["predictions"]
    written = [Path(one["drawn"]) for one in drawn if "error" not in one]
    assert len(set(written)) == 7 == len(list((tmp_path / "drawn").iterdir()))
    for file in written:
        with Image.open(file) as picture:
            assert picture.width == 256 and picture.height > 256
    assert {file: file.read_bytes() for file in images.rglob("*.png")} == before
    taken = CliRunner().invoke(app, ["predict", "shapes", str(images), "--draw", str(images)])
    assert isinstance(taken.exception, FileExistsError), "no image is written over"


def test_images_that_a_detector_won_and_lost_are_shown_with_both_answers(
    promoted: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if len(promoted.partitions()) < 2:
        publish(promoted, "week-02", 48, seed=2, shift=6)
        assert promoted.tick().outcome == "refused"
    monkeypatch.setenv("VISIONOPS_HOME", str(promoted.root))
    monkeypatch.setattr(services, "project", lambda name: promoted.project)
    (tmp_path / "shapes.yaml").write_text(
        json.dumps(promoted.project.model_dump(mode="json", exclude_none=True))
    )
    monkeypatch.setenv("VISIONOPS_PROJECTS", str(tmp_path))
    page = tmp_path / "compared.html"
    told = CliRunner().invoke(
        app, ["compare", "challenger", "champion", "--html", str(page), "--json"], catch_exceptions=False
    )
    found = json.loads(told.stdout)
    assert found["lost"] and {each["truth"] for each in found["lost"]} <= {
        f"{number} {label}" for number in (1, 2) for label in CLASSES
    } | {"1 bright, 1 dark"}
    assert "finds" in found["lost"][0]["a"] and "finds" in found["lost"][0]["b"]
    shown = page.read_text()
    cards = min(24, len(found["won"])) + min(24, len(found["lost"]))
    assert shown.count("data:image/") == 2 * cards, "a picture for each of the two"
    assert "An image is won with fewer errors" in shown

    why = CliRunner().invoke(
        app, ["why", "shapes", "--html", str(tmp_path / "why.html")], catch_exceptions=False
    )
    assert "Answered wrongly by this model" in why.stdout
    assert "data:image/" in (tmp_path / "why.html").read_text()
