"""What a source is, before anything of it is imported."""

from pathlib import Path

import pytest
from desk import Desk
from PIL import Image

from tests.dataset.as_people_have_it import Files, coco

BOXES = [(n, 1 + n % 2, [2, 3, 10, 8]) for n in range(6)]


def drawn(folder: Path) -> Path:
    files = Files(folder)
    files.images(*(f"images/{n}.png" for n in range(6)), "images/9.png")
    entries = [(n, f"{n}.png", 32, 24) for n in range(6)]
    files.json("instances.json", coco(entries, [*BOXES, (77, 1, [1, 1, 2, 2])]))
    files.json("captions.json", {"images": [], "annotations": [], "info": {}})
    files.text("clip.mp4", "x")
    return folder


def test_a_source_is_shown_with_what_is_wrong_and_nothing_is_made(desk: Desk, tmp_path: Path):
    told = desk.run("inspect", str(drawn(tmp_path / "mine")), "--preview", str(tmp_path / "seen"))
    assert "coco, since instances.json has COCO's images, annotations and categories" in told
    assert "6 images; classes: bolt (3), nut (3)" in told
    assert "annotations 7 = 6 kept + 1 left out: no image has their image_id" in told
    assert "images 7 = 6 stored + 1 left out: without annotation" in told
    assert "ERROR complete: 1" in told and len(told.splitlines()) <= 24
    assert (tmp_path / "seen/index.html").is_file()
    with Image.open(tmp_path / "seen/sheet-1.png") as sheet:
        assert sheet.width > 1000


def test_all_of_it_is_there_for_programs(desk: Desk, tmp_path: Path):
    told = desk.json("inspect", str(drawn(tmp_path / "mine")))
    assert (told["format"], told["task"], told["publishable"]) == ("coco", "detection", False)
    assert [other["format"] for other in told["others"]] == ["folders"]
    assert set(told["not_read"]) == {"captions.json", "clip.mp4"}
    files = told["files"]
    assert files["seen"] == files["images"] + files["annotations"] + sum(files["left_out"].values())
    assert sum(one["number"] for one in told["findings"] if one["severity"] == "ERROR") == 1


def test_a_preview_never_writes_over_anything(desk: Desk, tmp_path: Path):
    (tmp_path / "seen").mkdir()
    (tmp_path / "seen/mine.txt").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        desk.run("inspect", str(drawn(tmp_path / "mine")), "--preview", str(tmp_path / "seen"))


def test_what_is_wrong_is_left_out_and_where_all_is_train_nothing_is_trained(desk: Desk, tmp_path: Path):
    source = drawn(tmp_path / "mine")
    (source / "images").rename(source / "train")
    told = desk.run("init", "parts", "--from", str(source), "--yes", "--leave-out-errors")
    assert "every image came as train" in told and "--holdout 0.25" in told
    assert "batch-01: 6 images published" in told
    came = desk.json(
        "import", "parts", str(source), "--batch", "batch-01", "--leave-out-errors", "--holdout", "0.34"
    )
    assert came["outcome"] == "published" and came["images"] == {
        "seen": 7,
        "stored": 6,
        "left_out": {"without annotation": 1},
    }


def test_options_that_cannot_be_are_named(desk: Desk, tmp_path: Path):
    source = str(drawn(tmp_path / "mine"))
    for option, said in (
        (("--boxes", "xyz"), "--boxes xyz: expected xywh, xyxy, cxcywh"),
        (("--unlabelled", "no"), "--unlabelled no: expected background, leave-out, error"),
        (("--map", "a"), "--map a: expected OLD=NEW"),
        (("--encoding", "cp12"), "no encoding is called 'cp12'"),
    ):
        with pytest.raises(ValueError, match=said):
            desk.run("inspect", source, *option)
