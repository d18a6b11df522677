"""Near duplicates are told by group, and one that would take much of a batch is asked about."""

import numpy as np
import pandas as pd
import pytest

from tests.dataset.named_samples import Sample, assign_splits
from visionops_assets.dataset.audit import check_near_duplicates


def rows(count: int, group: str | None = None, excluded: tuple[int, ...] = ()) -> pd.DataFrame:
    """Images 0 to `count`, the labels in turn."""
    return pd.DataFrame(
        {
            "path": [f"{number:03}.png" for number in range(count)],
            "split": "train",
            "excluded": [number in excluded for number in range(count)],
            "group": group or "0" * 64,
            "label": "part",
        }
    )


def chain(count: int) -> list[tuple[str, str, float]]:
    """Each image is near the one before."""
    return [(f"{number:03}.png", f"{number - 1:03}.png", 0.99) for number in range(1, count)]


def told(pairs: list[tuple[str, str, float]], batch: pd.DataFrame, images: int, share: float) -> pd.DataFrame:
    return check_near_duplicates(pairs, batch, rows(0), images, share, "week-1")


def test_a_chain_is_one_finding_that_names_the_first_few() -> None:
    found = told(chain(9), rows(9), 100, 0.1)
    assert found["severity"].tolist() == ["WARN"]
    assert found["image"].tolist() == ["001.png"]
    assert found["other"].tolist() == ["000.png"]
    assert found["what"][0].endswith(
        "; so are 7 more to this or each other: 002.png, 003.png, 004.png and 4 more"
    )
    assert found["why"][0] == "they join it in train"


def test_groups_apart_are_findings_of_their_own() -> None:
    pairs = [("001.png", "000.png", 1.0), ("003.png", "002.png", 0.99), ("004.png", "003.png", 0.99)]
    assert told(pairs, rows(5), 5, 0.1)["image"].tolist() == ["001.png", "003.png"]


def test_what_is_excluded_is_told_apart() -> None:
    found = told(chain(4), rows(4, excluded=(2, 3)), 4, 0.1)
    assert found["check"].tolist() == ["near duplicates", "no leak between splits"]
    assert found["why"][1] == "which is in train; they are excluded, or they would leak between splits"


def test_a_label_that_differs_is_told_once_an_image() -> None:
    batch = rows(3)
    batch.loc[2, "label"] = "scratch"
    found = told([*chain(3), ("002.png", "000.png", 0.995)], batch, 3, 0.1)
    labels = found[found["check"] == "one label an image"]
    assert labels[["image", "suspected", "other"]].to_numpy().tolist() == [["002.png", "part", "000.png"]]


@pytest.mark.parametrize(("size", "images", "asked"), [(20, 20, False), (21, 100, True), (21, 300, False)])
def test_a_chain_that_takes_much_of_a_batch_asks_first(size: int, images: int, asked: bool) -> None:
    found = told(chain(size), rows(size), images, 0.1)
    errors = found[found["severity"] == "ERROR"]
    assert bool(len(errors)) is asked
    if asked:
        assert errors["image"].tolist() == ["week-1"]
        assert "21 of its 100 images are near duplicates of each other: 000.png" in errors["what"].iloc[0]
        assert "column `group`" in errors["why"].iloc[0]
        assert "audit.max_chain, which is 0.1" in errors["why"].iloc[0]


@pytest.mark.parametrize("seed", range(8))
def test_no_group_of_near_duplicates_takes_more_than_its_share_of_a_batch_unasked(seed: int) -> None:
    random, images = np.random.default_rng(seed), 200
    newer = random.integers(1, images, 30 * (seed + 1))
    pairs = sorted({(int(new), int(random.integers(new))) for new in newer})
    named = [(f"{new:03}.png", f"{old:03}.png", 0.99) for new, old in pairs]
    older: dict[str, list[str]] = {}
    for new, old, _ in named:
        older.setdefault(new, []).append(old)
    batch = rows(images)
    samples = [
        Sample(path, f"{number:064x}", ("part",), None, None) for number, path in enumerate(batch["path"])
    ]
    placed = assign_splits(samples, [], {"train": 0.8, "holdout": 0.2}, "", older)
    batch["group"] = [placed[path].group for path in batch["path"]]
    batch["split"] = [placed[path].split for path in batch["path"]]
    largest = batch["group"].value_counts().max()
    asked = (told(named, batch, images, 0.15)["severity"] == "ERROR").any()
    assert asked or largest <= 0.15 * images
    if seed in (0, 7):
        assert asked == (seed == 7), "both are tried"


def test_a_chain_may_be_allowed_or_declared() -> None:
    for found in (told(chain(50), rows(50), 100, 0.5), told(chain(50), rows(50, "video 1"), 100, 0.1)):
        assert found["severity"].tolist() == ["WARN"]


def test_images_of_other_batches_do_not_count() -> None:
    both = rows(60)
    found = check_near_duplicates(chain(60), both[40:], both[:40], 100, 0.1, "week-1")
    assert found["severity"].tolist() == ["WARN"]
