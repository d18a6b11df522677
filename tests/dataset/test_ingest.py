from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.dataset.conftest import encode
from tests.dataset.store import Repository
from visionops_assets.dataset.audit import check_class_balance
from visionops_assets.dataset.importing.image_source import SourceChanged, SourceError
from visionops_assets.dataset.importing.statements import Stated
from visionops_assets.dataset.versions.annotations import read_annotations


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def drop(tmp_path, png):
    """`drop(name, a=range(3), b=range(3, 5))`: a folder for each class with an image for each number."""

    def make(name: str, **classes: range) -> Path:
        for label, numbers in classes.items():
            for number in numbers:
                write(tmp_path / name / label / f"{number:03}.png", png(number))
        return tmp_path / name

    return make


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def findings(plan, check: str) -> pd.DataFrame:
    return plan.findings[plan.findings["check"] == check].reset_index(drop=True)


def test_a_folder_per_class_becomes_annotated_samples_with_splits(repository, drop):
    plan = repository.plan(drop("week", a=range(12), b=range(12, 20)), "week-1")
    assert plan.ok and plan.findings.empty
    assert (plan.format, plan.annotations_path) == ("folders", "batches/week-1/annotations/defects.parquet")
    rows = plan.annotations.to_pandas()
    assert rows["path"].tolist() == [upload.path for upload in plan.uploads]
    assert rows["path"][0] == "batches/week-1/images/a/000.png"
    assert rows["label"].value_counts().to_dict() == {"a": 12, "b": 8}
    assert rows["split"].value_counts().to_dict() == {"train": 12, "holdout": 5, "val": 3}
    assert rows[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[64, 48]]
    assert rows["size"].tolist() == [len(upload.read()) for upload in plan.uploads]
    assert read_annotations(plan.annotations_bytes(), plan.annotations_path).equals(plan.annotations)


def test_the_same_source_gives_the_same_plan_before_and_after_it_was_published(repository, drop):
    source = drop("week", a=range(12), b=range(12, 20))
    first = repository.plan(source, "week-1")
    assert repository.plan(source, "week-1").annotations_bytes() == first.annotations_bytes()
    repository.publish(first)
    repository.publish(repository.plan(drop("later", a=range(40, 80)), "week-2"))
    again = repository.plan(source, "week-1")
    assert again.annotations_bytes() == first.annotations_bytes()
    assert again.ok


def test_a_corrected_batch_keeps_the_splits_of_what_it_had(repository, drop, png):
    source = drop("week", a=range(12), b=range(12, 20))
    repository.publish(repository.plan(source, "week-1"))
    before = repository.samples().set_index("sha256")["split"]
    (source / "a/000.png").rename(source / "b/relabelled.png")
    write(source / "b/new.png", png(99))
    repository.publish(repository.plan(source, "week-1"))
    after = repository.samples().set_index("sha256")
    kept = after.index.intersection(before.index)
    assert len(kept) == 20 and len(after) == 21
    unmoved = [sha for sha in kept if "relabelled" not in after.loc[sha, "path"]]
    assert (after.loc[unmoved, "split"] == before[unmoved]).all()


def test_splits_of_train_val_and_test_folders_win(repository, tmp_path, png):
    for number, top in enumerate(["train", "train", "valid", "test"]):
        for label in "ab":
            write(tmp_path / f"d/{top}/{label}/{number}.png", png(number * 2 + (label == "b")))
    plan = repository.plan(tmp_path / "d", "week-1")
    assert plan.annotations["split"].to_pylist() == ["holdout"] * 2 + ["train"] * 4 + ["val"] * 2
    assert plan.annotations["label"].to_pylist() == ["a", "b", "a", "a", "b", "b", "a", "b"]


def labels_table(
    folder: Path, png, lines: list[str], name: str = "labels.csv", encoding: str = "utf-8"
) -> Path:
    for number in range(4):
        write(folder / f"images/{number}.png", png(number))
    (folder / name).write_text("\n".join(lines) + "\n", encoding=encoding)
    return folder


def test_a_table_of_labels_is_read_with_groups_times_and_columns_of_its_own(repository, tmp_path, png):
    lines = [
        "filename;label;group;captured_at;line;split",
        "0.png;a;cam1;2026-01-01T10:00:00Z;north;",
        "1.png;b;cam1;2026-01-01 11:00;south;",
        "images/2.png;a;cam2;;north;test",
        "3.png;b;;;;",
    ]
    plan = repository.plan(labels_table(tmp_path, png, lines), "week-1")
    assert plan.ok and plan.format == "table"
    rows = plan.annotations.to_pylist()
    assert [row["group"] for row in rows] == ["cam1", "cam1", "cam2", None]
    assert rows[0]["split"] == rows[1]["split"] and rows[2]["split"] == "holdout"
    assert [row["line"] for row in rows] == ["north", "south", "north", None]
    assert rows[1]["captured_at"].isoformat() == "2026-01-01T11:00:00+00:00"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_byte_order_mark_and_any_usual_delimiter_are_understood(
    repository, tmp_path, png, encoding, delimiter
):
    lines = [
        delimiter.join(pair) for pair in [("image", "Label"), *((f"{n}.png", "ab"[n % 2]) for n in range(4))]
    ]
    assert repository.plan(labels_table(tmp_path, png, lines, encoding=encoding), "week-1").ok


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"labels\.csv: is empty"),
        (b"foo,bar\n0.png,a\n", r"none of its columns \(foo, bar\) is called path, image"),
        (b"path,bar\n0.png,a\n", r"none of its columns \(path, bar\) is called label, class"),
        (b"path,label\n0.png\n", r"row 2 has 1 fields, the first line names 2 columns"),
        (b"path,label\n0.png,\xff\xfe\n", r"line 2, byte 17: .* is not UTF-8; .* --encoding cp1252"),
        (b'path,label\n"0.png,a\n', r"is not a CSV table"),
    ],
)
def test_a_broken_table_is_refused_naming_it_and_the_fix(repository, tmp_path, png, content, message):
    labels_table(tmp_path, png, [])
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(SourceError, match=message):
        repository.plan(tmp_path, "week-1")


def test_annotations_without_image_and_images_without_annotation_are_found(repository, tmp_path, png):
    lines = ["path,label", "0.png,a", "1.png,b", "2.png,", "9.png,a", "0.png,b", "../x.png,a"]
    plan = repository.plan(labels_table(tmp_path, png, lines), "week-1")
    assert not plan.ok
    assert findings(plan, "complete")["image"].tolist() == [
        "batches/week-1/images/9.png",
        "batches/week-1/images/../x.png",
    ]
    assert findings(plan, "complete")["what"][0] == "is annotated (labels.csv, row 5) but is not there"
    assert findings(plan, "annotated once")["what"].tolist() == ["is annotated again in labels.csv, row 6"]
    bare = findings(plan, "annotated")
    assert bare["what"].tolist() == ["has no label (labels.csv, row 4)", "is not in labels.csv"]
    assert bare["severity"].tolist() == ["ERROR", "WARN"]


def test_a_canonical_table_comes_back_as_it_was(repository, drop, tmp_path):
    plan = repository.plan(drop("week", a=range(6), b=range(6, 12)), "week-1")
    back = tmp_path / "back"
    for upload in plan.uploads:
        write(back / "images" / upload.path.partition("/images/")[2], upload.read())
    write(back / "annotations.parquet", plan.annotations_bytes())
    again = Repository().plan(back, "week-1")
    assert again.ok
    columns = ["sha256", "phash", "label", "split", "width", "height"]
    assert again.annotations.select(columns).equals(plan.annotations.select(columns))


def test_unknown_labels_are_named_with_the_classes_there_are(repository, drop):
    plan = repository.plan(drop("week", a=range(3), c=range(3, 6)), "week-1")
    found = findings(plan, "labels known")
    assert not plan.ok and len(found) == 3
    assert found["what"][0] == "has the unknown label 'c'"
    assert "the project's classes are a, b" in found["why"][0]


BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (50_000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + b"\0" * 4


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("empty.png", b"", "is empty"),
        ("truncated.jpg", None, "is a truncated or corrupt JPEG"),
        ("bomb.png", BOMB, "claims 50000×50000 pixels"),
        ("text.png", b"hello", "is not an image"),
        ("tiny.png", encode(Image.new("L", (2, 9)), "PNG"), "measures 2×9"),
        ("ribbon.png", encode(Image.new("L", (5, 600)), "PNG"), "measures 5×600"),
    ],
)
def test_an_image_that_cannot_be_used_refuses_the_batch_by_name(repository, drop, jpeg, name, data, what):
    source = drop("week", a=range(3), b=range(3, 6))
    write(source / "a" / name, jpeg(1)[:-400] if data is None else data)
    plan = repository.plan(source, "week-1")
    assert not plan.ok
    error = plan.findings[plan.findings["severity"] == "ERROR"]
    assert error["image"].tolist() == [f"batches/week-1/images/a/{name}"]
    assert error["what"].iloc[0].startswith(what)


def test_odd_but_usable_images_are_told_and_taken(repository, drop, picture):
    source = drop("week", a=range(3), b=range(3, 6))
    frames = [Image.fromarray(picture(seed)).quantize(64) for seed in (60, 61)]
    write(source / "a/animated.gif", encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    write(source / "a/wrong.png", encode(Image.fromarray(picture(62)), "JPEG"))
    write(source / "a/cmyk.jpg", encode(Image.fromarray(picture(63)).convert("CMYK"), "JPEG"))
    write(source / "a/deep.png", encode(Image.fromarray(picture(64)[..., 0].astype(np.uint16) * 257), "PNG"))
    write(source / "a/clear.png", encode(Image.fromarray(picture(65)).convert("RGBA"), "PNG"))
    plan = repository.plan(source, "week-1")
    assert plan.ok and len(plan.uploads) == 11
    assert findings(plan, "named rightly")["what"].tolist() == ["is a JPEG image"]
    assert findings(plan, "single image")["what"].tolist() == ["has 2 frames"]


@pytest.mark.parametrize(
    ("colour", "format_name", "what"),
    [
        ((0, 0, 0, 0), "PNG", "white or transparent"),
        ((9, 80, 7, 0), "WEBP", "white or transparent"),
        ((255, 255, 255), "JPEG", "white or transparent"),
        ((0, 0, 0), "JPEG", "black"),
        ((0, 0, 0), "BMP", "black"),
        ((40, 180, 60), "JPEG", "of one colour"),
        (90, "PNG", "of one colour"),
    ],
)
def test_an_image_that_shows_nothing_is_told_and_taken(repository, drop, colour, format_name, what):
    source = drop("week", a=range(6), b=range(6, 12))
    mode = "L" if isinstance(colour, int) else ("RGB", "RGBA")[len(colour) - 3]
    write(source / "a/lens-cap", encode(Image.new(mode, (40, 30), colour), format_name))
    (source / "a/lens-cap").rename(source / f"a/lens-cap.{format_name.lower()}")
    plan = repository.plan(source, "week-1")
    assert plan.ok and plan.annotations.num_rows == 13
    told = findings(plan, "shows something")
    assert told[["what", "severity"]].to_numpy().tolist() == [[f"is {what} throughout", "WARN"]]


def test_two_colours_that_are_as_bright_are_no_empty_image(repository, drop):
    source = drop("week", a=range(6), b=range(6, 12))
    sides = np.zeros((20, 40, 3), np.uint8)
    sides[:, :20, 0], sides[:, 20:, 2] = 76, 200
    write(source / "a/flags.png", encode(Image.fromarray(sides), "PNG"))
    assert findings(repository.plan(source, "week-1"), "shows something").empty


def test_copies_are_told_and_copies_with_another_label_refuse_the_batch(repository, drop, png):
    repository.publish(repository.plan(drop("one", a=range(5), b=range(5, 10)), "week-1"))
    source = drop("two", a=range(20, 25), b=range(25, 30))
    write(source / "a/copy.png", png(0))
    told = repository.plan(source, "week-2")
    assert told.ok
    assert findings(told, "no copies")["what"].tolist() == [
        "is the same image as batches/week-1/images/a/000.png"
    ]
    write(source / "b/copy.png", png(1))
    refused = repository.plan(source, "week-2")
    assert not refused.ok
    assert findings(refused, "one label an image")["what"].tolist() == [
        "is the same image as batches/week-1/images/a/001.png, which is labelled a, not b"
    ]


def test_a_batch_that_main_has_already_under_another_name_is_refused(repository, drop):
    source = drop("one", a=range(5), b=range(5, 10))
    repository.publish(repository.plan(source, "week-1"))
    again = repository.plan(source, "week-2")
    assert not again.ok
    (told,) = findings(again, "anything new")["what"]
    assert told == "has nothing new: each of its 10 images is on main already, in week-1"
    assert repository.plan(drop("more", a=[*range(5), 20], b=range(5, 10)), "week-2").ok


def test_a_near_duplicate_joins_the_side_of_its_original(repository, drop, picture):
    repository.publish(repository.plan(drop("one", a=range(20), b=range(20, 40)), "week-1"))
    originals = repository.samples().set_index("path")
    source = drop("two", b=range(50, 60))
    for number in range(20):
        write(source / f"a/{number:03}.jpg", encode(Image.fromarray(picture(number)), "JPEG", quality=80))
    plan = repository.plan(source, "week-2")
    assert plan.ok
    rows = plan.annotations.to_pandas().set_index("path")
    for number in range(20):
        original = originals.loc[f"batches/week-1/images/a/{number:03}.png"]
        copy = rows.loc[f"batches/week-2/images/a/{number:03}.jpg"]
        assert (copy["split"], copy["group"], copy["excluded"]) == (
            original["split"],
            original["sha256"],
            False,
        )
    assert len(findings(plan, "near duplicates")) == 20


def test_a_near_duplicate_of_both_sides_is_excluded_and_listed(repository, tmp_path, picture):
    shown = Image.fromarray(picture(1))
    lines = ["path,label,split", "0.png,a,train", "1.png,a,test"]
    source = tmp_path / "one"
    write(source / "0.png", encode(shown, "PNG"))
    write(source / "1.png", encode(shown.resize((60, 45)), "PNG"))
    (source / "labels.csv").write_text("\n".join(lines))
    first = repository.plan(source, "week-1")
    assert first.annotations["excluded"].to_pylist() == [False, True]
    found = findings(first, "no leak between splits")
    assert found["image"].tolist() == ["batches/week-1/images/1.png"]
    assert "it is excluded" in found["why"][0]


def test_copies_of_an_image_are_one_finding(repository, drop, picture):
    source = drop("week", b=range(100, 112))
    for quality in (95, 90, 85, 80):
        write(source / f"a/{quality}.jpg", encode(Image.fromarray(picture(0)), "JPEG", quality=quality))
    plan = repository.plan(source, "week-1")
    found = findings(plan, "near duplicates")
    assert plan.ok
    assert len(found) == 1
    assert "so are 2 more to this or each other: batches/week-1/images/a/" in found["what"][0]
    assert found["other"][0].startswith("batches/week-1/images/a/")


def test_near_duplicates_with_different_labels_are_told(repository, drop, picture):
    source = drop("week", a=range(5))
    write(source / "b/000.jpg", encode(Image.fromarray(picture(0)), "JPEG", quality=85))
    plan = repository.plan(source, "week-1")
    assert "it is labelled b, the other a" in findings(plan, "one label an image")["why"][0]
    assert plan.ok


def test_a_group_that_would_straddle_splits_refuses_the_batch(repository, tmp_path, png):
    lines = [
        "path,label,group,split",
        "0.png,a,cam,train",
        "1.png,b,cam,test",
        "2.png,a,,train",
        "3.png,b,,train",
    ]
    plan = repository.plan(labels_table(tmp_path, png, lines), "week-1")
    assert findings(plan, "groups whole")["what"].tolist() == ["its group 'cam' is in holdout and train"]
    assert not plan.ok


def test_a_shifted_class_balance_is_told(repository, drop):
    repository.publish(repository.plan(drop("one", a=range(60), b=range(60, 120)), "week-1"))
    plan = repository.plan(drop("two", a=range(200, 260), b=range(260, 262)), "week-2")
    assert plan.ok
    assert findings(plan, "class balance")["what"].tolist() == ["3.2% of the batch, 50.0% of what there is"]


def test_an_image_that_changes_after_it_was_audited_is_not_uploaded(repository, drop, png):
    source = drop("week", a=range(3), b=range(3, 6))
    plan = repository.plan(source, "week-1")
    write(source / "a/000.png", png(50))
    with pytest.raises(SourceChanged, match=r"a/000\.png changed while it was imported"):
        plan.uploads[0].read()
    (source / "a/001.png").unlink()
    with pytest.raises(SourceChanged, match=r"a/001\.png could be read a moment ago: No such file"):
        plan.uploads[1].read()


def test_an_image_that_cannot_be_opened_is_named(repository, drop):
    source = drop("week", a=range(3), b=range(3, 6))
    (source / "a/gone.png").symlink_to(source / "a/nowhere.png")
    (source / "a/outside.png").symlink_to("/etc/hostname")
    plan = repository.plan(source, "week-1")
    found = findings(plan, "inside the source")
    assert found["image"].tolist() == ["batches/week-1/images/a/outside.png"] and not plan.ok


def test_hidden_files_and_markers_are_passed_over(repository, drop):
    source = drop("week", a=range(3), b=range(3, 6))
    for name in ("_SUCCESS", ".DS_Store", "a/Thumbs.db", ".cache/x.png", "a/.hidden.png"):
        write(source / name, b"x")
    assert repository.plan(source, "week-1").findings.empty


def test_an_empty_or_foreign_source_is_refused_with_what_was_expected(repository, tmp_path, png):
    with pytest.raises(SourceError, match="does not exist"):
        repository.plan(tmp_path / "nowhere", "week-1")
    with pytest.raises(SourceError, match=r"is in none of the formats .* expected for example a folder"):
        repository.plan(tmp_path, "week-1")
    write(tmp_path / "flat.png", png(1))
    with pytest.raises(SourceError, match="is in none of the formats"):
        repository.plan(tmp_path, "week-1")
    with pytest.raises(SourceError, match="no format is called 'cooc'"):
        repository.plan(tmp_path, "week-1", stated=Stated("cooc"))
    with pytest.raises(ValueError, match="'week 1' cannot name a batch"):
        repository.plan(tmp_path, "week 1")


def test_a_batch_without_a_single_usable_image_is_refused(repository, tmp_path):
    write(tmp_path / "d/a/x.png", b"no image")
    plan = repository.plan(tmp_path / "d", "week-1")
    assert not plan.ok and list(plan.uploads) == []
    assert findings(plan, "complete")["what"].tolist() == ["has no image that can be used"]


def test_progress_reaches_the_number_of_images(repository, drop):
    seen: list[tuple[int, int]] = []
    repository.plan(drop("week", a=range(40)), "week-1", progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (40, 40) and [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_boxes_of_a_table_are_kept_and_checked(tmp_path, png):
    repository = Repository(("dent", "scratch"))
    box = {"x": 1.0, "y": 2.0, "w": 10.0, "h": 20.0, "label": "dent"}
    frame = pd.DataFrame({"path": ["0.png", "1.png"], "boxes": [[box, box | {"label": "scratch"}], []]})
    for number in range(2):
        write(tmp_path / f"{number}.png", png(number))
    frame.to_parquet(tmp_path / "boxes.parquet")
    plan = repository.plan(tmp_path, "week-1")
    assert plan.ok
    assert plan.annotations["boxes"].to_pylist() == frame["boxes"].tolist()
    wrong = [[box | {"w": 0.0}, box | {"x": 60.0}], [box | {"label": "hole"}]]
    frame.assign(boxes=pd.Series(wrong)).to_parquet(tmp_path / "boxes.parquet")
    refused = repository.plan(tmp_path, "week-1")
    assert findings(refused, "boxes")["why"].tolist() == [
        "a box without area shows nothing; remove it",
        "it leaves the image of 64×48; correct it",
    ]
    assert findings(refused, "labels known")["what"].tolist() == ["has the unknown label 'hole'"]


def test_images_without_a_box_are_not_called_a_class():
    told = check_class_balance(Counter({None: 20, "no boxes": 20}), Counter({None: 60, "ring": 60}))
    assert told["image"].tolist() == ["images without a box", "class ring"]
