"""A holdout image that was trained on is found, by its bytes or by its looks."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from holdouts import sha

from visionops_assets.evaluation.context import LEAK_COLUMNS, checksum_leaks, find_leaks, perceptual_leaks
from visionops_assets.images.phash import phash

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
            {
                "path": f"batches/w/images/{i}.png",
                "sha256": sha(name),
                "phash": f"{phash(IMAGES.get(sha(name), PHOTO)):016x}",
                "height": 64,
                "width": 64,
                "split": split,
                "excluded": excluded,
            }
            for i, (name, split, excluded) in enumerate(rows)
        ]
    )


def images(digests: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    return ((digest, IMAGES[digest]) for digest in digests)


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
    rows = manifest(("photo", "holdout", False), ("re-encoded", "train", False), ("stranger", "train", False))
    found = perceptual_leaks(rows, images)
    assert found["training_sha256"].tolist() == [sha("re-encoded")]
    assert found["correlation"][0] >= 0.99


def test_training_images_that_are_far_are_not_even_decoded() -> None:
    asked: list[str] = []

    def noted(digests: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        asked.extend(digests)
        return images(digests)

    assert perceptual_leaks(manifest(("photo", "holdout", False), ("stranger", "train", False)), noted).empty
    assert sha("stranger") not in asked


def test_all_leaks_come_as_one_table_with_places() -> None:
    rows = manifest(
        ("photo", "holdout", False),
        ("re-encoded", "train", False),
        ("stranger", "holdout", False),
        ("stranger", "train", False),
    )
    leaks = find_leaks(rows, images)
    assert leaks[["kind", "holdout_path", "training_path"]].to_numpy().tolist() == [
        ["checksum", "batches/w/images/2.png", "batches/w/images/3.png"],
        ["perceptual", "batches/w/images/0.png", "batches/w/images/1.png"],
    ]


def test_a_clean_holdout_gives_an_empty_table() -> None:
    leaks = find_leaks(manifest(("photo", "holdout", False), ("stranger", "train", False)), images)
    assert leaks.empty
    assert list(leaks.columns) == list(LEAK_COLUMNS)
