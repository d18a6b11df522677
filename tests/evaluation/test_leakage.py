"""A holdout image that was trained on is found, by its bytes or by its looks."""

import numpy as np
import pandas as pd
from holdouts import sha

from visionops_assets.evaluation.leakage import LEAK_COLUMNS, checksum_leaks, find_leaks, perceptual_leaks

RNG = np.random.default_rng(0)
PHOTO = np.kron(RNG.integers(0, 255, (8, 8)), np.ones((8, 8))).astype(np.uint8)[..., None]
IMAGES = {
    sha("photo"): PHOTO,
    sha("re-encoded"): np.clip(PHOTO.astype(int) + RNG.integers(-4, 5, PHOTO.shape), 0, 255).astype(np.uint8),
    sha("stranger"): np.kron(RNG.integers(0, 255, (8, 8)), np.ones((8, 8))).astype(np.uint8)[..., None],
}


def manifest(*rows: tuple[str, str, bool]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"path": f"batches/w/images/{i}.png", "sha256": sha(name), "split": split, "excluded": excluded}
            for i, (name, split, excluded) in enumerate(rows)
        ]
    )


def pairs(*found: tuple[str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(
        [(sha(held), sha(trained), distance) for held, trained, distance in found],
        columns=["holdout_sha256", "training_sha256", "distance"],
    )


def test_the_same_bytes_on_both_sides_leak() -> None:
    leaks = checksum_leaks(manifest(("a", "holdout", False), ("a", "train", False), ("b", "holdout", False)))
    assert list(leaks.columns) == list(LEAK_COLUMNS)
    assert leaks[["holdout_path", "training_path", "kind"]].to_numpy().tolist() == [
        ["batches/w/images/0.png", "batches/w/images/1.png", "checksum"]
    ]


def test_validation_images_count_as_trained_on() -> None:
    assert len(checksum_leaks(manifest(("a", "holdout", False), ("a", "val", False)))) == 1


def test_excluded_images_take_no_part() -> None:
    assert checksum_leaks(manifest(("a", "holdout", False), ("a", "train", True))).empty
    assert checksum_leaks(manifest(("a", "holdout", True), ("a", "train", False))).empty


def test_a_re_encoded_copy_leaks_and_a_stranger_does_not() -> None:
    found = perceptual_leaks(pairs(("photo", "re-encoded", 2), ("photo", "stranger", 3)), IMAGES.__getitem__)
    assert found["training_sha256"].tolist() == [sha("re-encoded")]
    assert found["correlation"][0] >= 0.99


def test_far_pairs_are_not_even_decoded() -> None:
    def never(sha256: str) -> np.ndarray:
        raise AssertionError(f"asked for {sha256}")

    assert perceptual_leaks(pairs(("photo", "re-encoded", 9)), never).empty


def test_all_leaks_come_as_one_table_with_places() -> None:
    rows = manifest(
        ("photo", "holdout", False),
        ("re-encoded", "train", False),
        ("same", "holdout", False),
        ("same", "train", False),
    )
    leaks = find_leaks(rows, pairs(("photo", "re-encoded", 2), ("same", "same", 0)), IMAGES.__getitem__)
    assert leaks[["kind", "holdout_path", "training_path"]].to_numpy().tolist() == [
        ["checksum", "batches/w/images/2.png", "batches/w/images/3.png"],
        ["perceptual", "batches/w/images/0.png", "batches/w/images/1.png"],
    ]


def test_a_clean_holdout_gives_an_empty_table() -> None:
    leaks = find_leaks(manifest(("a", "holdout", False), ("b", "train", False)), pairs(), IMAGES.__getitem__)
    assert leaks.empty
    assert list(leaks.columns) == list(LEAK_COLUMNS)
