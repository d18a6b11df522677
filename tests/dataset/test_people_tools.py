"""Pascal VOC and what annotation tools export, as people have them."""

import tarfile
from typing import Any

import pytest

from tests.dataset.as_people_have_it import BOX, Comes, Files, check, check_case, check_said, plan_of, voc
from visionops_assets.dataset.importing.first_look import first_look
from visionops_assets.dataset.importing.image_source import SourceError
from visionops_assets.dataset.importing.reading import read_source

CORNERS = (3, 4, 12, 11)
TRUTH = {f"JPEGImages/{n}.png": [BOX] for n in range(4)}


def drawn(
    files: Files, images: str = "JPEGImages", xml: str = "Annotations", count: int = 4, **how: Any
) -> None:
    for n in range(count):
        files.image(f"{images}/{n}.png")
        files.text(f"{xml}/{n}.xml", voc(f"{n}.png", ("bolt", *CORNERS), **how))


def sizes_that_say_nothing(files: Files) -> Comes:
    drawn(files, size=(0, 0))
    return Comes(TRUTH)


def sizes_that_are_wrong(files: Files) -> Comes:
    drawn(files, size=(24, 32))
    return Comes(TRUTH, told=[("ERROR", "JPEGImages/0.png measures 32×24, its annotation says 24×32")])


def floats(files: Files) -> Comes:
    files.images("JPEGImages/0.png")
    files.text("Annotations/0.xml", voc("0.png", ("bolt", 3.25, 4.5, 13.75, 12.0)))
    return Comes({"JPEGImages/0.png": [("bolt", 2.25, 3.5, 11.5, 8.5)]})


def corners_the_wrong_way(files: Files) -> Comes:
    files.images("JPEGImages/0.png")
    files.text("Annotations/0.xml", voc("0.png", ("bolt", 13, 12, 3, 4)))
    return Comes({"JPEGImages/0.png": [("bolt", 12, 11, -9, -7)]}, told=[("ERROR", "a box without area")])


def parts(files: Files) -> Comes:
    drawn(files)
    part = "<part><name>thread</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    text = voc("0.png", ("bolt", *CORNERS)).replace("</bndbox></object>", f"</bndbox>{part}</object>")
    files.text("Annotations/0.xml", text)
    return Comes(TRUTH)


def lists(files: Files) -> Comes:
    drawn(files, count=8)
    for split, numbers in (("train", (0, 1)), ("val", (2, 3)), ("test", (4, 5))):
        files.text(f"ImageSets/Main/{split}.txt", "".join(f"{n}\n" for n in numbers))
        files.text(f"ImageSets/Main/bolt_{split}.txt", "".join(f"{n} -1\n" for n in numbers))
    truth = {f"JPEGImages/{n}.png": [BOX] for n in range(6)}
    splits = {"JPEGImages/0.png": "train", "JPEGImages/2.png": "val", "JPEGImages/5.png": "holdout"}
    return Comes(truth, splits, [("WARN", "JPEGImages/6.png is in none of the source's lists")])


def train_and_val_together(files: Files) -> Comes:
    drawn(files)
    files.text("ImageSets/Main/trainval.txt", "0\n1\n2\n")
    files.text("ImageSets/Main/test.txt", "3\n")
    return Comes(TRUTH, {"JPEGImages/0.png": "train", "JPEGImages/3.png": "holdout"})


def same_names_beside_each(files: Files) -> Comes:
    for number, folder in enumerate("ab"):
        files.image(f"{folder}/0000.png")
        files.text(f"{folder}/0000.xml", voc("0000.png", ("bolt", 3 + number, 4, 12 + number, 11)))
    return Comes({"a/0000.png": [BOX], "b/0000.png": [("bolt", 3, 3, 10, 8)]})


def same_names_one_annotated(files: Files) -> Comes:
    files.images("a/0000.png", "b/0000.png")
    files.text("a/0000.xml", voc("0000.png", ("bolt", *CORNERS)))
    return Comes({"a/0000.png": [BOX]}, told=[("WARN", "b/0000.png has no XML file; it is left out")])


def same_names_apart(files: Files) -> Comes:
    for number, split in enumerate(("train", "val")):
        drawn(files, f"JPEGImages/{split}", f"Annotations/{split}", count=1 + number)
    truth = {
        name: [BOX] for name in ("JPEGImages/train/0.png", "JPEGImages/val/0.png", "JPEGImages/val/1.png")
    }
    return Comes(truth, {"JPEGImages/train/0.png": "train", "JPEGImages/val/0.png": "holdout"})


def lists_that_fit_two(files: Files) -> Comes:
    for folder in "ab":
        files.image(f"{folder}/0.png")
        files.text(f"{folder}/0.xml", voc("0.png", ("bolt", *CORNERS)))
    files.text("ImageSets/Main/train.txt", "0\n")
    told = [("ERROR", r"0 fits a/0.png and b/0.png \(ImageSets/Main/train.txt, line 1\)")]
    return Comes({}, told=told)


def same_names_that_fit_two(files: Files) -> Comes:
    files.images("a/0.png", "b/0.png", "a/1.png")
    files.text("notes/0.xml", voc("0.png", ("bolt", *CORNERS)))
    files.text("notes/1.xml", voc("1.png", ("bolt", *CORNERS)))
    return Comes({"a/1.png": [BOX]}, told=[("ERROR", r"0.png fits a/0.png and b/0.png \(notes/0.xml\)")])


def names_that_contradict(files: Files) -> Comes:
    drawn(files)
    files.text("Annotations/0.xml", voc("1.png", ("bolt", *CORNERS)))
    files.text("Annotations/1.xml", voc("0.png", ("bolt", *CORNERS)))
    told = [
        (
            "ERROR",
            "JPEGImages/1.png is named in Annotations/0.xml, whose own name is that of JPEGImages/0.png",
        )
    ]
    return Comes(TRUTH, told=told)


def a_name_of_nothing(files: Files) -> Comes:
    drawn(files)
    files.text("Annotations/0.xml", voc("IMG_2020.JPG", ("bolt", *CORNERS)))
    return Comes(TRUTH)


def masks(files: Files) -> Comes:
    drawn(files)
    files.images("SegmentationClass/0.png", "SegmentationObject/0.png")
    told = [
        ("WARN", f"masks in {folder} 1 images; they are no photographs") for folder in ("SegmentationClass",)
    ]
    return Comes(TRUTH, told=told)


def cvat_images(files: Files) -> Comes:
    files.images("images/0.png", "images/1.png")
    shapes = (
        '<box label="bolt" xtl="2" ytl="3" xbr="12" ybr="11" rotation="{turn}"/>'
        '<polygon label="nut" points="1,1;5,1;5,6"/><tag label="good"/>'
    )
    images = "".join(
        f'<image id="{n}" name="{n}.png" subset="{split}" width="32" height="24">{shapes.format(turn=90 * n)}</image>'
        for n, split in enumerate(("Train", "Validation"))
    )
    files.text(
        "annotations.xml", f"<?xml version='1.0'?><annotations><version>1.1</version>{images}</annotations>"
    )
    truth = {
        "images/0.png": [BOX, ("nut", 1, 1, 4, 5)],
        "images/1.png": [("bolt", 3, 2, 8, 10), ("nut", 1, 1, 4, 5)],
    }
    return Comes(truth, {"images/0.png": "train", "images/1.png": "holdout"})


def cvat_shapes(files: Files) -> Comes:
    files.images(*(f"{n}.png" for n in range(4)))
    corners = " ".join(
        f'x{end}{side}{depth}="{x}" y{end}{side}{depth}="{y}"'
        for side, x in (("l", 4), ("r", 14))
        for end, y in (("t", 5), ("b", 12))
        for depth in "12"
    )
    shapes = (
        '<skeleton label="bolt"><points label="head" points="4,5" outside="0"/>'
        '<points label="tip" points="14,12" outside="0"/><points label="lost" points="30,20" outside="1"/></skeleton>',
        '<ellipse label="bolt" cx="12" cy="10" rx="8" ry="3" rotation="90"/>',
        f'<cuboid label="bolt" {corners}/>',
        '<cuboid label="bolt" points="4,5;14,5;14,12;4,12"/>',
    )
    images = "".join(f'<image id="{n}" name="{n}.png">{shape}</image>' for n, shape in enumerate(shapes))
    files.text("annotations.xml", f"<annotations>{images}</annotations>")
    box = ("bolt", 4, 5, 10, 7)
    return Comes({"0.png": [box], "1.png": [("bolt", 9, 2, 6, 16)], "2.png": [box], "3.png": [box]})


def test_a_shape_that_nobody_knows_is_no_background(tmp_path):
    files = Files(tmp_path / "data")
    files.images("0.png")
    files.text(
        "annotations.xml", '<annotations><image name="0.png"><spiral label="bolt"/></image></annotations>'
    )
    with pytest.raises(SourceError, match=r"image 0\.png: 'spiral' is no shape that is read"):
        read_source(files.root)


def label_studio_ellipse(files: Files) -> Comes:
    files.images("images/0.png")
    value = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 12.5, "rotation": 90, "ellipselabels": ["bolt"]}
    drawn = {"type": "ellipselabels", "original_width": 32, "original_height": 24, "value": value}
    files.json("export.json", [task("/data/local-files/?d=images/0.png", drawn)])
    return Comes({"images/0.png": [("bolt", 13, 4, 6, 16)]})


def cvat_tags_in_another_file(files: Files) -> Comes:
    files.images("images/0.png", "images/1.png")
    box = '<box label="bolt" xtl="2" ytl="3" xbr="12" ybr="11"/>'
    files.text("boxes.xml", f'<annotations><image id="0" name="0.png">{box}</image></annotations>')
    tag = '<image id="1" name="1.png"><tag label="good"/></image>'
    files.text("tags.xml", f"<annotations>{tag}</annotations>")
    told = [("WARN", "tags.xml has 1 tags, where others have boxes; they are not read")]
    return Comes({"images/0.png": [BOX], "images/1.png": []}, told=told)


def cvat_tags(files: Files) -> Comes:
    files.images("images/0.png", "images/1.png", "images/2.png")
    images = "".join(f'<image id="{n}" name="{n}.png"><tag label="{"ab"[n]}"/></image>' for n in range(2))
    files.text("annotations.xml", f'<annotations>{images}<image id="2" name="2.png"/></annotations>')
    told = [("WARN", "images/2.png is in no annotation file; it is left out")]
    return Comes({"images/0.png": "a", "images/1.png": "b"}, told=told)


def task(image: str, *results: dict[str, Any], answered: bool = True) -> dict[str, Any]:
    annotations = [{"was_cancelled": True, "result": []}, {"result": list(results)}] if answered else []
    return {"id": 1, "data": {"image": image}, "annotations": annotations}


def label_studio_boxes(files: Files) -> Comes:
    files.images(*(f"images/{n}.png" for n in range(3)))
    value = {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["bolt"]}
    box = {"type": "rectanglelabels", "original_width": 32, "original_height": 24, "value": value}
    tasks = [task("/data/local-files/?d=images/0.png", box), task("/data/local-files/?d=images%2F1.png")]
    files.json("export.json", [*tasks, task("/data/local-files/?d=images/2.png", answered=False)])
    told = [
        ("WARN", "images/1.png has an empty annotation"),
        ("WARN", "images/2.png has no annotation"),
    ]
    return Comes({"images/0.png": [("bolt", 8, 6, 16, 12)], "images/1.png": []}, told=told)


def label_studio_choices(files: Files) -> Comes:
    files.images(*(f"images/{n}.png" for n in range(2)))
    chosen = [{"type": "choices", "value": {"choices": [label]}} for label in "ab"]
    files.json("export.json", [task(f"/data/upload/1/{n}.png", chosen[n]) for n in range(2)])
    return Comes({"images/0.png": "a", "images/1.png": "b"}, told=[("WARN", "begin with another folder")])


def result(kind: str, identity: str | None = None, turned: int = 0, **value: Any) -> dict[str, Any]:
    """A result of Label Studio; `sides` are those of a box in pixels of 32 x 24."""
    if (sides := value.pop("sides", None)) is not None:
        value |= dict(zip(("x", "y", "width", "height"), _hundredths(*sides), strict=True))
    told = {
        "type": kind,
        "original_width": 32,
        "original_height": 24,
        "image_rotation": turned,
        "value": value,
    }
    return told if identity is None else told | {"id": identity}


def _hundredths(x: float, y: float, w: float, h: float) -> tuple[float, ...]:
    return x / 0.32, y / 0.24, w / 0.32, h / 0.24


def rectangle(identity: str | None = None, turned: int = 0, **more: Any) -> dict[str, Any]:
    return result("rectanglelabels", identity, turned, sides=BOX[1:], **{"rectanglelabels": ["bolt"], **more})


def tasks(files: Files, *results: list[dict[str, Any]], name: str = "export.json", first: int = 0) -> None:
    numbered = list(enumerate(results, start=first))
    files.images(*(f"images/{n}.png" for n, _ in numbered if not (files.root / f"images/{n}.png").exists()))
    files.json(name, [task(f"/data/local-files/?d=images/{n}.png", *some) for n, some in numbered])


def choices_of_regions(files: Files) -> Comes:
    chosen = result("choices", "r", sides=BOX[1:], choices=["bolt"])
    tasks(
        files,
        [result("rectangle", "r", sides=BOX[1:]), chosen],
        [result("rectangle", "r", sides=BOX[1:]), result("labels", "r", sides=BOX[1:], labels=["bolt"])],
        [rectangle("r"), result("choices", "r", sides=BOX[1:], choices=["rusty"])],
        [rectangle("r"), result("textarea", "r", sides=BOX[1:], text=["M8"])],
        [rectangle("r"), result("rectangle", "s", sides=(1, 1, 4, 4))],
    )
    told = [
        ("WARN", "images/2.png has 1 results of kind choices of a region"),
        ("WARN", "images/3.png has 1 results of kind textarea"),
        ("WARN", "images/4.png has 1 results of kind rectangle without a label"),
    ]
    return Comes({f"images/{n}.png": [BOX] for n in range(5)}, told=told)


def tasks_with_other_results_only(files: Files) -> Comes:
    mask = result("brushlabels", "m", format="rle", rle=[0, 1], brushlabels=["bolt"])
    point = result("keypointlabels", "k", x=20, y=20, width=0.3, keypointlabels=["head"])
    tasks(
        files, [rectangle()], [result("choices", choices=["good"])], [mask], [point], [rectangle(), point], []
    )
    told = [
        (
            "WARN",
            r"has 3 tasks with results but no box \(1 of kind .*\); their images are not annotated by them",
        ),
        *(("WARN", f"images/{n}.png has no annotation that is read; it is left out") for n in (1, 2, 3)),
        ("WARN", "images/4.png has 1 results of kind keypointlabels"),
        ("WARN", "images/5.png has an empty annotation"),
    ]
    return Comes({"images/0.png": [BOX], "images/4.png": [BOX], "images/5.png": []}, told=told)


def boxes_in_one_file_and_choices_in_the_other(files: Files) -> Comes:
    tasks(files, [rectangle()], [rectangle()], name="boxes.json")
    tasks(files, *([result("choices", choices=["good"])] for _ in range(2)), name="choices.json", first=1)
    told = [
        ("WARN", "choices.json has 2 tasks with results but no box"),
        ("WARN", "images/2.png has no annotation"),
    ]
    return Comes({"images/0.png": [BOX], "images/1.png": [BOX]}, told=told)


def names_of_uploads(files: Files) -> Comes:
    files.images("images/a.png", "images/ab12cd34-b.png", "images/c.png")
    names = ("ab12cd34-a.png", "ab12cd34-b.png", "c.png")
    files.json("export.json", [task(f"/data/upload/1/{name}", rectangle()) for name in names])
    told = [
        ("WARN", "a.png is called 'ab12cd34-a.png' there: 1 names of images begin with"),
        ("WARN", "another folder"),
    ]
    return Comes({f"images/{name}": [BOX] for name in ("a.png", "ab12cd34-b.png", "c.png")}, told=told)


def shown_turned(files: Files) -> Comes:
    tasks(files, [rectangle(turned=90)], [rectangle()])
    told = [("WARN", "images/0.png was shown turned in Label Studio")]
    return Comes({f"images/{n}.png": [BOX] for n in range(2)}, told=told)


def drawn_on_another_image(files: Files) -> Comes:
    tasks(files, [rectangle() | {"original_width": 24, "original_height": 32}], [rectangle()])
    told = [("ERROR", "images/0.png measures 32×24, its annotation says 24×32")]
    return Comes(
        {f"images/{n}.png": [BOX] for n in range(2)} | {"images/0.png": [("bolt", 1.5, 4, 7.5, 10.667)]},
        told=told,
    )


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"annotations": [{"result": [None]}]}, r"task 0: its result is no list of objects \('\[None\]'\)"),
        ({"annotations": [{"result": "none"}]}, r"task 0: its result is no list of objects \('none'\)"),
        ({"annotations": "none"}, "task 0: its annotations is no list of objects"),
        (
            {"annotations": [{"result": [{"type": "choices", "value": "a"}]}]},
            "has the value 'a', which is no object",
        ),
        ({"annotations": [{"result": [result("choices", choices=[None])]}]}, r"its choices are '\[None\]'"),
        (
            {"annotations": [{"result": [rectangle() | {"value": {"points": [1], "labels": ["a"]}}]}]},
            "no usable coord",
        ),
    ],
)
def test_a_result_that_is_none_is_named_with_its_task(tmp_path, broken, said):
    files = Files(tmp_path / "data")
    files.images("images/0.png")
    files.json("export.json", [{"data": {"image": "images/0.png"}, **broken}])
    with pytest.raises(SourceError, match=said) as caught:
        read_source(files.root)
    check_said(str(caught.value))


def test_masks_alone_are_no_backgrounds(tmp_path):
    files = Files(tmp_path / "data")
    mask = result("brushlabels", "m", format="rle", rle=[0, 1], brushlabels=["bolt"])
    tasks(files, [mask], [mask])
    with pytest.raises(SourceError, match=r"2 tasks, none labelled with a box or choice; .* brushlabels"):
        first_look(read_source(files.root))
    assert not len(read_source(files.root).images)


CASES = [
    *(sizes_that_say_nothing, sizes_that_are_wrong, floats, corners_the_wrong_way, parts, lists),
    *(
        train_and_val_together,
        same_names_beside_each,
        same_names_one_annotated,
        same_names_apart,
        lists_that_fit_two,
        same_names_that_fit_two,
    ),
    *(
        names_that_contradict,
        a_name_of_nothing,
        masks,
        cvat_images,
        cvat_shapes,
        cvat_tags,
        cvat_tags_in_another_file,
        label_studio_boxes,
        label_studio_ellipse,
    ),
    *(label_studio_choices, choices_of_regions, tasks_with_other_results_only, names_of_uploads),
    *(boxes_in_one_file_and_choices_in_the_other, shown_turned, drawn_on_another_image),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_what_tools_export_comes_as_it_is(tmp_path, case):
    check_case(case, tmp_path / "data")


def test_tasks_of_which_none_is_labelled_are_said_in_one_line(tmp_path):
    files = Files(tmp_path / "data")
    files.images("images/0.png", "images/1.png")
    files.json("project-1.json", [task(f"/data/upload/1/{n}.png") for n in range(2)])
    with pytest.raises(SourceError, match=r"^project-1.json: 2 tasks, none labelled$"):
        first_look(read_source(files.root))
    check(
        plan_of(files.root),
        Comes({"images/0.png": [], "images/1.png": []}, told=[("WARN", "empty annotation")]),
    )


LABELME = {"version": "5.0", "shapes": [{"label": "a", "points": [[1, 1], [5, 5]]}], "imagePath": "0.png"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("0.json", LABELME, "0.json is a file of LabelMe, which is not read; convert it with"),
        ("via.json", {"0.png": {"regions": [{"shape_attributes": {}}]}}, "the VGG Image Annotator"),
        (
            "min.json",
            [{"image": "/data/upload/1/0.png", "id": 1, "choice": "a", "annotator": 1, "annotation_id": 1}],
            "min.json is a file of Label Studio's JSON-MIN, which is not read; convert it with its own export as JSON",
        ),
        (
            "min.json",
            [{"ocr": "0.png", "label": [{"x": 1, "width": 2, "rectanglelabels": ["a"]}], "annotation_id": 1}],
            "Label Studio's JSON-MIN",
        ),
        (
            "via.csv",
            "filename,region_shape_attributes,region_attributes\n0.png,{},{}\n",
            "the VGG Image Annotator",
        ),
        ("output.manifest", '{"source-ref": "s3://b/0.png"}', "SageMaker Ground Truth"),
        ("export.ndjson", '{"data_row": {"external_id": "0.png"}}', "Labelbox"),
        ("vott.json", {"assets": {"1": {"regions": [{"boundingBox": {}}]}}}, "VoTT"),
        (
            "results.json",
            [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}],
            "COCO's results",
        ),
        ("meta.json", {"classes": [{"title": "bolt", "shape": "rectangle"}], "tags": []}, "Supervisely"),
        ("labels.json", {"classes": ["a", "b"], "labels": {"0": 1}}, "FiftyOne"),
        (
            "default.json",
            {"info": {}, "categories": {"label": {}}, "items": [{"annotations": []}]},
            "Datumaro",
        ),
        ("samples.json", {"samples": [{"ground_truth": {"_cls": "Detections"}}]}, "FiftyOne"),
        ("a.csv", "ImageID,Source,LabelName,XMin,XMax,YMin,YMax\n0,x,y,0,1,0,1\n", "a table of Open Images"),
        ("train.tfrecord", "x", "TFRecord"),
        ("d-train.tfrecord-00000-of-00001", "x", "TFRecord"),
        (
            "labels.json",
            {"classes": ["a", "b"], "labels": {"0": [{"label": 0, "bounding_box": [0.1, 0.1, 0.2, 0.2]}]}},
            "FiftyOne, .* COCODetectionDataset",
        ),
        (
            "0.json",
            {"version": "2.0", "item": {"name": "0.png"}, "annotations": [{"bounding_box": {"x": 1}}]},
            "V7 Darwin",
        ),
        (
            "tasks.json",
            [{"task_id": "1", "params": {"attachment": "0.png"}, "response": {"annotations": []}}],
            "Scale",
        ),
        ("0.cls", "1", "WebDataset"),
        ("labelTxt/0.txt", "1 2 3 2 3 4 1 4 plane 0\n", "is of DOTA, .* `convert_dota_to_yolo_obb`"),
        ("bdd.json", [{"name": "0.png", "labels": [{"category": "car", "box2d": {"x1": 1}}]}], "BDD100K"),
    ],
)
def test_formats_that_are_not_read_are_named_with_what_converts_them(tmp_path, name, content, said):
    files = Files(tmp_path / "data")
    files.images("images/0.png")
    (files.text if isinstance(content, str) else files.json)(name, content)
    with pytest.raises(SourceError, match=said):
        read_source(files.root)


def test_an_archive_of_webdataset_is_named(tmp_path):
    files = Files(tmp_path / "w")
    files.images("0000.png", "0001.png")
    files.text("0000.cls", "0")
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        archive.add(files.root, ".")
    with pytest.raises(SourceError, match=r"0000\.cls is of WebDataset, which is not read"):
        read_source(tmp_path / "shard.tar")
