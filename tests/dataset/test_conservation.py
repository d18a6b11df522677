"""Nothing is lost: whatever a source holds and whatever is wrong with it, all of it is somewhere in the sums."""

import itertools
import json
import os
import random
from pathlib import Path

import pytest

from tests.dataset.as_people_have_it import Files, coco, voc
from tests.dataset.store import Repository
from visionops_assets.dataset.importing.reading import read_source
from visionops_assets.dataset.importing.statements import Stated

NUMBERS = range(6)


def folders(files: Files) -> int:
    files.images(*(f"{'ab'[n % 2]}/{n}.png" for n in NUMBERS))
    return len(NUMBERS)


def table(files: Files) -> int:
    files.images(*(f"images/{n}.png" for n in NUMBERS))
    files.text("labels.csv", "path,label\n" + "".join(f"images/{n}.png,{'ab'[n % 2]}\n" for n in NUMBERS))
    return len(NUMBERS)


def boxes(files: Files) -> int:
    files.images(*(f"{n}.png" for n in NUMBERS))
    lines = "".join(f"{n}.png,{c},2,3,12,11\n" for n in NUMBERS for c in "ab"[: 1 + n % 2])
    files.text("boxes.csv", "path,label,x1,y1,x2,y2\n" + lines)
    return sum(1 + n % 2 for n in NUMBERS)


def as_coco(files: Files) -> int:
    files.images(*(f"images/{n}.png" for n in NUMBERS))
    entries = [(n, f"{n}.png", 32, 24) for n in NUMBERS]
    content = coco(entries, [(n, 1 + n % 2, [2, 3, 10, 8]) for n in NUMBERS], ((1, "a"), (2, "b")))
    content["annotations"][3]["iscrowd"] = 1
    files.json("instances.json", content)
    return len(NUMBERS)


def yolo(files: Files) -> int:
    files.images(*(f"images/{n}.png" for n in NUMBERS))
    for n in NUMBERS:
        files.text(f"labels/{n}.txt", f"{n % 2} 0.5 0.5 0.25 0.5\n" * (1 + n % 2))
    files.text("data.yaml", "names: [a, b]\n")
    return sum(1 + n % 2 for n in NUMBERS)


def as_voc(files: Files) -> int:
    files.images(*(f"JPEGImages/{n}.png" for n in NUMBERS))
    for n in NUMBERS:
        files.text(f"Annotations/{n}.xml", voc(f"{n}.png", ("ab"[n % 2], 3, 4, 12, 11)))
    files.text("ImageSets/Main/train.txt", "".join(f"{n}\n" for n in NUMBERS))
    return len(NUMBERS)


def cvat(files: Files) -> int:
    files.images(*(f"images/{n}.png" for n in NUMBERS))
    images = "".join(
        f'<image name="{n}.png"><box label="{"ab"[n % 2]}" xtl="2" ytl="3" xbr="12" ybr="11"/></image>'
        for n in NUMBERS
    )
    files.text("annotations.xml", f"<annotations>{images}</annotations>")
    return len(NUMBERS)


def label_studio(files: Files) -> int:
    files.images(*(f"images/{n}.png" for n in NUMBERS))
    value = {"x": 10, "y": 10, "width": 50, "height": 50, "rectanglelabels": ["a"]}
    result = [{"type": "rectanglelabels", "value": value}]
    files.json(
        "p.json", [{"data": {"image": f"{n}.png"}, "annotations": [{"result": result}]} for n in NUMBERS]
    )
    return len(NUMBERS)


FORMATS = [folders, table, boxes, as_coco, yolo, as_voc, cvat, label_studio]


def removed(files: Files, chance: random.Random) -> None:
    chance.choice(sorted(files.root.rglob("*.png"))).unlink()


def renamed(files: Files, chance: random.Random) -> None:
    image = chance.choice(sorted(files.root.rglob("*.png")))
    image.rename(
        image.with_name(chance.choice(["other.png", image.name.upper(), f"{image.stem}.jpg", "x.heic"]))
    )


def added(files: Files, chance: random.Random) -> None:
    folder = chance.choice(sorted({path.parent for path in files.root.rglob("*.png")}))
    files.image((folder.relative_to(files.root) / f"new{chance.random()}.png").as_posix())


def broken(files: Files, chance: random.Random) -> None:
    chance.choice(sorted(files.root.rglob("*.png"))).write_bytes(b"no image")


def left_behind(files: Files, chance: random.Random) -> None:
    files.text(
        chance.choice([".DS_Store", "Thumbs.db", "__MACOSX/._a.png", "README.md", "clip.mp4", "a.weights"]),
        b"x",
    )


def moved(files: Files, chance: random.Random) -> None:
    image = chance.choice(sorted(files.root.rglob("*.png")))
    (files.root / "elsewhere").mkdir(exist_ok=True)
    image.rename(files.root / "elsewhere" / image.name)


def copied(files: Files, chance: random.Random) -> None:
    image = chance.choice(sorted(files.root.rglob("*.png")))
    (files.root / "twice").mkdir(exist_ok=True)
    (files.root / "twice" / image.name).write_bytes(image.read_bytes())


CHANGES = [removed, renamed, added, broken, left_behind, moved, copied]


FORMAT_NAMES = {boxes: "table", as_coco: "coco", as_voc: "voc"}
MAY_ADD = {renamed, copied, moved, added}


def check_sums(root: Path, make, one, other, leave_out: bool, seed: int) -> None:
    files, chance = Files(root), random.Random(seed)
    said = make(files)
    one(files, chance)
    other(files, chance)
    format_name = FORMAT_NAMES.get(make, make.__name__.replace("_", "-"))
    stated = Stated(format_name, leave_out_errors=leave_out)
    plan = Repository(("a", "b", "elsewhere", "twice")).plan(root, "b", stated=stated)
    sums = plan.sums
    assert sums.add_up(), sums.as_dict()
    assert sums.files == sum(len(names) for _, _, names in os.walk(root))
    assert sums.image_files == sums.images == images(root)
    assert sums.stored == len(plan.annotations) == len(plan.uploads)
    if make is not folders:
        # What was said is kept or left out though its image is gone; a label of two images counts for each.
        assert sums.annotations == said or (sums.annotations > said and {one, other} & MAY_ADD)
    assert not leave_out or plan.ok or not len(plan.annotations), plan.findings.to_string()
    assert json.dumps(sums.as_dict()) and len(sums.in_words().splitlines()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("leave_out", [False, True])
def test_the_sums_add_up_whatever_happened_to_a_source(tmp_path, make, leave_out):
    for number, one in enumerate(CHANGES):
        other = CHANGES[(number + 3 + leave_out) % len(CHANGES)]
        check_sums(tmp_path / f"{number}", make, one, other, leave_out, number)


@pytest.mark.stated
@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_the_sums_add_up_after_any_two_changes(tmp_path, make):
    for number, (one, other) in enumerate(itertools.product(CHANGES, repeat=2)):
        check_sums(tmp_path / f"{number}", make, one, other, bool(number % 2), number)


def images(root: Path) -> int:
    shown = (folder for folder in os.walk(root) if "__MACOSX" not in folder[0])
    return sum(name.lower().endswith((".png", ".jpg")) for _, _, names in shown for name in names)


def test_the_sums_of_what_was_read_are_those_of_the_source(tmp_path):
    files = Files(tmp_path / "d")
    yolo(files)
    files.text("notes.md", "x")
    assert read_source(files.root).sums.as_dict() == {
        "files": {"seen": 14, "images": 6, "annotations": 7, "left_out": {}, "no_part": {".md": 1}},
        "images": {"seen": 6, "stored": 6, "left_out": {}},
        "annotations": {"seen": 9, "kept": 9, "left_out": {}},
    }
