"""What a source is, before anything of it is imported."""

from pathlib import Path

import pytest
from desk import Desk
from PIL import Image
from typer.testing import CliRunner

from tests.dataset.as_people_have_it import Files, check_said, coco
from tests.dataset.test_malformed_sources import CASES, THEIRS, broken, lay_out, some, source_of
from tests.world import CLASSES, write_batch
from visionops.cli.command_line import app

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
    told = desk.run("inspect", str(drawn(tmp_path / "mine")), "--preview", str(tmp_path / "seen"), code=1)
    assert "coco, since instances.json has COCO's images, annotations and categories" in told
    assert "6 images; boxes of each class: bolt (3), nut (3)" in told
    assert "annotations 7 = 6 kept + 1 left out: no image has their image_id" in told
    assert "images 7 = 6 stored + 1 left out: without annotation" in told
    assert "ERROR complete\n" in told and len(told.splitlines()) <= 24
    assert (tmp_path / "seen/index.html").is_file()
    with Image.open(tmp_path / "seen/sheet-1.png") as sheet:
        assert sheet.width > 1000
    # Sheets are wider than many windows, which then show all of them.
    assert "img { max-width: 100%" in (tmp_path / "seen/index.html").read_text()


def test_held_against_a_project_it_says_what_import_would_find(desk: Desk, tmp_path: Path):
    folder = write_batch(tmp_path / "mine", 24, seed=1)
    found = desk.json("inspect", str(folder), "--project", "shapes")
    assert found["publishable"], "of a project without a repository yet, its classes are known"
    desk.world.publish("week-01", 12, seed=1)
    alone = desk.json("inspect", str(folder))
    beside = desk.json("inspect", str(folder), "--project", "shapes")
    checks = [{one["check"] for one in told["findings"]} for told in (alone, beside)]
    assert checks[1] - checks[0], "what main holds already"
    before = desk.world.lakefs.head("shapes").id
    (folder / "labels.csv").write_text((folder / "labels.csv").read_text().replace(CLASSES[0], "cow"))
    told = desk.run("inspect", str(folder), "--project", "shapes", code=1)
    assert "cow" in told and desk.world.lakefs.head("shapes").id == before
    desk.run("inspect", str(folder))


def test_all_of_it_is_there_for_programs(desk: Desk, tmp_path: Path):
    told = desk.json("inspect", str(drawn(tmp_path / "mine")), code=1)
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


def split_by_folder(folder: Path, number: int, splits: tuple[str, ...] = ("train", "valid")) -> Path:
    files = Files(folder)
    for split in splits:
        names = [f"{number}-{split}-{n}.png" for n in range(2)]
        files.images(*(f"{split}/{name}" for name in names))
        entries, boxes = (
            [(n, name, 32, 24) for n, name in enumerate(names)],
            [(n, 1, BOXES[0][2]) for n in range(2)],
        )
        files.json(f"{split}/_annotations.coco.json", coco(entries, boxes))
    return folder


def test_splits_are_shown_as_they_come_and_as_they_become(desk: Desk, tmp_path: Path):
    first = split_by_folder(tmp_path / "first", 1)
    told = desk.run("inspect", str(first))
    assert (
        "splits that come with it: train (2), val (2); val is held out where main has no holdout yet" in told
    )
    assert desk.json("inspect", str(first))["splits"] == {"train": 2, "val": 2}
    told = desk.run("init", "parts", "--from", str(first), "--yes", "--no-run")
    assert "splits: train 2, val 0, holdout 2; with it main holds out 2 of 4 images (50%)" in told
    second = split_by_folder(tmp_path / "second", 2)
    told = desk.run("import", "parts", str(second), "--batch", "batch-02")
    assert "splits: train 2, val 2, holdout 0; with it main holds out 2 of 8 images (25%)" in told
    assert "the holdout does not grow by it" in told and len(told.splitlines()) <= 24
    came = desk.json("import", "parts", str(second), "--batch", "batch-02", "--holdout", "0.5")
    held = came["splits"]["batch"]["holdout"]
    assert held > 0 and came["splits"]["main"]["holdout"] == 2 + held
    assert sum(came["splits"]["main"].values()) == 8


def test_what_init_made_is_there_for_programs(desk: Desk, tmp_path: Path):
    source = split_by_folder(tmp_path / "mine", 1, ("train", "valid", "test"))
    with pytest.raises(ValueError, match="--json asks nothing: give --yes"):
        desk.run("init", "parts", "--from", str(source), "--json")
    told = desk.json("init", "parts", "--from", str(source), "--yes", "--no-run")
    assert (told["project"], told["outcome"], told["verdict"]) == ("parts", "published", None)
    assert Path(told["file"]).is_file() and told["images"]["stored"] == 6
    assert told["splits"]["batch"] == {"train": 2, "val": 2, "holdout": 2}
    broken = drawn(tmp_path / "broken")
    refused = desk.json("init", "others", "--from", str(broken), "--yes", "--no-run", code=1)
    assert refused["outcome"] == "refused" and "splits" not in refused
    assert sum(one["number"] for one in refused["findings"] if one["severity"] == "ERROR") == 1


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


def test_inspect_and_init_count_classes_alike(desk: Desk, tmp_path: Path):
    files = Files(tmp_path / "mine")
    files.images(*(f"images/{n}.png" for n in range(40)))
    entries = [(n, f"{n}.png", 32, 24) for n in range(40)]
    boxes = [*((n, 1, [2, 3, 10, 8]) for n in range(36)), (0, 1, [15, 3, 10, 8]), (0, 2, [2, 13, 10, 8])]
    files.json("instances.json", coco(entries, boxes))
    counts = "boxes of each class: bolt (37), nut (1)"
    told = desk.run("inspect", str(files.root))
    assert f"40 images; {counts}; images without a box: 4" in told
    assert desk.json("inspect", str(files.root))["classes"] == {"bolt": 37, "nut": 1}
    made = desk.run("init", "parts", "--from", str(files.root), "--yes", "--no-run")
    assert "2 classes, boxes of each: bolt (37), nut (1)" in made


@pytest.mark.stated
@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_told_alike_by_every_command(desk: Desk, tmp_path: Path, name: str):
    desk.save()
    file = lay_out(name, tmp_path / "source")
    source = str(source_of(name, file, tmp_path / "source"))
    for content in some(list(dict.fromkeys(broken(CASES[name]))), 4):
        file.write_bytes(content)
        for command in (
            ("inspect", source),
            ("import", "shapes", source, "--batch", "week-02"),
            ("init", "people", "--from", source, "--yes", "--no-run"),
        ):
            try:
                said = CliRunner().invoke(app, list(command), catch_exceptions=False).output
            except (ValueError, OSError) as error:
                said = str(error)
            check_said(said)
            theirs = THEIRS.search(said.replace(str(tmp_path), ""))
            assert theirs is None, said
        if (desk.world.root / "projects" / "people.yaml").exists():
            return
