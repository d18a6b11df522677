"""Folders of classes, archives and odd images, as people have them."""

import re
import shutil
import tarfile
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.dataset.as_people_have_it import Comes, Files, check, check_case, coco, plan_of
from tests.dataset.store import Repository
from visionops_assets.dataset.importing.first_look import first_look
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.reading import read_source
from visionops_assets.dataset.importing.statements import Stated

CATS_AND_DOGS = {f"{label}/{number}.png": label for label in ("cat", "dog") for number in range(3)}
COMPOSED = unicodedata.normalize("NFC", "Schäden")


def below(folder: str, truth: dict[str, str] = CATS_AND_DOGS) -> dict[str, str]:
    return {f"{folder}/{name}": label for name, label in truth.items()}


def junk(files: Files) -> Comes:
    files.classes("cat", "dog")
    for name in (
        ".DS_Store",
        "cat/Thumbs.db",
        "cat/desktop.ini",
        "cat/._0.png",
        "__MACOSX/cat/._0.png",
        ".git/x.png",
    ):
        files.text(name, b"\0\5\x16\7")
    return Comes(CATS_AND_DOGS)


def empty_class(files: Files) -> Comes:
    files.classes("cat", "dog")
    (files.root / "bird").mkdir()
    return Comes(CATS_AND_DOGS)


def names_that_yaml_reads_otherwise(files: Files) -> Comes:
    labels = ("007", "1e3", "no", "null", "1.10", "C#", "50%", "a,b", "it's")
    files.classes(*labels, each=1)
    return Comes({f"{label}/0.png": label for label in labels})


def names_of_files(files: Files) -> Comes:
    names = [
        "a b.png",
        "a#b.png",
        "a%20b.png",
        "a?b.png",
        "-a.png",
        "a\tb.png",
        "猫.png",
        " lead.png",
        "x" * 200 + ".png",
    ]
    names += [
        "x" * 200 + ".png",
        unicodedata.normalize("NFC", "é.png"),
        unicodedata.normalize("NFD", "è.png"),
    ]
    files.images(*(f"cat/{name}" for name in names))
    files.classes("dog")
    return Comes(
        {f"cat/{name}": "cat" for name in names} | {f"dog/{number}.png": "dog" for number in range(3)}
    )


def three_splits(files: Files) -> Comes:
    files.classes(*(f"{split}/{label}" for split in ("train", "valid", "test") for label in ("cat", "dog")))
    splits = {"train/cat/0.png": "train", "valid/cat/0.png": "val", "test/dog/2.png": "holdout"}
    return Comes(below("train") | below("valid") | below("test"), splits)


def val_alone_is_held_out(files: Files) -> Comes:
    files.classes(*(f"{split}/{label}" for split in ("Training", "validation") for label in ("cat", "dog")))
    return Comes(below("Training") | below("validation"), {"validation/cat/0.png": "holdout"})


def years(files: Files) -> Comes:
    files.classes(*(f"{split}/{label}" for split in ("train2017", "val2017") for label in ("cat", "dog")))
    return Comes(
        below("train2017") | below("val2017"),
        {"train2017/cat/0.png": "train", "val2017/dog/0.png": "holdout"},
    )


def splits_inside_of_classes(files: Files) -> Comes:
    files.classes(*(f"{label}/{split}" for split in ("train", "test") for label in ("cat", "dog")), each=1)
    truth = {f"{label}/{split}/0.png": label for split in ("train", "test") for label in ("cat", "dog")}
    return Comes(truth, {"cat/train/0.png": "train", "dog/test/0.png": "holdout"})


def train_only(files: Files) -> Comes:
    files.classes("train/cat", "train/dog")
    return Comes(below("train"), dict.fromkeys(below("train"), "train"))


def test_only(files: Files) -> Comes:
    files.classes("test/cat", "test/dog")
    return Comes(below("test"), dict.fromkeys(below("test"), "holdout"))


# Not a test of its own.
test_only.__test__ = False  # type: ignore[attr-defined]


def pictures_beside_splits(files: Files) -> Comes:
    files.classes("train/cat", "train/dog", "val/cat", "val/dog")
    files.images("unlabelled/a.png", "unlabelled/b.png")
    told = [("WARN", "unlabelled/a.png lies in none of the splits"), ("WARN", "unlabelled/b.png")]
    splits = dict.fromkeys(below("train"), "train") | dict.fromkeys(below("val"), "holdout")
    return Comes(below("train") | below("val"), splits, told)


def folder_around(files: Files) -> Comes:
    files.classes("mine/inner/cat", "mine/inner/dog")
    files.text("README.md", "about it")
    return Comes(CATS_AND_DOGS, told=[("WARN", "read inside: .*mine/inner/ is the only folder")])


def class_composed_in_two_ways(files: Files) -> Comes:
    apart = unicodedata.normalize("NFD", COMPOSED)
    files.images(f"{COMPOSED}/0.png", f"{apart}/1.png", "gut/0.png")
    return Comes({f"{COMPOSED}/0.png": COMPOSED, f"{apart}/1.png": COMPOSED, "gut/0.png": "gut"})


def copies(files: Files) -> Comes:
    files.classes("cat", "dog")
    shutil.copy(files.root / "cat/0.png", files.root / "dog/same.png")
    shutil.copy(files.root / "cat/1.png", files.root / "cat/copy.png")
    told = [("ERROR", "dog/same.png is the same image"), ("WARN", "no copies")]
    return Comes(CATS_AND_DOGS | {"dog/same.png": "dog", "cat/copy.png": "cat"}, told=told)


def copies_across_splits(files: Files) -> Comes:
    files.classes("train/cat", "train/dog", "test/cat", "test/dog")
    shutil.copy(files.root / "train/cat/0.png", files.root / "test/cat/copy.png")
    told = [("WARN", "no leak between splits|no copies")]
    return Comes(below("train") | below("test") | {"test/cat/copy.png": "cat"}, told=told)


def other_suffixes(files: Files) -> Comes:
    files.classes("cat", "dog")
    files.images("cat/a.jfif", "cat/b.pjpeg", "cat/c.avif", "dog/d.jp2")
    files.image("dog/e.png")
    (files.root / "dog/e.png").rename(files.root / "dog/e")
    files.text("cat/IMG_1.HEIC", b"\0\0\0\x18ftypheic" + bytes(40))
    files.text("cat/clip.MP4", b"\0\0\0\x18ftypisom")
    told = [
        ("WARN", "IMG_1.HEIC is HEIC; convert it"),
        ("WARN", "clip.MP4 is a video; take frames"),
        ("WARN", "dog/e has no suffix; .* rename it to e.png"),
    ]
    more = {"cat/a.jfif": "cat", "cat/b.pjpeg": "cat", "cat/c.avif": "cat", "dog/d.jp2": "dog"}
    return Comes(CATS_AND_DOGS | more, told=told)


def suffixes_that_lie(files: Files) -> Comes:
    files.classes("cat", "dog")
    files.picture().save(files.root / "cat/a.jpg", "PNG")
    files.picture().save(files.root / "dog/B.PNG", "JPEG")
    told = [("WARN", "a.jpg is a PNG"), ("WARN", "B.PNG is a JPEG")]
    return Comes(CATS_AND_DOGS | {"cat/a.jpg": "cat", "dog/B.PNG": "dog"}, told=told)


def what_is_no_image(files: Files) -> Comes:
    files.classes("cat", "dog")
    files.text("cat/empty.jpg", b"")
    files.text("cat/page.jpg", "<!DOCTYPE html><html>403</html>")
    files.text("cat/heic.jpg", b"\0\0\0\x18ftypheic" + bytes(40))
    files.text("cat/lfs.jpg", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    files.image("cat/cut.png")
    (files.root / "cat/cut.png").write_bytes((files.root / "cat/cut.png").read_bytes()[:-60])
    told = [
        ("ERROR", "empty.jpg is empty"),
        ("ERROR", "page.jpg is not an image but a web page"),
        ("ERROR", "heic.jpg is not an image but HEIC; convert it"),
        ("ERROR", "lfs.jpg is not an image but a pointer of Git LFS; .*git lfs pull"),
        ("ERROR", "cut.png is a truncated"),
    ]
    return Comes(CATS_AND_DOGS, told=told)


def measures(files: Files) -> Comes:
    files.classes("cat", "dog")
    files.image("cat/one.png", 1, 1)
    files.image("cat/line.png", 300, 4)
    told = [("ERROR", "measures: .*cat/one.png"), ("ERROR", "measures: .*cat/line.png")]
    return Comes(CATS_AND_DOGS | {"cat/one.png": "cat", "cat/line.png": "cat"}, told=told)


def unread_annotations(files: Files) -> Comes:
    files.classes("cat", "dog")
    files.text("cat/notes.json", "{}")
    return Comes(
        refused="cat/notes.json may be annotations, but fit no format that is read; .*--format folders"
    )


def folders_of_other_formats(files: Files) -> Comes:
    files.images("images/0.png", "masks/0.png")
    return Comes(refused="nothing says what images/0.png shows: images/ is no class")


def masks_beside_images(files: Files) -> Comes:
    files.images("cat/0.png", "cat/0_mask.png", "dog/1.png", "dog/1-GT.PNG", "dog/mask.png", "dog/2_mask.png")
    truth = {f"cat/{name}": "cat" for name in ("0.png", "0_mask.png")}
    truth |= {f"dog/{name}": "dog" for name in ("1.png", "1-GT.PNG", "mask.png", "2_mask.png")}
    told = [
        ("ERROR", r"cat/0_mask.png is called as the mask of 0, .*--leave-out-errors"),
        ("ERROR", "dog/1-GT.PNG"),
    ]
    return Comes(truth, told=told)


def masks_of_a_split(files: Files) -> Comes:
    """As MVTec's."""
    files.classes("part/train/good", "part/test/good", "part/test/bent", "part/ground_truth/bent")
    truth = {
        f"{side}/{n}.png": side.partition("/")[2]
        for side in ("train/good", "test/good", "test/bent")
        for n in range(3)
    }
    told = [("WARN", "ground_truth/bent/0.png lies in none of the splits test, train")]
    return Comes(truth, {"train/good/0.png": "train", "test/bent/0.png": "holdout"}, told)


def images_of_other_formats(files: Files) -> Comes:
    files.classes("cat", "dog")
    for name in ("cat/9.tga", "dog/9.raw", "dog/more.zip.001"):
        files.text(name, b"\0" * 8)
    told = [
        ("WARN", r"cat/9.tga is an image of a format that is not read; convert"),
        ("WARN", "dog/9.raw has values"),
    ]
    return Comes(CATS_AND_DOGS, told=[*told, ("WARN", r"dog/more.zip.001 is a part of an archive; join")])


def a_spreadsheet(files: Files) -> Comes:
    files.classes("cat", "dog")
    files.text("labels.xlsx", b"PK\3\4")
    return Comes(refused=r"labels.xlsx: is of a spreadsheet program; save it as CSV")


def annotations_of_nothing(files: Files) -> Comes:
    files.images("images/0.png")
    files.text("annotations.json", "[]\n")
    return Comes(refused=r"annotations.json: is empty; export the annotations again")


def only_images(files: Files) -> Comes:
    files.images("a.png", "b.png")
    return Comes(refused="is in none of the formats .*: it holds 2 images; expected")


def nothing(files: Files) -> Comes:
    return Comes(refused="is in none of the formats .* it holds no files")


CASES = [
    *(
        junk,
        empty_class,
        names_that_yaml_reads_otherwise,
        names_of_files,
        three_splits,
        val_alone_is_held_out,
        years,
    ),
    *(splits_inside_of_classes, train_only, test_only, pictures_beside_splits, folder_around),
    *(
        class_composed_in_two_ways,
        copies,
        copies_across_splits,
        other_suffixes,
        suffixes_that_lie,
        what_is_no_image,
    ),
    *(measures, unread_annotations, folders_of_other_formats, only_images, nothing),
    *(masks_beside_images, masks_of_a_split, images_of_other_formats, a_spreadsheet, annotations_of_nothing),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_folder_comes_as_it_is(tmp_path, case):
    check_case(case, tmp_path / "my data #1 %20 é 'x'")


def test_a_link_out_of_the_source_is_an_error_that_names_it(tmp_path):
    files, other = Files(tmp_path / "data"), Files(tmp_path / "store")
    files.classes("cat", "dog")
    other.classes("bird")
    (tmp_path / "data/bird").symlink_to(tmp_path / "store/bird")
    check(plan_of(files.root), Comes(CATS_AND_DOGS, told=[("ERROR", "bird is a link .* --follow-links")]))
    birds = {f"bird/{number}.png": "bird" for number in range(3)}
    check(plan_of(files.root, Stated(follow_links=True)), Comes(CATS_AND_DOGS | birds))


@pytest.mark.parametrize("folders", [True, False])
def test_links_that_split_what_lies_in_one_folder_give_its_images_their_split(tmp_path, folders):
    files = Files(tmp_path / "data")
    for part, split in (("a", "train"), ("b", "val")):
        files.classes(f"{part}/cat", f"{part}/dog")
        for label in ("cat", "dog"):
            (files.root / split).mkdir(exist_ok=True)
            link = files.root / split / label
            if folders:
                link.symlink_to(f"../{part}/{label}")
            else:
                link.mkdir()
                for number in range(3):
                    (link / f"{number}.png").symlink_to(f"../../{part}/{label}/{number}.png")
    plan = plan_of(files.root)
    told = [
        (
            "WARN",
            r"train/cat/ is a link to a/cat/; what"
            if folders
            else r"train/cat/0.png is a link to a/cat/0.png",
        )
    ]
    splits = {"train/cat/0.png": "train", "val/dog/2.png": "holdout"}
    check(plan, Comes(below("train") | below("val"), splits, told))


def test_a_table_may_name_an_image_by_the_folder_from_which_a_link_takes_it_into_a_split(tmp_path):
    files = Files(tmp_path / "data")
    files.images(*(f"all/{number}.png" for number in range(4)))
    for number in range(4):
        link = files.root / ("train" if number < 3 else "val") / f"{number}.png"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(f"../all/{number}.png")
    files.text("labels.csv", "path,label\n" + "".join(f"all/{n}.png,{'ab'[n % 2]}\n" for n in range(4)))
    truth = {f"{'train' if n < 3 else 'val'}/{n}.png": "ab"[n % 2] for n in range(4)}
    check(plan_of(files.root), Comes(truth, {"train/0.png": "train", "val/3.png": "holdout"}))


def test_an_image_that_links_put_into_two_splits_is_an_error_that_names_them(tmp_path):
    files = Files(tmp_path / "data")
    files.classes("all/cat", "all/dog")
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (files.root / split / label).mkdir(parents=True)
            (files.root / split / label / "0.png").symlink_to(f"../../all/{label}/0.png")
    what = r"all/cat/0.png is in more than one split by links: train/cat/0.png, val/cat/0.png; keep one"
    found = read_source(files.root).findings
    told = [f"{row.image} {row.what}; {row.why}" for row in found.itertuples() if row.severity == "ERROR"]
    assert len(told) == 2 and re.search(what, told[0]), told


def linked(files: Files, links: dict[str, str]) -> None:
    for name, other in links.items():
        link = files.root / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../" * name.count("/") + other)


def errors_of(files: Files) -> list[str]:
    found = read_source(files.root).findings
    return [f"{row.image} {row.what}" for row in found.itertuples() if row.severity == "ERROR"]


@pytest.mark.parametrize("folder", ["all", "cat"])
def test_links_that_say_split_and_class_of_what_lies_in_one_folder_contradict_nothing(tmp_path, folder):
    files = Files(tmp_path / "data")
    files.images(*(f"{folder}/{number}.png" for number in range(4)))
    places = ("train/cat", "train/dog", "val/cat", "val/dog")
    linked(files, {f"{place}/{n}.png": f"{folder}/{n}.png" for n, place in enumerate(places)})
    truth = {f"{place}/{n}.png": place[-3:] for n, place in enumerate(places)}
    check(plan_of(files.root), Comes(truth, {"train/cat/0.png": "train", "val/dog/3.png": "holdout"}))


@pytest.mark.parametrize("more", [True, False])
def test_links_that_put_one_file_into_two_classes_contradict(tmp_path, more):
    files = Files(tmp_path / "data")
    files.images(*(f"all/{number}.png" for number in range(3)))
    links = {"train/cat/0.png": "all/0.png", "train/dog/0.png": "all/0.png", "train/cat/1.png": "all/1.png"}
    linked(files, links | ({"train/dog/2.png": "all/2.png"} if more else {}))
    what = "train/dog/0.png is dog by its folder, and a link to all/0.png, which is cat by the link train/cat/0.png"
    assert errors_of(files) == [what]


def test_links_from_a_split_without_class_folders_keep_the_class_and_say_the_split(tmp_path):
    files = Files(tmp_path / "data")
    files.classes("cat", "dog")
    linked(files, {"test/0.png": "cat/0.png", "test/1.png": "dog/1.png"})
    truth = {name: label for name, label in CATS_AND_DOGS.items() if name not in ("cat/0.png", "dog/1.png")}
    truth |= {"test/0.png": "cat", "test/1.png": "dog"}
    check(plan_of(files.root), Comes(truth, {"test/0.png": "holdout", "test/1.png": "holdout"}))


def test_a_link_into_another_class_contradicts_what_a_split_without_class_folders_has(tmp_path):
    files = Files(tmp_path / "data")
    files.classes("cat", "dog")
    linked(files, {"test/0.png": "cat/0.png", "dog/9.png": "cat/0.png"})
    (error,) = errors_of(files)
    assert error.startswith("dog/9.png is dog by its folder, and a link to cat/0.png, which is cat")


def test_a_camera_that_has_fewer_bits_than_it_stores_is_told(tmp_path):
    """All is read as value / 257, so that 12 bits of 16 are nearly black."""
    files = Files(tmp_path / "data")
    files.classes("cat", "dog")
    for name, bits in (("0.png", 12), ("1.tif", 14), ("2.pgm", 16)):
        values = np.asarray(files.picture().convert("L"), np.uint16) << (bits - 8)
        Image.fromarray(values).save(files.root / "cat" / name)
    (files.root / "cat/2.png").unlink()
    plan = plan_of(files.root)
    dark = plan.findings[plan.findings["check"] == "bits used"]
    assert [path.rpartition("/")[2] for path in dark["image"]] == ["0.png", "1.tif"]
    assert set(dark["severity"]) == {"WARN"} and "of 255" in dark["what"].iloc[0]


def test_links_inside_of_the_source_are_followed_but_not_in_circles(tmp_path):
    files = Files(tmp_path / "data")
    files.classes("cat", "dog")
    (tmp_path / "data/cat/around").symlink_to("..")
    check(plan_of(files.root), Comes(CATS_AND_DOGS))


def test_a_link_to_nothing_is_an_error_and_is_counted(tmp_path):
    files = Files(tmp_path / "data")
    files.classes("cat", "dog")
    (tmp_path / "data/cat/gone.png").symlink_to("nowhere.png")
    plan = plan_of(files.root)
    check(plan, Comes(CATS_AND_DOGS, told=[("ERROR", "cat/gone.png is a link to what is not there")]))
    assert plan.sums.files == 7 and plan.sums.files_left_out.total() == 1


def zipped(path: Path, folder: Path, name) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, name(file.relative_to(folder).as_posix()))
    return path


@pytest.mark.parametrize("name", [str, lambda name: name.replace("/", "\\"), lambda name: f"mine/{name}"])
def test_a_zip_is_read_whoever_made_it(tmp_path, name):
    files = Files(tmp_path / "w")
    files.classes("cat", "dog")
    check(plan_of(zipped(tmp_path / "d.zip", files.root, name)), Comes(CATS_AND_DOGS))


def test_a_zip_with_two_files_of_one_name_is_refused(tmp_path):
    files = Files(tmp_path / "w")
    files.classes("cat", "dog")
    archive = zipped(tmp_path / "d.zip", files.root, str)
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("cat\\0.png", files.png())
    with pytest.raises(SourceError, match=r"has 'cat\\\\0.png' twice"):
        read_source(archive)


def test_names_in_a_zip_are_in_the_encoding_that_is_stated(tmp_path):
    files = Files(tmp_path / "w")
    files.classes("cat", "Xsch")
    archive = zipped(tmp_path / "d.zip", files.root, str)
    archive.write_bytes(archive.read_bytes().replace(b"Xsch", b"\xe4sch"))
    with pytest.raises(
        SourceError, match=r"the name '.xe4sch/0.png' in it is not UTF-8; .*--encoding cp1252"
    ):
        read_source(archive)
    truth = {f"cat/{number}.png": "cat" for number in range(3)} | {
        f"äsch/{number}.png": "äsch" for number in range(3)
    }
    check(plan_of(archive, Stated(encoding="cp1252")), Comes(truth))


def test_a_tar_is_read(tmp_path):
    files = Files(tmp_path / "w")
    files.classes("cat", "dog")
    with tarfile.open(tmp_path / "d.tar.gz", "w:gz") as archive:
        archive.add(files.root, ".")
    check(plan_of(tmp_path / "d.tar.gz"), Comes(CATS_AND_DOGS))


@pytest.mark.parametrize("name", ["d.7z", "d.rar", "d.tar.zst"])
def test_archives_that_are_not_unpacked_are_named_with_what_unpacks_them(tmp_path, name):
    (tmp_path / name).write_bytes(b"7z\xbc\xaf")
    with pytest.raises(SourceError, match="unpack it with `"):
        read_source(tmp_path / name)


def test_classes_that_differ_in_case_only_have_to_be_told_apart(tmp_path):
    files = Files(tmp_path / "w")
    files.classes("Three", "three", "four", each=1)
    with pytest.raises(SourceError, match=r"'Three' and 'three'.* --map 'three'='Three'"):
        first_look(read_source(files.root))
    one = Stated(renamed={"three": "Three"})
    assert first_look(read_source(files.root, one)).classes == {"Three": 2, "four": 1}
    check(
        plan_of(files.root, one),
        Comes({"Three/0.png": "Three", "three/0.png": "Three", "four/0.png": "four"}),
    )
    with pytest.raises(SourceError, match="no class of the source is called 'tree'"):
        read_source(files.root, Stated(renamed={"tree": "Three"}))


def test_a_class_is_left_out_and_counted(tmp_path):
    files = Files(tmp_path / "w")
    files.classes("cat", "dog", "bird")
    plan = plan_of(files.root, Stated(dropped=frozenset({"bird"})))
    check(plan, Comes(CATS_AND_DOGS))
    assert plan.sums.images_left_out == {"of a class that is left out": 3}


@pytest.mark.parametrize("folder", ["ds", "images"])
def test_a_picture_beside_the_only_folder_makes_no_class_of_it(tmp_path, folder):
    files = Files(tmp_path / "data")
    files.classes(f"{folder}/cat", f"{folder}/dog")
    files.images("preview.png")
    truth = {f"{label}/{n}.png": label for label in ("cat", "dog") for n in range(3)}
    told = [
        ("WARN", "preview.png lies beside the only folder of the source"),
        ("WARN", f"{folder}/ is the only folder"),
    ]
    plan = plan_of(files.root)
    check(plan, Comes(truth, told=told))
    assert plan.sums.images_left_out["beside the only folder"] == 1


def test_a_hidden_folder_with_images_is_told(tmp_path):
    files = Files(tmp_path / "data")
    files.classes("cat", "dog", ".bolt", ".ipynb_checkpoints", "cat/.thumbnails")
    files.images("cat/._0.png")
    truth = {f"{label}/{n}.png": label for label in ("cat", "dog") for n in range(3)}
    plan = plan_of(files.root)
    check(plan, Comes(truth, told=[("WARN", r"\.bolt/ is a hidden folder with 3 images; they are not read")]))
    assert (plan.findings["check"] == "images read").sum() == 1


@pytest.mark.parametrize(
    ("labels", "severity", "said"),
    [
        (
            ("bolt,nut", "bolt", "nut"),
            "ERROR",
            "class 'bolt,nut' is a list, of which 'bolt', 'nut' are classes",
        ),
        (("nut; bolt", "bolt", "nut"), "ERROR", "class 'nut; bolt' is a list"),
        (
            ("maillot, tank suit", "maillot", "b"),
            "WARN",
            "class 'maillot, tank suit' is a list, of which 'maillot' is",
        ),
        (("Three", "three", "b"), "WARN", "class 'Three' differs from 'three' in case or spaces only"),
        (("tench, Tinca tinca", "goldfish, Carassius", "b"), "", ""),
    ],
)
def test_classes_that_are_lists_or_twins_are_told_at_every_import(tmp_path, labels, severity, said):
    files = Files(tmp_path / "data")
    files.images("0.png", "1.png", "2.png")
    files.text(
        "labels.csv", "path,label\n" + "".join(f'{n}.png,"{label}"\n' for n, label in enumerate(labels))
    )
    check(
        plan_of(files.root),
        Comes({f"{n}.png": label for n, label in enumerate(labels)}, told=[(severity, said)] if said else []),
    )
    plan = plan_of(files.root, Stated(leave_out_errors=True))
    assert plan.ok == (severity != "ERROR")


def test_a_holdout_that_does_not_grow_is_told(tmp_path):
    repository = Repository(("bolt",))
    for name, batch in (("one", "a"), ("two", "b")):
        files = Files(tmp_path / name)
        for split in ("train", "valid"):
            files.image(f"{split}/{name}.png")
            files.json(
                f"{split}/_annotations.coco.json",
                coco([(1, f"{name}.png")], [(1, 1, (2, 3, 10, 8))], ((1, "bolt"),)),
            )
        plan = repository.plan(files.root, batch)
        splits = sorted(row["split"] for row in plan.annotations.to_pylist())
        told = plan.findings[plan.findings["check"] == "held out"]
        if batch == "a":
            assert splits == ["holdout", "train"] and told.empty
        else:
            assert splits == ["train", "val"] and "does not grow" in told["why"].item()
        repository.publish(plan)


@pytest.mark.parametrize("name", ["test.zip", "TEST.TGZ", "more/test.rar"])
def test_an_archive_inside_of_a_source_is_told(tmp_path, name):
    files = Files(tmp_path / "data")
    files.classes("train/cat", "train/dog")
    files.text(name, b"PK")
    plan = plan_of(files.root)
    truth = {f"train/{label}/{n}.png": label for label in ("cat", "dog") for n in range(3)}
    check(plan, Comes(truth, told=[("WARN", f"{name} is an archive; unpack it")]))
    for path in files.root.rglob("*.png"):
        path.unlink()
    with pytest.raises(SourceError, match=f"{name} is an archive; unpack it"):
        read_source(files.root)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_packed_archive_with_another_bit_is_refused(tmp_path, kind):
    files = Files(tmp_path / "data")
    files.classes("cat", "dog")
    for path in sorted(files.root.rglob("*.png")):
        # Of a format that has no checksum of its own.
        files.picture().save(path.with_suffix(".ppm"))
        path.unlink()
    path = tmp_path / f"d.tar.{kind}"
    mode: Any = f"w:{kind}"
    level: dict[str, Any] = {} if kind == "xz" else {"compresslevel": 0 if kind == "gz" else 1}
    with tarfile.open(path, mode=mode, **level) as archive:
        archive.add(files.root, ".")
    assert len(read_source(path).images) == 6
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SourceError, match="cannot be unpacked: it is cut off or damaged"):
        read_source(path)
