"""What stands for all formats: each rule tried in each of them."""

import json
import unicodedata
from collections.abc import Callable, Sequence
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset.as_people_have_it import Comes, Files, check, check_said, coco, plan_of, voc
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.reading import read_source
from visionops_assets.dataset.importing.statements import Stated

SIDES = (2, 3, 10, 8)
# Each writes annotations of images that it calls as given, all with one box of a class, or with that label.
Writer = Callable[..., None]


def labels_csv(files: Files, names: Sequence[str], label: str = "bolt", encoding: str = "utf-8", **_) -> None:
    files.text("labels.csv", "path,label\n" + "".join(f'"{name}",{label}\n' for name in names), encoding)


def boxes_csv(
    files: Files, names: Sequence[str], label: str = "bolt", encoding: str = "utf-8", **how
) -> None:
    x, y, w, h = SIDES
    width, height = how.get("size", (0, 0))
    line = f"{label},{x},{y},{x + w},{y + h},{width},{height}\n" * how.get("times", 1)
    rows = "".join(f'"{name}",{one}\n' for name in names for one in line.splitlines())
    files.text("boxes.csv", "path,label,x1,y1,x2,y2,width,height\n" + rows, encoding)


def parquet(files: Files, names: Sequence[str], label: str = "bolt", **_) -> None:
    pq.write_table(
        pa.table({"path": list(names), "label": [label] * len(names)}), files.root / "labels.parquet"
    )


def jsonl(files: Files, names: Sequence[str], label: str = "bolt", encoding: str = "utf-8", **how) -> None:
    objects = {"bbox": [list(SIDES)] * how.get("times", 1), "categories": [label] * how.get("times", 1)}
    width, height = how.get("size", (0, 0))
    rows = [{"file_name": name, "objects": objects, "width": width, "height": height} for name in names]
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    files.text("metadata.jsonl", "\n".join(lines), encoding)


def as_coco(files: Files, names: Sequence[str], label: str = "bolt", encoding: str = "utf-8", **how) -> None:
    images = [(n, name, *how.get("size", (0, 0))) for n, name in enumerate(names)]
    boxes = [(n, 1, SIDES) for n in range(len(names)) for _ in range(how.get("times", 1))]
    files.text("i.json", json.dumps(coco(images, boxes, ((1, label),)), ensure_ascii=False), encoding)


def as_voc(files: Files, names: Sequence[str], label: str = "bolt", encoding: str = "utf-8", **how) -> None:
    x, y, w, h = SIDES
    for n, name in enumerate(names):
        objects = [(label, x + 1, y + 1, x + w, y + h)] * how.get("times", 1)
        files.text(f"xml/note{n}.xml", voc(name, *objects, size=how.get("size")), encoding)


def cvat(files: Files, names: Sequence[str], label: str = "bolt", encoding: str = "utf-8", **how) -> None:
    x, y, w, h = SIDES
    width, height = how.get("size", (0, 0))
    box = f'<box label="{label}" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"/>' * how.get("times", 1)
    images = "".join(
        f'<image name="{name}" width="{width}" height="{height}">{box}</image>' for name in names
    )
    files.text("annotations.xml", f"<annotations>{images}</annotations>", encoding)


def label_studio(
    files: Files, names: Sequence[str], label: str = "bolt", encoding: str = "utf-8", **how
) -> None:
    x, y, w, h = SIDES
    sides = {"x": x / 0.32, "y": y / 0.24, "width": w / 0.32, "height": h / 0.24}
    result = [{"type": "rectanglelabels", "value": sides | {"rectanglelabels": [label]}}] * how.get(
        "times", 1
    )
    tasks = [{"data": {"image": name}, "annotations": [{"result": result}]} for name in names]
    files.text("tasks.json", json.dumps(tasks, ensure_ascii=False), encoding)


NAMED: list[Writer] = [labels_csv, boxes_csv, parquet, jsonl, as_coco, as_voc, cvat, label_studio]
BOXED: list[Writer] = [boxes_csv, jsonl, as_coco, as_voc, cvat, label_studio]
SIZED: list[Writer] = [boxes_csv, jsonl, as_coco, as_voc, cvat]
TEXTS: list[Writer] = [labels_csv, boxes_csv, jsonl, as_coco, as_voc, cvat]
by_name = pytest.mark.parametrize("write", NAMED, ids=lambda write: write.__name__)

PATHS = [f"shots/é {n}/img_{n}.png" for n in range(3)]
RUNGS: dict[str, tuple[Callable[[str], str], str | None]] = {
    "path": (lambda path: path, None),
    "end": (lambda path: path.partition("/")[2], None),
    "backslash": (lambda path: path.replace("/", "\\"), "differ from the paths only"),
    "dots": (lambda path: f"./shots/../{path}", "differ from the paths only"),
    "percent": (quote, "differ from the paths only"),
    "decomposed": (lambda path: unicodedata.normalize("NFD", path), "differ from the paths only"),
    "windows": (lambda path: f"C:\\work\\{path}".replace("/", "\\"), "begin with another folder"),
    "address": (lambda path: f"https://example.org/set/{quote(path)}", "begin with another folder"),
    "case": (lambda path: path.upper(), "are in another case"),
    "suffix": (lambda path: path.replace(".png", ".jpg"), "have another suffix"),
    "bare": (lambda path: path.removesuffix(".png"), "have another suffix"),
}


def truth(write: Writer, label: str = "bolt") -> str | list:
    return [(label, *SIDES)] if write in BOXED else label


@pytest.mark.slow
@by_name
@pytest.mark.parametrize("rung", RUNGS)
def test_an_image_is_found_however_it_is_called(tmp_path, write, rung):
    files = Files(tmp_path / "data")
    files.images(*PATHS)
    called, said = RUNGS[rung]
    write(files, [called(path) for path in PATHS])
    told = [("WARN", f"3 names of images {said}")] if said else []
    check(plan_of(files.root), Comes(dict.fromkeys(PATHS, truth(write)), told=told))


@by_name
def test_a_name_that_fits_two_images_is_an_error_that_names_both(tmp_path, write):
    files = Files(tmp_path / "data")
    files.images("a/1.png", "b/1.png", "a/2.png")
    write(files, ["1.png", "2.png"])
    told = [("ERROR", "1.png fits a/1.png and b/1.png")]
    check(plan_of(files.root), Comes({"a/2.png": truth(write)}, told=told))


@by_name
def test_an_image_that_is_not_there_is_an_error_and_never_another_one(tmp_path, write):
    files = Files(tmp_path / "data")
    files.images("a/1.png", "a/2.png", "b/3.png")
    write(files, ["a/1.png", "a/2.png", "a/3.png", "c/9.png"])
    # Of one folder that is gone, one image alone may have moved.
    told = [("ERROR", "c/9.png is annotated .* but is not there"), ("ERROR", "a/3.png is annotated")]
    found = dict.fromkeys(("a/1.png", "a/2.png"), truth(write))
    check(plan_of(files.root), Comes(found, told=told))


@by_name
def test_an_image_that_is_annotated_twice_is_an_error(tmp_path, write):
    if write is boxes_csv:
        pytest.skip("one row a box")
    files = Files(tmp_path / "data")
    files.images("1.png", "2.png")
    write(files, ["1.png", "2.png", "1.png"])
    told = [("ERROR", "annotated once: .*1.png is annotated again")]
    check(plan_of(files.root), Comes(dict.fromkeys(("1.png", "2.png"), truth(write)), told=told))


@by_name
def test_an_image_without_annotation_is_told_and_left_out(tmp_path, write):
    files = Files(tmp_path / "data")
    files.images("1.png", "2.png", "3.png")
    write(files, ["1.png", "2.png"])
    plan = plan_of(files.root)
    check(
        plan,
        Comes(dict.fromkeys(("1.png", "2.png"), truth(write)), told=[("WARN", "3.png .*it is left out")]),
    )
    assert plan.sums.images_left_out == {"without annotation": 1}


@by_name
def test_folders_called_after_splits_are_these(tmp_path, write):
    files = Files(tmp_path / "data")
    paths = ["train/1.png", "valid/1.png", "test/1.png", "train/station/2.png"]
    files.images(*paths)
    write(files, paths)
    splits = dict(zip(paths, ("train", "val", "holdout", "train"), strict=True))
    check(plan_of(files.root), Comes(dict.fromkeys(paths, truth(write)), splits))


@by_name
def test_val_is_held_out_only_where_nothing_else_is(tmp_path, write):
    files = Files(tmp_path / "data")
    files.images("train/1.png", "val/1.png")
    write(files, ["train/1.png", "val/1.png"])
    assert read_source(files.root).images.splits() == {"train", "holdout"}
    assert read_source(files.root, held_elsewhere=True).images.splits() == {"train", "val"}


@by_name
def test_classes_are_composed(tmp_path, write):
    files = Files(tmp_path / "data")
    files.images("1.png")
    write(files, ["1.png"], unicodedata.normalize("NFD", "Schäden"))
    composed = unicodedata.normalize("NFC", "Schäden")
    check(plan_of(files.root), Comes({"1.png": truth(write, composed)}))


@pytest.mark.parametrize("write", TEXTS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_is_what_its_mark_says_or_what_is_stated(tmp_path, write, encoding):
    files = Files(tmp_path / "data")
    files.images("1.png")
    write(files, ["1.png"], "Schäden", encoding)
    expected = Comes({"1.png": truth(write, "Schäden")})
    if encoding == "cp1252":
        with pytest.raises(
            SourceError, match=r"is not UTF-8; say what the text is, for example --encoding cp1252"
        ):
            read_source(files.root)
        check(plan_of(files.root, Stated(encoding="cp1252")), expected)
    else:
        check(plan_of(files.root), expected)


@pytest.mark.parametrize("write", BOXED, ids=lambda write: write.__name__)
def test_a_box_that_stands_twice_is_kept_once(tmp_path, write):
    files = Files(tmp_path / "data")
    files.images("1.png", "2.png")
    write(files, ["1.png", "2.png"], times=3)
    plan = plan_of(files.root)
    check(
        plan,
        Comes(dict.fromkeys(("1.png", "2.png"), truth(write)), told=[("WARN", "1.png has 2 boxes twice")]),
    )
    assert plan.sums.annotations == 6 and plan.sums.annotations_left_out == {"standing twice": 4}


@pytest.mark.parametrize("write", SIZED, ids=lambda write: write.__name__)
@pytest.mark.parametrize(
    ("size", "box", "told"),
    [
        ((0, 0), SIDES, ()),
        ((32, 24), SIDES, ()),
        (
            (64, 48),
            (1, 1.5, 5, 4),
            [("WARN", "1.png measures 32×24, its annotation says 64×48; its boxes are scaled")],
        ),
        ((24, 32), SIDES, [("ERROR", "1.png measures 32×24, its annotation says 24×32")]),
    ],
)
def test_sizes_that_are_stated_are_checked(tmp_path, write, size, box, told):
    files = Files(tmp_path / "data")
    files.images("1.png")
    write(files, ["1.png"], size=size)
    check(plan_of(files.root), Comes({"1.png": [("bolt", *box)]}, told=told))


@pytest.mark.parametrize("write", SIZED, ids=lambda write: write.__name__)
def test_boxes_drawn_before_an_image_was_turned_are_turned_with_it(tmp_path, write):
    files = Files(tmp_path / "data")
    files.image("1.jpg", 24, 32, orientation=6)
    write(files, ["1.jpg"], size=(32, 24))
    told = [("WARN", "1.jpg has boxes drawn before it was turned upright")]
    check(plan_of(files.root), Comes({"1.jpg": [("bolt", 13, 2, 8, 10)]}, told=told))


def yolo(files: Files, names: Sequence[str]) -> None:
    x, y, w, h = SIDES
    box = f"0 {(x + w / 2) / 32} {(y + h / 2) / 24} {w / 32} {h / 24}\n"
    files.text("classes.txt", "bolt\n")
    for name in names:
        files.text(name.replace("images/", "labels/").replace(".png", ".txt"), box)


def _broken(files: Files, writer: Writer) -> str:
    """Make what is said of one image of four unreadable; the pattern that names it."""
    names = [f"images/{n}.png" for n in range(4)]
    files.images(*names)
    writer(files, names)
    breaks = {
        as_coco: ("i.json", '"bbox": [2', '"bbox": ["left"', "annotation 1"),
        as_voc: ("xml/note0.xml", "<xmin>3", "<xmin>left", "the object 'bolt' has no bndbox"),
        cvat: ("annotations.xml", 'xtl="2"', 'xtl="left"', "has no usable coordinates"),
        label_studio: ("tasks.json", '"x": 6.25', '"x": "left"', "has no usable coordinates"),
        boxes_csv: ("boxes.csv", "bolt,2,", "bolt,left,", "is no box of four numbers"),
        jsonl: ("metadata.jsonl", "[2, ", '["left", ', "is no box of four numbers"),
        yolo: ("labels/0.txt", "0 ", "0 left ", "'left' is no number"),
    }
    name, before, after, said = breaks[writer]
    text = (files.root / name).read_text()
    assert before in text, text[:400]
    files.text(name, text.replace(before, after, 1))
    return said


@pytest.mark.parametrize("writer", [*BOXED, yolo], ids=lambda writer: writer.__name__)
def test_what_cannot_be_read_of_one_image_leaves_that_image_out(tmp_path, writer):
    files = Files(tmp_path / "data")
    said = _broken(files, writer)
    with pytest.raises(SourceError, match=said) as caught:
        read_source(files.root)
    check_said(str(caught.value))
    plan = plan_of(files.root, Stated(leave_out_errors=True))
    kept = [row["path"].rpartition("/")[2] for row in plan.annotations.to_pylist()]
    assert plan.ok and kept == ["1.png", "2.png", "3.png"]
    assert plan.sums.add_up() and plan.sums.kept == 3, plan.sums.as_dict()
    told = plan.findings[plan.findings["check"] == "left out"]
    assert any(said in text for text in told["what"]), plan.findings.to_string()


@by_name
def test_images_that_one_name_fits_are_left_out_and_never_without_objects(tmp_path, write):
    files = Files(tmp_path / "data")
    files.images("a/1.png", "b/1.png", "a/2.png")
    write(files, ["1.png", "2.png"])
    plan = plan_of(files.root, Stated(leave_out_errors=True, unlabelled="background"))
    assert [row["path"].removeprefix("batches/b/images/") for row in plan.annotations.to_pylist()] == [
        "a/2.png"
    ]
    assert plan.ok and plan.sums.add_up()
    assert plan.sums.images_left_out["an annotation fits it and others"] == 2


def test_a_label_that_fits_two_images_leaves_both_out(tmp_path):
    files = Files(tmp_path / "data")
    files.images("images/a/1.png", "images/b/1.png", "images/a/2.png", "images/b/3.png")
    yolo(files, ["labels/1.txt", "labels/2.txt"])
    plan = plan_of(files.root, Stated(leave_out_errors=True))
    names = [row["path"].removeprefix("batches/b/images/images/") for row in plan.annotations.to_pylist()]
    assert names == ["a/2.png", "b/3.png"] and plan.ok and plan.sums.add_up()


def test_the_part_of_the_data_tells_images_apart_that_are_called_alike(tmp_path):
    for write, subsets in (
        (cvat, ("Train", "Validation")),
        (cvat, ("line 1", "line 2")),
        (as_coco, ("x", "y")),
    ):
        files = Files(tmp_path / f"{write.__name__} {subsets[0]}")
        files.images(*(f"images/{subset}/0001.png" for subset in subsets))
        for subset in subsets:
            write(files, ["0001.png"], label=f"bolt {subset}")
            if write is cvat:
                text = (files.root / "annotations.xml").read_text()
                files.text(f"{subset}.xml", text.replace("<image ", f'<image subset="{subset}" '))
                (files.root / "annotations.xml").unlink()
            else:
                (files.root / "i.json").rename(files.root / f"instances_{subset}.json")
        truth = {f"images/{subset}/0001.png": [(f"bolt {subset}", *SIDES)] for subset in subsets}
        check(plan_of(files.root), Comes(truth))
