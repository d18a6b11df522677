"""COCO as people have it."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.dataset.as_people_have_it import BOX, Comes, Files, check, check_case, check_said, coco, plan_of
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.reading import read_source
from visionops_assets.dataset.importing.statements import Stated

SIDES = [2.0, 3.0, 10.0, 8.0]
NUT = ("nut", 2, 3, 10, 8)
PLAIN = [(n, 1 + n % 2, SIDES) for n in range(1, 5)]
TRUTH = {f"images/{n}.png": [(BOX, NUT)[n % 2]] for n in range(1, 5)}
ENTRIES = [(n, f"{n}.png", 32, 24) for n in range(1, 5)]


def drawn(files: Files, content: Any, name: str = "instances.json", encoding: str = "utf-8") -> None:
    files.images(*TRUTH)
    files.json(name, content, encoding)


def image_ids_as_text(files: Files) -> Comes:
    drawn(files, coco(ENTRIES, [(str(n), c, box) for n, c, box in PLAIN]))
    return Comes(TRUTH)


def image_ids_as_floats(files: Files) -> Comes:
    drawn(files, coco([(float(n), *rest) for n, *rest in ENTRIES], PLAIN))
    return Comes(TRUTH)


def category_ids_as_text(files: Files) -> Comes:
    drawn(files, coco(ENTRIES, [(n, str(c), box) for n, c, box in PLAIN]))
    return Comes(TRUTH)


def sparse_ids(files: Files) -> Comes:
    boxes = [(n * 1000 + 7, (13, 90)[n % 2], SIDES) for n in range(1, 5)]
    entries = [(n * 1000 + 7, f"{n}.png", 32, 24) for n in range(1, 5)]
    drawn(files, coco(entries, boxes, ((13, "bolt"), (90, "nut"), (44, "unused"))))
    return Comes(TRUTH)


def orphans(files: Files) -> Comes:
    drawn(files, coco(ENTRIES, [*PLAIN, (900, 1, SIDES), (901, 1, SIDES)]))
    told = [
        (
            "ERROR",
            r"instances.json has 2 annotations \(id 5, 6\) of images it has no entry of \(image_id 900, 901\)",
        )
    ]
    return Comes(TRUTH, told=told)


def entry_without_id(files: Files) -> Comes:
    content = coco(ENTRIES, PLAIN)
    del content["images"][2]["id"]
    drawn(files, content)
    return Comes(refused=r"instances.json: entry 2 of images \('3.png'\) has no id")


def two_entries_of_one_id(files: Files) -> Comes:
    drawn(files, coco([*ENTRIES, ENTRIES[0]], PLAIN))
    return Comes(refused="two images have the id 1")


def two_entries_of_one_image(files: Files) -> Comes:
    drawn(files, coco([*ENTRIES, (9, "1.png", 32, 24)], [*PLAIN, (9, 1, SIDES)]))
    return Comes(
        TRUTH, told=[("ERROR", "annotated once: .*images/1.png is annotated again in instances.json")]
    )


def two_categories_of_one_id(files: Files) -> Comes:
    drawn(files, coco(ENTRIES, PLAIN, ((1, "bolt"), (2, "nut"), (2, "pin"))))
    return Comes(refused="two categories have the id 2, 'nut' and 'pin'")


def two_categories_of_one_name(files: Files) -> Comes:
    drawn(files, coco(ENTRIES, PLAIN, ((1, "bolt"), (2, "bolt"))))
    return Comes(
        {name: [BOX] for name in TRUTH}, told=[("WARN", "categories 1 and 2 that are both called 'bolt'")]
    )


def unknown_category(files: Files) -> Comes:
    drawn(files, coco(ENTRIES, [*PLAIN, (1, 7, SIDES)]))
    return Comes(refused="annotation 5 has no usable .* no category has the id 7; there are 1, 2")


def no_categories(files: Files) -> Comes:
    content = coco(ENTRIES, PLAIN)
    del content["categories"]
    drawn(files, content)
    return Comes(refused="has no list 'categories'")


def images_without_objects(files: Files) -> Comes:
    drawn(files, coco(ENTRIES, PLAIN[:2]))
    return Comes(TRUTH | {"images/3.png": [], "images/4.png": []})


def an_image_in_no_file(files: Files) -> Comes:
    files.image("images/9.png")
    drawn(files, coco(ENTRIES, PLAIN))
    return Comes(TRUTH, told=[("WARN", "images/9.png is in no annotation file; it is left out")])


def same_names_in_folders(files: Files) -> Comes:
    files.images("images/job1/0.png", "images/job2/0.png")
    boxes = [(1, 1, SIDES), (2, 2, SIDES)]
    files.json(
        "annotations/instances_default.json",
        coco([(1, "job1/0.png", 32, 24), (2, "job2/0.png", 32, 24)], boxes),
    )
    return Comes({"images/job1/0.png": [BOX], "images/job2/0.png": [NUT]})


def roboflow(files: Files) -> Comes:
    truth: dict[str, Any] = {}
    splits: dict[str, str] = {}
    for split, side in (("train", "train"), ("valid", "val"), ("test", "holdout")):
        files.images(f"{split}/frame_0.png", f"{split}/frame_1.png")
        entries = [(n, f"frame_{n}.png", 32, 24) for n in range(2)]
        boxes = [(n, 1 + n, SIDES) for n in range(2)]
        files.json(
            f"{split}/_annotations.coco.json", coco(entries, boxes, ((0, "parts"), (1, "bolt"), (2, "nut")))
        )
        truth |= {f"{split}/frame_0.png": [BOX], f"{split}/frame_1.png": [NUT]}
        splits[f"{split}/frame_0.png"] = side
    return Comes(truth, splits)


def official(files: Files) -> Comes:
    for year in ("train2017", "val2017"):
        files.images(f"{year}/1.png")
        entries = [(1, "1.png", 32, 24)]
        files.json(f"annotations/instances_{year}.json", coco(entries, [(1, 1, SIDES)]))
        files.json(
            f"annotations/person_keypoints_{year}.json", coco(entries, [(1, 1, SIDES)], ((1, "person"),))
        )
        captions = {
            "info": {},
            "images": [{"id": 1}],
            "annotations": [{"id": 1, "image_id": 1, "caption": "a bolt"}],
        }
        files.json(f"annotations/captions_{year}.json", captions)
        segments = [{"image_id": 1, "file_name": "1.png", "segments_info": []}]
        files.json(f"annotations/panoptic_{year}.json", coco(entries, []) | {"annotations": segments})
    told = [
        ("WARN", f"{kind}_train2017.json is COCO's file of .*the instances are")
        for kind in ("captions", "panoptic")
    ]
    splits = {"train2017/1.png": "train", "val2017/1.png": "holdout"}
    return Comes({"train2017/1.png": [BOX], "val2017/1.png": [BOX]}, splits, told)


def splits_that_contradict(files: Files) -> Comes:
    files.images("train/1.png", "val/2.png")
    files.json(
        "annotations/instances_train.json", coco([(1, "1.png", 32, 24), (2, "2.png", 32, 24)], PLAIN[:2])
    )
    told = [("ERROR", "val/2.png is of val by its folders and of train by annotations/instances_train.json")]
    return Comes({"train/1.png": [NUT], "val/2.png": [BOX]}, told=told)


def two_files_with_boxes_of_one_image(files: Files) -> Comes:
    drawn(files, coco(ENTRIES, PLAIN), "instances_a.json")
    files.json("instances_b.json", coco(ENTRIES, PLAIN))
    return Comes(TRUTH, told=[("ERROR", "images/1.png is annotated again in instances_b.json")])


def stored_frame(files: Files) -> Comes:
    files.image("1.jpg", 41, 61, orientation=6)
    files.image("2.jpg", 50, 50, orientation=6)
    files.image("3.jpg", 63, 43)
    entries = [(1, "1.jpg", 61, 41), (2, "2.jpg", 50, 50), (3, "3.jpg", 63, 43)]
    files.json("instances.json", coco(entries, [(n, 1, [5, 2, 20, 10]) for n in range(1, 4)]))
    told = [
        ("WARN", "1.jpg has boxes drawn before it was turned upright"),
        ("WARN", "2.jpg has boxes drawn before"),
    ]
    truth = {
        "1.jpg": [("bolt", 29, 5, 10, 20)],
        "2.jpg": [("bolt", 38, 5, 10, 20)],
        "3.jpg": [("bolt", 5, 2, 20, 10)],
    }
    return Comes(truth, told=told)


def both_frames(files: Files) -> Comes:
    files.image("1.jpg", 41, 61, orientation=6)
    files.image("2.jpg", 42, 62, orientation=6)
    entries = [(1, "1.jpg", 61, 41), (2, "2.jpg", 42, 62)]
    files.json("instances.json", coco(entries, [(n, 1, [5, 2, 20, 10]) for n in range(1, 3)]))
    told = [("ERROR", "1.jpg has the size before its EXIF orientation, 2.jpg that after it")]
    return Comes({"1.jpg": [("bolt", 29, 5, 10, 20)], "2.jpg": [("bolt", 5, 2, 20, 10)]}, told=told)


def scaled(files: Files) -> Comes:
    drawn(
        files,
        coco([(n, f"{n}.png", 64, 48) for n in range(1, 5)], [(n, c, [4, 6, 20, 16]) for n, c, _ in PLAIN]),
    )
    return Comes(
        TRUTH, told=[("WARN", "images/1.png measures 32×24, its annotation says 64×48; its boxes are scaled")]
    )


def another_size(files: Files) -> Comes:
    drawn(files, coco([(n, f"{n}.png", 40, 24) for n in range(1, 5)], PLAIN))
    return Comes(
        TRUTH, told=[("ERROR", "images/1.png measures 32×24, its annotation says 40×24; its boxes cannot be")]
    )


def no_size(files: Files) -> Comes:
    drawn(
        files,
        coco([(1, "1.png", 0, 0), (2, "2.png"), (3, "3.png", None, None), (4, "4.png", "32", "24")], PLAIN),
    )
    return Comes(TRUTH)


def marks(files: Files) -> Comes:
    drawn(files, coco(ENTRIES, PLAIN), encoding="utf-8-sig")
    return Comes(TRUTH)


def wide_text(files: Files) -> Comes:
    drawn(files, coco(ENTRIES, PLAIN), encoding="utf-16")
    return Comes(TRUTH)


def segments_without_bbox(files: Files) -> Comes:
    content = coco(ENTRIES, PLAIN)
    polygon = [[2, 3, 12, 3, 12, 11, 2, 11]]
    runs = {"size": [24, 32], "counts": [2 * 24 + 3, *([8, 16] * 9), 8, 20 * 24 - 11]}
    for annotation, segmentation in zip(content["annotations"], (polygon, runs), strict=False):
        del annotation["bbox"]
        annotation["segmentation"] = segmentation
    drawn(files, content)
    return Comes(
        TRUTH, told=[("WARN", "has 2 annotations without a bbox; the box around their segmentation")]
    )


def crowds(files: Files) -> Comes:
    content = coco(ENTRIES, [*PLAIN, (1, 1, [0, 0, 30, 20]), (2, 1, [5, 5, 3, 3])])
    content["annotations"][4]["iscrowd"] = "1"
    content["annotations"][5]["iscrowd"] = "0"
    drawn(files, content)
    truth = TRUTH | {"images/2.png": [BOX, ("bolt", 5, 5, 3, 3)]}
    return Comes(truth, told=[("WARN", "instances.json has 1 crowd regions; they are left out")])


def boxes_twice(files: Files) -> Comes:
    drawn(files, coco(ENTRIES, PLAIN + PLAIN))
    return Comes(TRUTH, told=[("WARN", "images/1.png has 1 box twice; one of each is kept")])


def bad_boxes(files: Files) -> Comes:
    sides = ([25, 3, 7.6, 8], [-5, 3, 10, 8], [2, 3, 0, 8], [2, 3, 40, 8])
    drawn(files, coco(ENTRIES, [(n, 1, sides[n - 1]) for n in range(1, 5)]))
    told = [("ERROR", f"images/{n}.png has a box of 'bolt'") for n in (2, 3, 4)]
    return Comes({f"images/{n}.png": [("bolt", *sides[n - 1])] for n in range(1, 5)}, told=told)


def dots_before_names(files: Files) -> Comes:
    drawn(files, coco([(n, f"./images/{n}.png", 32, 24) for n in range(1, 5)], PLAIN))
    return Comes(
        TRUTH, told=[("WARN", "4 names of images differ from the paths only in how they are written")]
    )


def addresses(files: Files) -> Comes:
    drawn(files, coco([(n, f"https://example.org/set/images/{n}.png", 32, 24) for n in range(1, 5)], PLAIN))
    return Comes(TRUTH, told=[("WARN", "4 names of images begin with another folder")])


def annotations_before_images(files: Files) -> Comes:
    content = coco(ENTRIES, PLAIN)
    drawn(files, {key: content[key] for key in ("annotations", "categories", "images")})
    return Comes(TRUTH)


CASES = [
    *(image_ids_as_text, image_ids_as_floats, category_ids_as_text, sparse_ids, orphans, entry_without_id),
    *(two_entries_of_one_id, two_entries_of_one_image, two_categories_of_one_id, two_categories_of_one_name),
    *(
        unknown_category,
        no_categories,
        images_without_objects,
        an_image_in_no_file,
        same_names_in_folders,
        roboflow,
    ),
    *(
        official,
        splits_that_contradict,
        two_files_with_boxes_of_one_image,
        stored_frame,
        both_frames,
        scaled,
        another_size,
        no_size,
        marks,
    ),
    *(wide_text, segments_without_bbox, crowds, boxes_twice, bad_boxes, dots_before_names, addresses),
    annotations_before_images,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_coco_comes_as_it_is(tmp_path, case):
    check_case(case, tmp_path / "data")


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    files = Files(tmp_path / "data")
    files.images(*TRUTH)
    files.text("instances.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(SourceError, match=r"instances\.json is a pointer of Git LFS.*`git lfs pull`"):
        read_source(files.root)


@pytest.mark.parametrize("length", [1, 1 << 20, (1 << 20) + 7])
def test_a_file_is_read_in_parts_wherever_they_end(tmp_path, length, monkeypatch):
    monkeypatch.setattr("visionops_assets.dataset.importing.formats.json_and_xml._JSON_AT_ONCE", 37)
    files = Files(tmp_path / "data")
    drawn(files, {"info": {"a": "x" * length, "n": 1.5e3}} | coco(ENTRIES, PLAIN))
    check(plan_of(files.root), Comes(TRUTH))


@pytest.mark.parametrize("policy", ["background", "leave-out", "error"])
def test_images_without_annotation_are_what_is_stated(tmp_path, policy):
    files = Files(tmp_path / "data")
    files.image("images/9.png")
    drawn(files, coco(ENTRIES, PLAIN))
    severity = "ERROR" if policy == "error" else "WARN"
    truth = TRUTH | ({"images/9.png": []} if policy == "background" else {})
    check(
        plan_of(files.root, Stated(unlabelled=policy)),
        Comes(truth, told=[(severity, "images/9.png is in no")]),
    )


@pytest.mark.parametrize("policy", ["background", "leave-out", "error"])
def test_images_that_are_only_listed_are_what_is_stated(tmp_path, policy):
    files = Files(tmp_path / "data")
    files.image("images/9.png")
    drawn(files, coco([*ENTRIES, (9, "9.png", 32, 24)], PLAIN))
    told = {
        "background": [],
        "leave-out": [("WARN", r"images/9.png has no annotation \(instances.json\); it is left out")],
        "error": [("ERROR", r"images/9.png has no annotation \(instances.json\); annotate it, or remove it")],
    }
    plan = plan_of(files.root, Stated(unlabelled=policy))
    check(plan, Comes(TRUTH | ({"images/9.png": []} if policy == "background" else {}), told=told[policy]))
    assert read_source(files.root).supposed == 1, "what nobody said is asked for where it is much"
    assert read_source(files.root, Stated(unlabelled=policy)).supposed == 0


def test_what_is_wrong_is_left_out_and_counted_where_that_is_wanted(tmp_path):
    files = Files(tmp_path / "data")
    boxes: list[tuple[int, int, Sequence[float]]] = [*PLAIN, (1, 1, [2, 3, 90, 8]), (900, 1, SIDES)]
    drawn(files, coco([*ENTRIES, (5, "gone.png", 32, 24)], boxes))
    files.text("images/2.png", b"no image")
    plan = plan_of(files.root, Stated(leave_out_errors=True))
    told = [
        ("WARN", pattern)
        for pattern in ("images/1.png .*left out", "2.png .*left out", "gone.png", "image_id 900")
    ]
    check(plan, Comes({name: TRUTH[name] for name in ("images/3.png", "images/4.png")}, told=told))
    assert plan.sums.images_left_out == {"not usable": 2}
    assert plan.sums.annotations == 6 and plan.sums.kept == 2
    assert json.dumps(plan.sums.as_dict())


def test_boxes_that_cvat_says_are_turned_are_turned(tmp_path):
    files = Files(tmp_path / "data")
    files.images("0.png", "1.png")
    content = coco([(n, f"{n}.png") for n in range(2)], [(0, 1, (2, 3, 10, 8)), (1, 1, (2, 3, 10, 8))])
    content["annotations"][0] |= {"attributes": {"rotation": 90.0, "occluded": False}, "segmentation": []}
    content["annotations"][1] |= {"attributes": {"rotation": 0.0}}
    files.json("instances.json", content)
    told = [("WARN", r"instances.json has 1 boxes that are turned \(attributes.rotation\)")]
    check(
        plan_of(files.root),
        Comes({"0.png": [("bolt", 3, 2, 8, 10)], "1.png": [("bolt", 2, 3, 10, 8)]}, told=told),
    )


@pytest.mark.parametrize(
    "runs",
    [
        {"size": [24, 32], "counts": [5, -10, 773]},
        {"size": [24, 32], "counts": [700, 700]},
        {"size": [24, 32], "counts": []},
        {"size": [24, 32], "counts": "never a run"},
        {"size": [24, 32], "counts": "\u00e9\u00e9"},
        {"size": [24], "counts": [5, 10]},
    ],
)
def test_runs_that_are_not_of_the_image_are_no_box(tmp_path, runs):
    files = Files(tmp_path / "data")
    files.images("0.png")
    content = coco([(0, "0.png")], [(0, 1, ())])
    content["annotations"][0]["segmentation"] = runs
    files.json("instances.json", content)
    with pytest.raises(SourceError, match=r"no usable bbox.*its segmentation outlines nothing") as caught:
        read_source(files.root)
    check_said(str(caught.value))


@pytest.mark.parametrize("image", [None, [], {}])
def test_an_annotation_of_no_image_is_an_error_that_can_be_left_out(tmp_path, image):
    files = Files(tmp_path / "data")
    files.images("0.png", "1.png")
    told = coco([(n, f"{n}.png", 32, 24) for n in range(2)], [(n, 1, BOX[1:]) for n in (0, 1, 0)])
    told["annotations"][2]["image_id"] = image
    files.json("a.json", told)
    with pytest.raises(
        SourceError, match=r"annotation 3 has no usable .*: (it has no image_id|its image_id is)"
    ):
        read_source(files.root)
    plan = plan_of(files.root, Stated(leave_out_errors=True))
    check(
        plan,
        Comes({f"{n}.png": [BOX] for n in range(2)}, told=[("WARN", r"\(id 3\) without a usable image_id")]),
    )
    assert plan.sums.annotations_left_out == {"has no image_id": 1}
