"""YOLO as people have it: Ultralytics, darknet, CVAT, labelImg, Roboflow."""

import pytest

from tests.dataset.as_people_have_it import Comes, Files, check, check_case, plan_of
from visionops_assets.dataset.importing.reading import read_source
from visionops_assets.dataset.importing.statements import Stated

BOLT, NUT = ("bolt", 15, 5, 10, 10), ("nut", 15, 5, 10, 10)
TRUTH = {f"images/{n}.png": [(BOLT, NUT)[n % 2]] for n in range(4)}


def line(number: int) -> str:
    return f"{number % 2} 0.5 0.5 0.25 0.5\n"


def drawn(files: Files, of=line, images: str = "images", labels: str = "labels", count: int = 4) -> None:
    for n in range(count):
        files.image(f"{images}/{n}.png", 40, 20)
        files.text(f"{labels}/{n}.txt", of(n))


def named(files: Files, yaml: str = "names: [bolt, nut]\n", **how) -> None:
    drawn(files, **how)
    files.text("data.yaml", yaml)


def below(folder: str, count: int = 4) -> dict:
    return {f"{folder}/{n}.png": [(BOLT, NUT)[n % 2]] for n in range(count)}


def empty_labels(files: Files) -> Comes:
    named(files)
    files.text("labels/0.txt", "")
    files.text("labels/1.txt", "\r\n")
    files.image("images/9.png", 40, 20)
    truth = TRUTH | {"images/0.png": [], "images/1.png": [], "images/9.png": []}
    return Comes(
        truth, told=[("WARN", "images/9.png has no label file; it is taken for an image without objects")]
    )


def a_preview_beside(files: Files) -> Comes:
    named(files)
    files.image("preview.png", 80, 60)
    return Comes(TRUTH, told=[("WARN", "preview.png has no label file; it is left out")])


def line_ends(files: Files) -> Comes:
    named(files, of=lambda n: line(n).replace(" ", "\t", 1).replace("\n", "  \r\n\r\n"))
    return Comes(TRUTH)


def polygons(files: Files) -> Comes:
    named(files, of=lambda n: f"{n % 2} 0.25 0.25 0.75 0.25 0.5 0.75\n")
    return Comes({name: [(one[0], 10, 5, 20, 10)] for name, (one,) in TRUTH.items()})


def oriented(files: Files) -> Comes:
    named(files, of=lambda n: f"{n % 2} 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.75\n")
    return Comes({name: [(one[0], 10, 5, 20, 10)] for name, (one,) in TRUTH.items()})


def key_points(files: Files) -> Comes:
    named(
        files,
        "kpt_shape: [3, 2]\nnames: [bolt, nut]\n",
        of=lambda n: line(n).strip() + " 0.4 0.4 0.5 0.5 0.6 0.6\n",
    )
    return Comes(TRUTH)


def seen_key_points(files: Files) -> Comes:
    named(
        files,
        "kpt_shape: [2, 3]\nnames: [bolt, nut]\n",
        of=lambda n: line(n).strip() + " 0.4 0.4 2 0.5 0.5 1\n",
    )
    return Comes(TRUTH)


def other_key_points(files: Files) -> Comes:
    named(
        files, "kpt_shape: [5, 2]\nnames: [bolt, nut]\n", of=lambda n: line(n).strip() + " 0.4 0.4 0.5 0.5\n"
    )
    return Comes(
        refused="labels/0.txt, line 1: has 8 numbers after the class, by kpt_shape there are 4 or 14"
    )


def names_as_they_stand(files: Files) -> Comes:
    named(files, "names: [off, 007]\n")
    return Comes({name: [(("off", "007")[n % 2], 15, 5, 10, 10)] for n, name in enumerate(TRUTH)})


def names_by_number(files: Files) -> Comes:
    named(files, "names:\n  1: nut\n  0: bolt\n  7: 1.10\n")
    return Comes(TRUTH)


def a_number_twice(files: Files) -> Comes:
    named(files, "names:\n  0: bolt\n  1: nut\n  1: pin\n")
    return Comes(refused="data.yaml: line 4: '1' stands twice")


def another_count(files: Files) -> Comes:
    named(files, "nc: 3\nnames: [bolt, nut]\n")
    return Comes(refused="data.yaml: says nc: 3, but names 2 classes")


def class_beyond(files: Files) -> Comes:
    named(files)
    files.text("labels/2.txt", "15 0.5 0.5 0.2 0.2\n")
    return Comes(refused="labels/2.txt, line 1: class 15 has no name; there are 0 bolt, 1 nut")


def class_as_float(files: Files) -> Comes:
    named(files, of=lambda n: f"{n % 2}.0 0.5 0.5 0.25 0.5\n")
    return Comes(TRUTH)


def commas(files: Files) -> Comes:
    named(files, of=lambda n: line(n).replace(" ", ","))
    return Comes(refused="labels/0.txt, line 1: expected numbers")


def tracks(files: Files) -> Comes:
    named(files, of=lambda n: line(n).strip() + f" 0.91 {n + 1}\n")
    return Comes(
        refused="labels/0.txt, line 1: has 6 numbers after the class: a polygon of three points, or a box"
    )


def decimal_commas(files: Files) -> Comes:
    named(files, of=lambda n: line(n).replace("0.", "0,"))
    return Comes(refused="labels/0.txt, line 1: .*'0,.*' is no number; write decimals with a point")


def confidences(files: Files) -> Comes:
    named(files, of=lambda n: line(n).strip() + " 0.91\n")
    return Comes(refused="labels/0.txt, line 1: has 5 numbers after the class")


def pixels(files: Files) -> Comes:
    named(files, of=lambda n: f"{n % 2} 20 10 8 8\n")
    truth = {name: [(one[0], 640, 120, 320, 160)] for name, (one,) in TRUTH.items()}
    return Comes(truth, told=[("ERROR", "images/0.png has a box of 'bolt' .*; it leaves the image")])


def boxes_twice(files: Files) -> Comes:
    named(files, of=lambda n: line(n) * 3)
    return Comes(TRUTH, told=[("WARN", "images/0.png has 2 boxes twice")])


def sides_that_are_no_numbers(files: Files) -> Comes:
    named(files)
    files.text("labels/0.txt", line(0) + "1 nan 0.5 0.1 0.1\n0 1e300 0.5 0.1 0.1\n")
    return Comes(TRUTH, told=[("ERROR", "images/0.png has a box whose sides are no numbers")])


def shown_upright(files: Files) -> Comes:
    named(files)
    (files.root / "images/0.png").unlink()
    files.image("images/0.jpg", 20, 40, orientation=6)
    files.text("labels/0.txt", "0 0.5 0.25 0.5 0.25\n")
    truth = {name: one for name, one in TRUTH.items() if name != "images/0.png"}
    return Comes(truth | {"images/0.jpg": [("bolt", 5, 5, 10, 10)]})


def same_folder_for_both(files: Files) -> Comes:
    named(files, "path: ../datasets/x\ntrain: images\nval: images\nnames: [bolt, nut]\n", count=8)
    return Comes(
        below("images", 8), told=[("WARN", "data.yaml names images for train and for val; .*drawn by lot")]
    )


def roboflow(files: Files) -> Comes:
    for split in ("train", "valid", "test"):
        drawn(files, images=f"{split}/images", labels=f"{split}/labels")
    yaml = (
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: ['bolt', 'nut']\n"
    )
    files.text("data.yaml", yaml)
    splits = {"train/images/0.png": "train", "valid/images/0.png": "val", "test/images/0.png": "holdout"}
    return Comes(below("train/images") | below("valid/images") | below("test/images"), splits)


def folders_of_another_machine(files: Files) -> Comes:
    for folder in ("one", "two"):
        drawn(files, images=f"{folder}/images", labels=f"{folder}/labels")
    files.text(
        "data.yaml", "train: /content/set/one/images\nval: /content/set/two/images\nnames: [bolt, nut]\n"
    )
    splits = {"one/images/0.png": "train", "two/images/0.png": "holdout"}
    return Comes(below("one/images") | below("two/images"), splits)


def lists(files: Files) -> Comes:
    named(
        files, "path: .\ntrain: [a.txt, b.txt]\nval: val.txt\ntest: test.txt\nnames: [bolt, nut]\n", count=8
    )
    for name, numbers in (("a", (0, 1)), ("b", (2, 3)), ("val", (4, 5)), ("test", (6, 7))):
        files.text(f"{name}.txt", "".join(f"./images/{n}.png\n" for n in numbers))
    splits = {
        "images/0.png": "train",
        "images/3.png": "train",
        "images/4.png": "val",
        "images/7.png": "holdout",
    }
    return Comes(below("images", 8), splits, [("WARN", "8 names of images differ")])


def lists_that_contradict(files: Files) -> Comes:
    named(files, "train: a.txt\nval: b.txt\nnames: [bolt, nut]\n")
    files.text("a.txt", "images/0.png\nimages/1.png\nimages/77.png\n")
    files.text("b.txt", "images/2.png\nimages/0.png\n")
    told = [
        ("ERROR", r"images/77.png is listed \(a.txt, line 3\) but is not there"),
        ("ERROR", "images/0.png is listed in a.txt and in b.txt, for train and val"),
        ("WARN", "images/3.png is in none of the source's lists"),
    ]
    return Comes({name: one for name, one in TRUTH.items() if name != "images/3.png"}, told=told)


def lists_of_another_machine(files: Files) -> Comes:
    named(files, "train: a.txt\nval: b.txt\nnames: [bolt, nut]\n")
    files.text("a.txt", "".join(f"/home/bob/{n}.png\n" for n in range(3)))
    files.text("b.txt", "/home/bob/3.png\n/home/bob/99.png\n")
    told = [
        ("ERROR", r"/home/bob/99.png is listed \(b.txt, line 2\)"),
        ("WARN", "images/0.png is called '/home/bob/0.png': 4 names .* ./home/bob/ for images/"),
    ]
    return Comes(TRUTH, {"images/0.png": "train", "images/3.png": "holdout"}, told)


def settings_in_a_folder(files: Files) -> Comes:
    for split in ("train", "valid"):
        drawn(files, images=f"set/{split}/images", labels=f"set/{split}/labels")
    files.text("set/data.yaml", "train: ../train/images\nval: ../valid/images\nnames: [bolt, nut]\n")
    files.image("extra/0.png")
    splits = {"set/train/images/0.png": "train", "set/valid/images/0.png": "holdout"}
    told = [("WARN", "extra/0.png has no label file, and is in no split of the source")]
    return Comes(below("set/train/images") | below("set/valid/images"), splits, told)


def splits_inside_of_each_other(files: Files) -> Comes:
    named(files, images="train/val/images", labels="train/val/labels")
    told = [("ERROR", "train/val/images/0.png is of train and of val by its folders")]
    return Comes(below("train/val/images"), told=told)


def a_folder_that_is_not_there(files: Files) -> Comes:
    named(files, "train: images\nval: elsewhere\nnames: [bolt, nut]\n")
    return Comes(
        TRUTH, {"images/0.png": "train"}, [("WARN", "data.yaml names elsewhere for val, which is not there")]
    )


def darknet_of_cvat(files: Files) -> Comes:
    for split in ("train", "valid"):
        drawn(files, images=f"obj_{split}_data", labels=f"obj_{split}_data")
        files.text(f"{split}.txt", "".join(f"data/obj_{split}_data/{n}.png\n" for n in range(4)))
    files.text("obj.names", "bolt\nnut\n")
    files.text(
        "obj.data", "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n"
    )
    splits = {"obj_train_data/0.png": "train", "obj_valid_data/0.png": "holdout"}
    return Comes(below("obj_train_data") | below("obj_valid_data"), splits)


def classes_among_labels(files: Files) -> Comes:
    drawn(files)
    files.text("labels/classes.txt", "bolt\nnut\n")
    return Comes(TRUTH)


def classes_with_a_mark(files: Files) -> Comes:
    drawn(files)
    files.text("classes.txt", "bolt\r\nnut\r\n", "utf-8-sig")
    return Comes(TRUTH)


def classes_with_a_blank_line(files: Files) -> Comes:
    drawn(files, of=lambda n: line(n).replace("1", "2", 1))
    files.text("classes.txt", "bolt\n\nnut\n\n\n")
    return Comes(TRUTH, told=[("WARN", "classes.txt has a blank line 2; it keeps its number")])


def classes_that_contradict(files: Files) -> Comes:
    named(files)
    files.text("classes.txt", "nut\nbolt\n")
    return Comes(refused="data.yaml names the classes 0 bolt, 1 nut, classes.txt names 0 nut, 1 bolt")


def no_class_names(files: Files) -> Comes:
    drawn(files)
    return Comes(
        refused="labels/0.txt lies where YOLO has labels, but no data.yaml, obj.names or classes.txt"
    )


def capitals(files: Files) -> Comes:
    named(files, images="Images", labels="Labels")
    return Comes(below("Images"))


def beside_the_images(files: Files) -> Comes:
    named(files, images="shots", labels="shots")
    return Comes(below("shots"))


def hidden_files(files: Files) -> Comes:
    named(files)
    for name in ("labels/._0.txt", "images/._0.png", "._data.yaml"):
        files.text(name, b"\0\5\x16\7Mac OS X")
    return Comes(TRUTH)


def one_label_for_two(files: Files) -> Comes:
    named(files)
    files.image("images/0.jpg", 40, 20)
    told = [
        ("WARN", "labels/0.txt is about images/0.jpg and images/0.png, which differ in their suffix only")
    ]
    return Comes(TRUTH | {"images/0.jpg": [BOLT]}, told=told)


def a_label_without_image(files: Files) -> Comes:
    named(files)
    files.text("labels/77.txt", line(0))
    return Comes(TRUTH, told=[("ERROR", r"77 is annotated \(labels/77.txt\) but is not there")])


def a_table_of_results(files: Files) -> Comes:
    named(files)
    files.text("results.csv", "epoch,loss\n1,2\n")
    return Comes(TRUTH)


def one_class(files: Files) -> Comes:
    named(files, "nc: 1\nnames: [car]\n", of=lambda n: line(0))
    return Comes({name: [("car", 15, 5, 10, 10)] for name in TRUTH})


def label_studio(files: Files) -> Comes:
    drawn(files)
    files.text("classes.txt", "bolt\nnut")
    files.json(
        "notes.json", {"categories": [{"id": 0, "name": "bolt"}, {"id": 1, "name": "nut"}], "info": {}}
    )
    return Comes(TRUTH)


def roboflow_darknet(files: Files) -> Comes:
    for split in ("train", "test"):
        files.image(f"{split}/{split}.png", 40, 20)
        files.text(f"{split}/{split}.txt", line(1))
        files.text(f"{split}/_darknet.labels", "bolt\nnut\n")
    splits = {"train/train.png": "train", "test/test.png": "holdout"}
    return Comes({name: [NUT] for name in splits}, splits)


CASES = [
    roboflow_darknet,
    *(
        empty_labels,
        a_preview_beside,
        line_ends,
        polygons,
        oriented,
        key_points,
        seen_key_points,
        other_key_points,
    ),
    *(
        names_as_they_stand,
        names_by_number,
        a_number_twice,
        another_count,
        class_beyond,
        class_as_float,
        commas,
        decimal_commas,
        tracks,
    ),
    *(
        confidences,
        pixels,
        boxes_twice,
        sides_that_are_no_numbers,
        shown_upright,
        same_folder_for_both,
        roboflow,
        folders_of_another_machine,
    ),
    *(
        lists,
        lists_that_contradict,
        lists_of_another_machine,
        settings_in_a_folder,
        splits_inside_of_each_other,
        a_folder_that_is_not_there,
        darknet_of_cvat,
        classes_among_labels,
    ),
    *(classes_with_a_mark, classes_with_a_blank_line, classes_that_contradict, no_class_names, capitals),
    *(
        beside_the_images,
        hidden_files,
        one_label_for_two,
        a_label_without_image,
        a_table_of_results,
        one_class,
    ),
    label_studio,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_yolo_comes_as_it_is(tmp_path, case):
    check_case(case, tmp_path / "data")


def test_a_word_in_a_folder_is_no_split(tmp_path):
    files = Files(tmp_path / "data")
    named(files, images="images/crash-test-rig", labels="labels/crash-test-rig")
    check(plan_of(files.root), Comes(below("images/crash-test-rig")))
    assert read_source(files.root).images.splits() == {None}


def test_a_share_is_held_out_by_lot_whatever_the_source_says(tmp_path):
    files = Files(tmp_path / "data")
    named(files, images="train/images", labels="train/labels", count=20)
    assert read_source(files.root).images.splits() == {"train"}
    splits = plan_of(files.root, Stated(holdout=0.25)).annotations["split"].to_pylist()
    assert splits.count("holdout") == 5 and splits.count("train") == 12


def test_copies_that_roboflow_made_are_one_group(tmp_path):
    files = Files(tmp_path / "data")
    for n in range(8):
        for kind in "abc":
            files.image(f"images/part{n}_jpg.rf.{kind * 32}.png", 40, 20)
            files.text(f"labels/part{n}_jpg.rf.{kind * 32}.txt", line(n))
    files.text("data.yaml", "names: [bolt, nut]\n")
    rows = plan_of(files.root).annotations.to_pylist()
    assert {row["group"] for row in rows} == {f"part{n}_jpg" for n in range(8)}
    assert all(
        len({row["split"] for row in rows if row["group"] == group}) == 1
        for group in {r["group"] for r in rows}
    )
