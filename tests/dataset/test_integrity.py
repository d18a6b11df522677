import hashlib
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from visionops_assets.common.findings import findings_in_words, has_errors, join_findings
from visionops_assets.dataset import integrity


def table(**columns: Any) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "path": [f"batches/a/images/{i}.png" for i in range(6)],
            "label": ["x", "y"] * 3,
            "split": ["train", "train", "val", "val", "holdout", "holdout"],
            "group": [f"g{i}" for i in range(6)],
            "excluded": False,
        }
    )
    return frame.assign(**columns)


def test_a_sound_manifest_has_no_findings():
    sound = table()
    findings = join_findings(
        [
            integrity.check_labels_known(sound, ["x", "y"]),
            integrity.check_groups_whole(sound),
            integrity.check_classes_in_splits(sound, ["x", "y"]),
            integrity.check_images_present(sound, sound["path"]),
        ]
    )
    assert findings.empty and findings_in_words(findings) == "No findings."


def test_an_unknown_label_is_named_with_its_image():
    found = integrity.check_labels_known(table(), ["x"])
    assert found["image"].tolist() == [f"batches/a/images/{i}.png" for i in (1, 3, 5)]


def test_an_unknown_label_is_told_once_with_the_class_that_is_meant():
    labels = ["sound", "scrached", "scrached", "Sound", "rust", "scratched"]
    found = integrity.check_labels_known(table(label=labels), ["sound", "scratched"])
    assert found["what"].tolist() == [
        "has the unknown label 'scrached' (did you mean scratched?)",
        "has the unknown label 'scrached'",
        "has the unknown label 'Sound' (did you mean sound?)",
        "has the unknown label 'rust'",
    ]


def test_a_group_in_two_splits_is_an_error_unless_one_side_is_excluded():
    straddling = table(group=["g", "a", "b", "g", "c", "d"])
    assert integrity.check_groups_whole(straddling)["what"].tolist() == ["its group 'g' is in train and val"]
    assert integrity.check_groups_whole(straddling.assign(excluded=[False] * 3 + [True] + [False] * 2)).empty


@pytest.mark.parametrize(("split", "severity"), [("train", "ERROR"), ("val", "WARN"), ("holdout", "WARN")])
def test_a_class_missing_from_a_split_is_an_error_only_in_train(split, severity):
    frame = table()
    missing = frame.assign(excluded=(frame["split"] == split) & (frame["label"] == "y"))
    found = integrity.check_classes_in_splits(missing, ["x", "y"])
    assert found[["image", "what", "severity"]].to_numpy().tolist() == [
        ["class y", f"has no image in {split}", severity]
    ]
    assert has_errors(found) == (severity == "ERROR")


def test_annotations_and_images_must_match():
    listing = [*table()["path"][1:], "batches/a/images/extra.png"]
    found = integrity.check_images_present(table(), listing)
    assert found[["image", "severity"]].to_numpy().tolist() == [
        ["batches/a/images/0.png", "ERROR"],
        ["batches/a/images/extra.png", "WARN"],
    ]


def test_unreadable_altered_and_missing_images_are_told_apart(png):
    images = {"good": png(1), "altered": png(2), "broken": b"x", "missing": png(3)}
    sha256s = {path: hashlib.sha256(data).hexdigest() for path, data in images.items()}
    arriving = [("good", images["good"]), ("altered", images["altered"] + b"x"), ("broken", b"x")]
    found = integrity.check_images_readable(arriving, sha256s)
    assert found[["check", "image"]].to_numpy().tolist() == [
        ["unaltered", "altered"],
        ["readable", "broken"],
        ["complete", "missing"],
    ]


def test_findings_in_words_name_the_first_few_of_each_check():
    found = integrity.check_labels_known(table(), ["z"])
    words = findings_in_words(found, most=2)
    assert words.splitlines()[0] == "ERROR labels known: 6"
    assert words.splitlines()[-1] == "  and 4 more"
    assert len(words.splitlines()) == 4


def test_in_detection_every_class_of_every_box_counts():
    box = {"x": 0.0, "y": 0.0, "w": 1.0, "h": 1.0}
    frame = table().drop(columns="label")
    frame["boxes"] = pd.Series([[box | {"label": "x"}, box | {"label": "y"}]] * 5 + [[]])
    assert integrity.check_classes_in_splits(frame, ["x", "y"]).empty
    assert integrity.check_labels_known(frame, ["x"])["what"].tolist() == ["has the unknown label 'y'"] * 5


def grouped(groups: Sequence[str | None], splits: list[str], excluded: bool = False) -> pa.Table:
    return pa.table(
        {
            "group": pa.array(groups, pa.string()),
            "sha256": [f"{number:064x}" for number in range(len(groups))],
            "split": splits,
            "excluded": [excluded] * len(groups),
        }
    )


CAMERAS = grouped(["c1"] * 60 + ["c2"] * 20 + ["c3"] * 20, ["train"] * 60 + ["val"] * 20 + ["holdout"] * 20)


def few(*tables: pa.Table) -> list[tuple[str, str]]:
    found = integrity.check_holdout_groups(tables, least=6, share=0.25, slices=("line",))
    assert set(found["severity"]) <= {"WARN"}
    return list(zip(found["what"], found["why"], strict=True))


def test_a_holdout_of_too_few_groups_is_told_at_once_with_what_to_declare():
    ((what, why),) = few(CAMERAS)
    assert what == "is one group, c3, of 20 images"
    assert "no model can ever be judged on this holdout, it takes at least 6" in why
    assert "about 24 in all" in why and "`gate.slices` names (now line)" in why
    ((what, why),) = few(CAMERAS, grouped(["c4"] * 9, ["holdout"] * 9))
    assert what == "is 2 groups, c3, c4, of 29 images"
    assert "ever be shown to be better" in why
    ((what, _),) = few(grouped(["c1", "c1", "c2"], ["train", "train", "val"]))
    assert what == "has no image: every group went to another side"


def test_groups_enough_or_none_at_all_need_no_telling():
    days = grouped([f"day-{number // 3}" for number in range(18)], ["holdout"] * 18)
    assert not few(CAMERAS, days)
    assert not few(grouped([None] * 4, ["train", "train", "val", "holdout"]))
    assert few(
        CAMERAS, grouped([f"day-{number // 3}" for number in range(18)], ["holdout"] * 18, excluded=True)
    )
    # The manifest of main has an image's own digest where it has no group.
    own = grouped([f"{number:064x}" for number in range(3)], ["holdout"] * 3)
    assert not few(own)
