import os
from pathlib import Path

import pyarrow as pa

from tests.dataset.store import Repository
from visionops_assets.common.arrow_columns import TextColumn, decoded
from visionops_assets.dataset.importing.file_listing import Index, list_files
from visionops_assets.dataset.importing.image_columns import Gathering, ImageRecord, joined_images
from visionops_assets.dataset.importing.image_source import Box
from visionops_assets.dataset.importing.source_files import Folder


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_files_are_listed_in_the_order_of_their_paths(tmp_path):
    names = [
        "a/b.png",
        "a-b/c.png",
        "a b/c.png",
        "a/ä.PNG",
        "a.png",
        "z/deep/er/1.jpg",
        "Z/1.jpg",
        "a/b/c.png",
    ]
    for name in [*names, "a/note.txt", ".hidden/x.png", "a/.x.png"]:
        touch(tmp_path / name)
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    found = list_files(tmp_path)
    files = found.images
    expected = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path / name for name in names)]
    assert list(files) == expected
    assert [each.image for each in found.link_findings()] == ["linked/"]
    assert list(found.others) == ["a/note.txt"] and found.passed == 2, "a folder reached twice counts once"
    assert files[1:3] == expected[1:3] and files[-1] == expected[-1]


def test_texts_come_out_as_they_went_in():
    texts = [None, None, "a", "", "ä", None, os.fsdecode(b"\xff.png")]
    told = [None if text is None else decoded(text) for text in TextColumn(texts).array().to_pylist()]
    assert told == texts
    assert TextColumn([None, None]).array_if_any() is None
    assert TextColumn([None, None]).array().null_count == 2 and len(TextColumn().array()) == 0


def test_an_index_finds_every_place_of_a_text():
    texts = ["x/1.png", "y/1.png", "y/2.png"]
    last = Index(texts, lambda name: name.rpartition("/")[2])
    assert last.all("1.png") == [0, 1] and last.all("3.png") == []
    assert Index(texts).first("y/2.png") == 2 and Index(texts).first("2.png") is None


def test_images_keep_what_was_said_of_each(tmp_path):
    one, other = Gathering(Folder(str(tmp_path))), Gathering(Folder(str(tmp_path)))
    (tmp_path / "b").write_bytes(b"B")
    for number in range(1_300):
        one.add(f"a{number:04}", ImageRecord("cat", group="g" if number % 2 else None, extra={"n": number}))
    dent: Box = {"x": 0.1, "y": 1, "w": 2, "h": 3, "label": "dent"}
    other.add("b", ImageRecord(boxes=[dent], split="val", extra={"f": 0.5}))
    images = joined_images(Folder(str(tmp_path)), [other.images(), one.images()]).by_name()
    assert [image.name for image in images] == [*(f"a{number:04}" for number in range(1_300)), "b"]
    assert (images[1_299].group, images[1_298].group) == ("g", None)
    assert images[0].extra == {"n": 0} and images[-1].extra == {"f": 0.5}
    assert images[-1].boxes == [{"x": 0.1, "y": 1.0, "w": 2.0, "h": 3.0, "label": "dent"}]
    assert (images[-1].split, images[-1].label, images[-1].read()) == ("val", None, b"B")
    assert [image.name for image in images[2:8:3]] == ["a0002", "a0005"] and images[5:5] == []
    assert images.splits() == {None, "val"} and images.with_splits({"val": "holdout"})[-1].split == "holdout"
    assert pa.types.is_integer(images.extra["n"][0].type)


def test_a_name_that_is_no_unicode_is_told(tmp_path, png):
    for number in range(4):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[number % 2] / f"{number}.png").write_bytes(png(number))
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/a/\xff.png"))).write_bytes(png(9))
    plan = Repository().plan(tmp_path, "week-1")
    assert not plan.ok and len(plan.uploads) == 4
    assert plan.findings["check"].tolist() == ["named rightly"]
