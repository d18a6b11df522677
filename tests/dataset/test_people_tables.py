"""Tables of labels, of boxes, and with images in them, as people have them."""

import json
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dataset.as_people_have_it import BOX, Boxes, Comes, Files, check, check_case, check_said, plan_of
from tests.dataset.store import Repository
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.plain_text import moment_of
from visionops_assets.dataset.importing.reading import read_source
from visionops_assets.dataset.importing.statements import Stated

AB = {f"{number}.png": "ab"[number % 2] for number in range(4)}
BOLTS = {name: [BOX] for name in AB}


def rows(line, head="path,label", end="\n") -> str:
    return head + end + "".join(line(number, "ab"[number % 2]) + end for number in range(4))


def plain(
    files: Files, text: str | bytes, encoding: str = "utf-8", name: str = "labels.csv", folder: str = ""
) -> None:
    files.images(*(f"{folder}{image}" for image in AB))
    files.text(name, text, encoding)


def excel(files: Files) -> Comes:
    files.images(*(f"images/é {number}.png" for number in range(4)))
    lines = rows(lambda n, _: f'é {n}.png;{("007", "08")[n % 2]};"L;1"', "Filename;Class;Line", "\r\n")
    files.text("labels.csv", lines, "utf-8-sig")
    return Comes({f"images/é {n}.png": ("007", "08")[n % 2] for n in range(4)})


def unicode_text(files: Files) -> Comes:
    plain(files, rows(lambda n, c: f"{n}.png\t{c}", "path\tlabel", "\r\n"), "utf-16")
    return Comes(AB)


def backslashes(files: Files) -> Comes:
    plain(files, rows(lambda n, c: f"images\\{n}.png,{c}"), folder="images/")
    told = [("WARN", r"images/0.png is called 'images\\+0.png': 4 names of images differ")]
    return Comes({f"images/{name}": label for name, label in AB.items()}, told=told)


def dots(files: Files) -> Comes:
    plain(files, rows(lambda n, c: f"./images/../images/{n}.png,{c}"), folder="images/")
    return Comes({f"images/{name}": label for name, label in AB.items()}, told=[("WARN", "named as written")])


def percent(files: Files) -> Comes:
    files.images(*(f"a b{n}.png" for n in range(3)), "a%20b3.png")
    files.text("labels.csv", rows(lambda n, c: f"a%20b{n}.png,{c}"))
    truth = {"a b0.png": "a", "a b1.png": "b", "a b2.png": "a", "a%20b3.png": "b"}
    return Comes(truth, told=[("WARN", "3 names of images differ")])


def composed_otherwise(files: Files) -> Comes:
    names = [unicodedata.normalize("NFD", f"é{n}.png") for n in range(4)]
    files.images(*names)
    files.text("labels.csv", rows(lambda n, c: unicodedata.normalize("NFC", f"é{n}.png") + f",{c}"))
    truth = {name: "ab"[n % 2] for n, name in enumerate(names)}
    return Comes(truth, told=[("WARN", "named as written")])


def another_case(files: Files) -> Comes:
    plain(files, rows(lambda n, c: f"{n}.PNG,{c}"))
    return Comes(AB, told=[("WARN", "0.png is called '0.PNG': 4 names of images are in another case")])


def without_suffix(files: Files) -> Comes:
    plain(files, rows(lambda n, c: f"{n},{c}", "image_id,label"))
    return Comes(AB, told=[("WARN", "4 names of images have another suffix than the files, or none")])


def upper(files: Files) -> Comes:
    files.images(*(f"IMG_{n}.JPG" for n in range(4)))
    files.text("LABELS.CSV", rows(lambda n, c: f"IMG_{n}.JPG,{c}", "PATH,LABEL"))
    return Comes({f"IMG_{n}.JPG": "ab"[n % 2] for n in range(4)})


def foreign_folder(files: Files) -> Comes:
    plain(files, rows(lambda n, c: f"C:\\Users\\bob\\images\\{n}.png,{c}"), folder="images/")
    truth = {f"images/{name}": label for name, label in AB.items()}
    return Comes(
        truth,
        told=[
            (
                "WARN",
                "images/0.png is called .*: 4 names .* another folder .C:/Users/bob/ for ./",
            )
        ],
    )


def two_foreign_folders(files: Files) -> Comes:
    plain(files, rows(lambda n, c: f"/{'xy'[n % 2]}/{n}.png,{c}"))
    files.images("c/9.png")
    files.text("labels.csv", rows(lambda n, c: f"/{'xy'[n % 2]}/{n}.png,{c}") + "9.png,a\n")
    told = [
        ("ERROR", f"/{'xy'[n % 2]}/{n}.png is annotated .*row {n + 2}.* but is not there") for n in range(4)
    ]
    return Comes({"c/9.png": "a"}, told=told)


def two_that_fit(files: Files) -> Comes:
    files.images("a/0.png", "b/0.png", "a/1.png")
    files.text("labels.csv", "path,label\n0.png,a\n1.png,b\n")
    return Comes({"a/1.png": "b"}, told=[("ERROR", r"0.png fits a/0.png and b/0.png \(labels.csv, row 2\)")])


def delimiter_of_excel(files: Files) -> Comes:
    plain(files, rows(lambda n, c: f"{n}.png;{c}", "sep=;\r\npath;label", "\r\n"))
    return Comes(AB)


def spaces(files: Files) -> Comes:
    files.images(" 0.png", "1.png", "2 .png")
    files.text("labels.csv", "path,label\n 0.png,a\n 1.png ,b\n2 .png, a \n")
    return Comes({" 0.png": "a", "1.png": "b", "2 .png": "a"})


def empty_rows(files: Files) -> Comes:
    plain(files, rows(lambda n, c: f"{n}.png,{c},,", "path,label,,", "\r\n") + ",,,\r\n,,,\r\n")
    return Comes(AB, told=[("WARN", "labels.csv has 2 rows with nothing in them; they are skipped")])


def boxes_by_corners(files: Files) -> Comes:
    lines = "".join(f"{n}.png,32,24,bolt,2,3,12,11\n" for n in range(4)) + "0.png,32,24,nut,12,3,20,12\n"
    plain(files, "filename,width,height,class,xmin,ymin,xmax,ymax\n" + lines, name="_annotations.csv")
    return Comes(BOLTS | {"0.png": [BOX, ("nut", 12, 3, 8, 9)]})


def one_box_each(files: Files) -> Comes:
    plain(files, rows(lambda n, _: f"{n}.png,bolt,2,3,12,11", "image,label,x1,y1,x2,y2"))
    return Comes(BOLTS)


def boxes_by_sides(files: Files) -> Comes:
    plain(
        files, rows(lambda n, _: f"{n}.png,bolt,2,3,10,8", "image,label,bbox_x,bbox_y,bbox_width,bbox_height")
    )
    return Comes(BOLTS)


def boxes_by_centre(files: Files) -> Comes:
    plain(files, rows(lambda n, _: f"{n}.png,bolt,7,7,10,8", "image,label,cx,cy,w,h"))
    return Comes(BOLTS)


def boxes_as_shares(files: Files) -> Comes:
    head = "image,label,x_center_norm,y_center_norm,width_norm,height_norm"
    plain(files, rows(lambda n, _: f"{n}.png,bolt,0.5,0.5,0.25,0.5", head))
    return Comes({name: [("bolt", 12, 6, 8, 12)] for name in AB})


def shares_that_nothing_names(files: Files) -> Comes:
    plain(files, rows(lambda n, _: f"{n}.png,bolt,0.2,0.2,0.5,0.5", "image,label,x1,y1,x2,y2"))
    told = [("ERROR", "has its boxes within the first pixel.*look like shares")]
    return Comes({name: [("bolt", 0.2, 0.2, 0.3, 0.3)] for name in AB}, told=told)


def an_image_without_boxes(files: Files) -> Comes:
    lines = (
        "path,x1,y1,x2,y2,class\n" + "".join(f"{n}.png,2,3,12,11,bolt\n" for n in range(3)) + "3.png,,,,,\n"
    )
    plain(files, lines)
    return Comes(BOLTS | {"3.png": []})


def boxes_in_another_size(files: Files) -> Comes:
    plain(
        files,
        rows(lambda n, _: f"{n}.png,64,48,bolt,4,6,24,22", "filename,width,height,class,xmin,ymin,xmax,ymax"),
    )
    return Comes(
        BOLTS, told=[("WARN", "0.png measures 32×24, its annotation says 64×48; its boxes are scaled")]
    )


def tables_of_splits(files: Files) -> Comes:
    files.images(*AB)
    files.text("train.csv", "path,label\n0.png,a\n1.png,b\n2.png,a\n")
    files.text("test.csv", "path,label\n3.png,b\n")
    return Comes(AB, {"0.png": "train", "3.png": "holdout"})


def hugging_face_folder(files: Files) -> Comes:
    for split in ("train", "test"):
        files.images(f"{split}/0.png", f"{split}/1.png")
        files.text(f"{split}/metadata.csv", "file_name,label\n0.png,a\n1.png,b\n")
    truth = {f"{split}/{n}.png": "ab"[n] for split in ("train", "test") for n in range(2)}
    return Comes(truth, {"train/0.png": "train", "test/0.png": "holdout"})


def hugging_face_objects(files: Files) -> Comes:
    files.images(*(f"train/{name}" for name in AB))
    lines = [
        json.dumps({"file_name": name, "objects": {"bbox": [[2, 3, 10, 8]], "categories": ["bolt"]}})
        for name in AB
    ]
    files.text("train/metadata.jsonl", "\n".join(lines))
    return Comes({f"train/{name}": [BOX] for name in AB}, {"train/0.png": "train"})


CASES = [
    *(
        excel,
        unicode_text,
        backslashes,
        dots,
        percent,
        composed_otherwise,
        another_case,
        without_suffix,
        upper,
    ),
    *(
        foreign_folder,
        two_foreign_folders,
        two_that_fit,
        delimiter_of_excel,
        spaces,
        empty_rows,
        boxes_by_corners,
        one_box_each,
        boxes_by_sides,
    ),
    *(
        boxes_by_centre,
        boxes_as_shares,
        shares_that_nothing_names,
        an_image_without_boxes,
        boxes_in_another_size,
    ),
    *(tables_of_splits, hugging_face_folder, hugging_face_objects),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_table_comes_as_it_is(tmp_path, case):
    check_case(case, tmp_path / "data")


@pytest.mark.parametrize(
    "time", ["2026-02-01 14:00", "2026:02:01 14:00:00", "20260201T140000Z", "Sun, 01 Feb 2026 14:00:00 GMT"]
)
def test_a_time_that_can_be_read_one_way_is(tmp_path, time):
    files = Files(tmp_path / "data")
    plain(files, rows(lambda n, c: f"{n}.png;{c};{time}", "path;label;captured_at"))
    seen = {row["captured_at"].isoformat() for row in plan_of(files.root).annotations.to_pylist()}
    assert seen == {"2026-02-01T14:00:00+00:00"}


@pytest.mark.parametrize("time", ["01.02.2026 14:00", "1/2/26", "13/02/2026", "1769954400", "now"])
def test_a_time_whose_month_nothing_says_is_an_error_that_names_the_row(tmp_path, time):
    files = Files(tmp_path / "data")
    plain(files, rows(lambda n, c: f"{n}.png;{c};{time}", "path;label;captured_at"))
    told = [("ERROR", rf"0.png has captured_at '{time}' \(labels.csv, row 2\); write it with the year first")]
    check(plan_of(files.root), Comes(dict(AB), told=told))


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        *(
            (day, 0)
            for day in ("2026-1-5", "2026/1/5", "5-Jan-2026", "05Jan2026", "5/Jan/2026", "5 January 2026")
        ),
        *(
            (day, 0)
            for day in ("2026-Jan-05", "2026 Jan 5", "Jan 5, 2026", "Monday, 5 January 2026", "20260105")
        ),
        *(
            ("2026/1/5 08:30", 8),
            ("2026-1-5T08:30:00+00:00", 8),
            ("2026-1-05 8:30 PM", 20),
            ("05-JAN-2026 08:30", 8),
        ),
        *(
            ("Mon, 05 Jan 2026 10:30:00 GMT", 10),
            ("Mon, 05 Jan 2026 10:30:00 +0200", 8),
            ("Mon Jan  5 10:30:00 2026", 10),
        ),
    ],
)
def test_a_date_that_is_clear_is_read_however_it_is_written(text, hour):
    assert moment_of(text) == datetime(2026, 1, 5, hour, 30 if ":" in text else 0, tzinfo=UTC)


_UNCLEAR = ("5-1-2026", "5-Jan-26", "26-Jan-05", "2026-1", "2026-0105", "2026-13-1", "2026-2-30", "2026-005")
_UNKNOWN_ZONES = ("5 Jan 2026 10:00 CST", "2026-1-5 10:00 IST", "2026-1-5 10:00 GMT+3")


@pytest.mark.parametrize("text", [*_UNCLEAR, *_UNKNOWN_ZONES])
def test_a_date_or_zone_that_is_not_clear_is_never_guessed(text):
    with pytest.raises(ValueError):
        moment_of(text)


def test_another_encoding_is_stated_never_guessed(tmp_path):
    files = Files(tmp_path / "data")
    plain(files, rows(lambda n, _: f"{n}.png;{('Schäden', 'gut')[n % 2]}", "path;label", "\r\n"), "cp1252")
    with pytest.raises(
        SourceError, match=r"line 2, byte \d+: '0.png;Sch.xe4den' is not UTF-8; .*--encoding cp1252"
    ):
        read_source(files.root)
    check(
        plan_of(files.root, Stated(encoding="cp1252")),
        Comes({f"{n}.png": ("Schäden", "gut")[n % 2] for n in range(4)}),
    )
    with pytest.raises(SourceError, match="no encoding is called 'cp12'"):
        Stated(encoding="cp12")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "box"), [("xywh", (2, 3, 10, 8)), ("xyxy", (2, 3, 12, 11)), ("cxcywh", (7, 7, 10, 8))]
)
@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_the_order_of_a_box_is_stated_never_guessed(tmp_path, order, box, name):
    files = Files(tmp_path / "data")
    files.images(*AB)
    if name.endswith(".csv"):
        files.text(name, rows(lambda n, _: f'{n}.png,bolt,"{list(box)}"', "path,label,bbox"))
    else:
        boxes = [[[float(side) for side in box]]] * 4
        pq.write_table(pa.table({"path": [*AB], "boxes": boxes, "label": ["bolt"] * 4}), files.root / name)
    with pytest.raises(SourceError, match=r"nothing says in which order .* --boxes xywh .*--boxes cxcywh"):
        read_source(files.root)
    check(plan_of(files.root, Stated(boxes=order)), Comes(BOLTS))


def shard(files: Files, path: str, labels: list[int], named: bool = True) -> None:
    images = [{"bytes": files.png(), "path": f"{number}.png"} for number in range(len(labels))]
    table = pa.table({"image": images, "label": labels})
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    if named:
        told = json.dumps({"info": {"features": features}}).encode()
        table = table.replace_schema_metadata({b"huggingface": told})
    (files.root / path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, files.root / path)


def test_images_in_a_table_are_unpacked_and_its_name_is_their_split(tmp_path):
    files = Files(tmp_path / "data")
    shard(files, "train-00000-of-00001.parquet", [0, 1, 0, 1], named=False)
    plan = plan_of(files.root)
    check(plan, Comes({name: str(n % 2) for n, name in enumerate(AB)}, dict.fromkeys(AB, "train")))
    assert plan.uploads[0].read().startswith(b"\x89PNG")


def test_shards_of_one_name_are_told_apart_and_their_class_numbers_have_names(tmp_path):
    files = Files(tmp_path / "data")
    shard(files, "data/train-00000-of-00002.parquet", [0, 1])
    shard(files, "data/train-00001-of-00002.parquet", [1])
    shard(files, "data/test-00000-of-00001.parquet", [0])
    truth = {"train-00000-of-00002/0.png": "cat", "train-00000-of-00002/1.png": "dog"}
    truth |= {"train-00001-of-00002/0.png": "dog", "test-00000-of-00001/0.png": "cat"}
    check(
        plan_of(files.root),
        Comes(truth, {"train-00001-of-00002/0.png": "train", "test-00000-of-00001/0.png": "holdout"}),
    )


def grouped(path: Path, groups: pa.Array) -> Files:
    files = Files(path)
    names = [f"{n}.png" for n in range(len(groups))]
    files.images(*names)
    labels = ["ab"[n % 2] for n in range(len(groups))]
    pq.write_table(pa.table({"path": names, "label": labels, "group": groups}), path / "labels.parquet")
    return files


@pytest.mark.parametrize("last", [0, None])
@pytest.mark.parametrize("kind", [pa.int64(), pa.float64()])
def test_groups_that_are_numbers_are_these_numbers_though_one_is_missing(tmp_path, kind, last):
    plan = plan_of(grouped(tmp_path / "d", pa.array([0, 0, 1, 1, 2, last], kind)).root)
    groups = [row["group"] for row in plan.annotations.to_pylist()]
    assert groups[:5] == ["0", "0", "1", "1", "2"] and groups[5] == (None if last is None else "0")


def test_a_group_that_main_calls_otherwise_is_told(tmp_path):
    repository = Repository()
    first = grouped(tmp_path / "first", pa.array(["0.0", "0.0", "1.0", "1.0"]))
    repository.publish(repository.plan(first.root, "a"))
    second = grouped(tmp_path / "second", pa.array(["0", "0", "7", "7"]))
    found = repository.plan(second.root, "b").findings
    told = found[found["check"] == "groups whole"]
    assert told["what"].tolist() == ["is called '0.0' on main"] and told["image"].tolist() == ["group 0"]
    assert told["severity"].tolist() == ["WARN"]


def test_regions_as_text_are_no_classes(tmp_path):
    files = Files(tmp_path / "data")
    plain(files, rows(lambda n, _: f'{n}.png,"[{{""x"":1,""rectanglelabels"":[""a""]}}]"'))
    with pytest.raises(
        SourceError, match=r"its column 'label' holds .* which is no class; .*export them as JSON or COCO"
    ):
        read_source(files.root)


def test_rows_of_one_image_that_name_two_splits_are_an_error(tmp_path):
    files = Files(tmp_path / "data")
    files.images(*AB)
    lines = rows(lambda n, _: f"{n}.png,2,3,12,11,bolt,train", "path,xmin,ymin,xmax,ymax,label,split")
    files.text("boxes.csv", f"{lines}0.png,2,3,12,11,nut,test\n")
    plan = plan_of(files.root)
    assert not plan.ok
    (what,) = plan.findings.loc[plan.findings["check"] == "one split", "what"]
    assert what == "has the split 'train' in row 2, 'test' in row 6 (boxes.csv)"


def test_a_column_of_ones_own_may_hold_numbers_and_texts(tmp_path):
    files = Files(tmp_path / "data")
    files.images(*AB)
    serials = (0, 1, "A12", ["x", 2])
    entries = (
        json.dumps({"file_name": f"{n}.png", "label": "ab"[n % 2], "serial": serials[n]}) for n in range(4)
    )
    files.text("metadata.jsonl", "\n".join(entries))
    plan = plan_of(files.root)
    assert plan.ok, plan.findings.to_string()
    assert plan.annotations["serial"].to_pylist() == ["0", "1", "A12", '["x", 2]']


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ({"bbox": None, "categories": None}, r"metadata.jsonl, row 1: expected objects with as many `bbox`"),
        ({"bbox": [[1, 2, 3, 4]], "categories": "bolt"}, "expected objects with as many `bbox`"),
        ({"bbox": "1 2 3 4", "categories": [1, 2, 3, 4, 5, 6, 7]}, "expected objects with as many `bbox`"),
        ({"bbox": [[1, 2, 3, 4]], "categories": [None]}, "an object has the class 'None'; give each a name"),
        ({"bbox": [[1, 2, 3, 4]], "categories": [{"id": 1}]}, "an object has the class \"{'id': 1}\""),
        ({"bbox": [None], "categories": ["bolt"]}, "'None' is no box of four numbers"),
        ("none", "expected objects with as many `bbox` as `categories`, found 'none'"),
        (["none"], "expected objects"),
        ([None], "expected objects"),
        (7, "found 7"),
    ],
)
def test_objects_that_are_none_are_named_with_their_row(tmp_path, objects, said):
    files = Files(tmp_path / "data")
    files.images("a.png")
    files.text("metadata.jsonl", json.dumps({"file_name": "a.png", "objects": objects}))
    with pytest.raises(SourceError, match=said) as caught:
        read_source(files.root)
    check_said(str(caught.value))


def test_labels_of_images_beside_boxes_are_no_one_source(tmp_path):
    files = Files(tmp_path / "data")
    files.images("a.png", "b.png")
    files.text("boxes.csv", "path,label,x1,y1,x2,y2\na.png,bolt,1,1,5,5\n")
    files.text("labels.csv", "path,label\nb.png,good\n")
    with pytest.raises(
        SourceError, match=r"labels.csv, row 2 labels a whole image, boxes.csv, row 2 has boxes"
    ):
        read_source(files.root)


def test_decimal_commas_are_read_where_another_delimiter_says_so(tmp_path):
    files = Files(tmp_path / "data")
    files.images("a.png", "b.png")
    files.text("boxes.csv", "path;label;x;y;w;h\na.png;bolt;2,0;3;10,0;8\nb.png;bolt;2,5;3,25;10;8\n")
    truth: dict[str, str | Boxes] = {"a.png": [BOX], "b.png": [("bolt", 2.5, 3.25, 10, 8)]}
    check(plan_of(files.root), Comes(truth, told=[("WARN", "boxes.csv has 2 boxes with decimal commas")]))
    files.text("boxes.csv", 'path,label,x,y,w,h\na.png,bolt,"2,500",3,10,8\n')
    with pytest.raises(SourceError, match="is no box of four numbers"):
        read_source(files.root)


@pytest.mark.parametrize("line", ["a.png,cat", "1;photos/a.JPG;cat", "a.png,2,3,10,8,bolt"])
def test_a_table_without_a_first_line_of_names_is_told_so(tmp_path, line):
    files = Files(tmp_path / "data")
    files.images("a.png", "photos/a.JPG")
    files.text("labels.csv", f"{line}\n{line.replace('a.', 'b.')}\n")
    with pytest.raises(
        SourceError, match=r"its first line .* is of an image, and names no columns; add one before it"
    ):
        read_source(files.root)


def test_columns_that_are_a_class_each_are_read(tmp_path):
    """As Roboflow writes its `_classes.csv`."""
    files = Files(tmp_path / "data")
    truth: dict[str, str | Boxes] = {}
    for split in ("train", "valid", "test"):
        files.images(f"{split}/a.png", f"{split}/b.png")
        files.text(f"{split}/_classes.csv", "filename, cat, dog\na.png, 1, 0\nb.png, 0, 1\n")
        truth |= {f"{split}/a.png": "cat", f"{split}/b.png": "dog"}
    splits = {"train/a.png": "train", "valid/a.png": "val", "test/b.png": "holdout"}
    check(plan_of(files.root), Comes(truth, splits))
    files.text("train/_classes.csv", "filename, cat, dog\na.png, 1, 1\nb.png, 0, 0\n")
    told = [("ERROR", "train/a.png has the classes cat, dog"), ("ERROR", "train/b.png has no class")]
    check(
        plan_of(files.root),
        Comes({name: one for name, one in truth.items() if name != "train/b.png"}, told=told),
    )


@pytest.mark.parametrize("name", ["sample_submission.csv", "sampleSubmission.csv", "gender_submission.csv"])
def test_answers_that_a_competition_shows_as_a_form_are_no_labels(tmp_path, name):
    files = Files(tmp_path / "data")
    files.images("train/0.png", "train/1.png", "test/2.png")
    files.text("train.csv", "image,label\n0.png,a\n1.png,b\n")
    files.text(name, "image,label\n2.png,a\n")
    told = [
        ("WARN", f"{name} is a form for answers"),
        ("WARN", "test/2.png is in no table|is not in train.csv"),
    ]
    check(plan_of(files.root), Comes({"train/0.png": "a", "train/1.png": "b"}, told=told))
    (files.root / "train.csv").unlink()
    with pytest.raises(SourceError, match=f"{name}: is a form for answers"):
        read_source(files.root)


def test_a_first_line_of_numbers_names_no_columns(tmp_path):
    files = Files(tmp_path / "data")
    files.images("0.png")
    files.text("import.csv", "TRAIN,gs://b/0.png,bolt,0.1,0.1,,,0.4,0.5,,\n")
    with pytest.raises(SourceError, match="its first line names no columns; add one before it"):
        read_source(files.root)


def test_of_many_columns_a_few_are_shown(tmp_path):
    files = Files(tmp_path / "data")
    files.text("train.csv", ",".join(["label", *(f"pixel{n}" for n in range(784))]) + "\n")
    with pytest.raises(SourceError, match=r"label, pixel0, .* and 77\d more") as caught:
        read_source(files.root)
    assert len(str(caught.value)) < 600
