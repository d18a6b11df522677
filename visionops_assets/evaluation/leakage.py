"""Holdout images that were trained on: a holdout that the model has seen says nothing.

They are found as copies are in an import (`dataset/deduplication/near_duplicates.py`), where the training images
are those that are there and the holdout's are new. A leak refuses a model, where an import only groups: of images
of a few pixels, where what is called a copy depends on what else is there, pHashes and grey values have to agree
too.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge.images.decode import Pixels
from visionops_assets.dataset.deduplication.near_duplicates import MIN_CORRELATION, find_near_duplicates
from visionops_assets.images.phash import MAX_DISTANCE, grey, phash_values

LEAK_COLUMNS = (
    "holdout_sha256",
    "training_sha256",
    "kind",
    "distance",
    "correlation",
    "holdout_path",
    "training_path",
)

# Of 1,500 digits of 8×8 pixels, each lot had up to five other pairs that were called copies; they correlate to 0.986
# at most, JPEG 75 from 0.993 on.
_TELLING_PIXELS = 16 * 16

Images = Callable[[Sequence[str]], Iterator[tuple[str, NDArray[np.uint8]]]]


def find_leaks(manifest: pd.DataFrame, images: Images) -> pd.DataFrame:
    """All leaks of a manifest, as a table of `LEAK_COLUMNS`; empty where the holdout is clean.

    Training means every row that is neither holdout nor `excluded`: validation images choose the model too.
    `images` gives (digest, uint8 [H, W, C]) of digests: of the holdout's, and of training images that may be theirs.
    """
    exact, near = checksum_leaks(manifest), perceptual_leaks(manifest, images)
    if near.empty:
        return exact
    return near if exact.empty else pd.concat([exact, near], ignore_index=True)


def checksum_leaks(manifest: pd.DataFrame) -> pd.DataFrame:
    """Holdout rows whose bytes (SHA-256) are those of a training row."""
    taking_part = manifest[~manifest["excluded"].to_numpy(dtype=bool)]
    held = taking_part["split"] == "holdout"
    columns = ["sha256", "path"]
    shared = taking_part.loc[held, columns].merge(
        taking_part.loc[~held, columns].drop_duplicates("sha256"),
        on="sha256",
        suffixes=("_holdout", "_training"),
    )
    return pd.DataFrame(
        {
            "holdout_sha256": shared["sha256"],
            "training_sha256": shared["sha256"],
            "kind": "checksum",
            "distance": pd.Series(0, index=shared.index, dtype="Int64"),
            "correlation": pd.Series(1.0, index=shared.index, dtype="float64"),
            "holdout_path": shared["path_holdout"],
            "training_path": shared["path_training"],
        },
        columns=list(LEAK_COLUMNS),
    )


def perceptual_leaks(manifest: pd.DataFrame, images: Images) -> pd.DataFrame:
    """Holdout images that are near duplicates of training images, but for those with the same bytes."""
    taking_part = manifest[~manifest["excluded"].to_numpy(dtype=bool)]
    # The oldest first: what was trained on.
    order = np.argsort(taking_part["split"].to_numpy(object) == "holdout", kind="stable")
    rows = taking_part.iloc[order].drop_duplicates("sha256")
    held = rows["split"].to_numpy(object) == "holdout"
    digests, paths = rows["sha256"].tolist(), rows["path"].tolist()
    numbers = {digest: number for number, digest in enumerate(digests)}

    def load(wanted: Sequence[int]) -> Iterator[tuple[int, Pixels]]:
        for digest, image in images([digests[number] for number in wanted]):
            yield numbers[digest], grey(image)[..., None]

    phashes = phash_values(rows["phash"].tolist())
    pixels = rows["height"].to_numpy(np.int64) * rows["width"].to_numpy(np.int64)
    found = find_near_duplicates(
        phashes,
        np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(-1, 32),
        pixels,
        int(np.count_nonzero(~held)),
        load,
    )
    leaks = sorted(
        (digests[new], digests[old], "perceptual", distance, alike, paths[new], paths[old])
        for new, old, distance, alike in found
        if not held[old]
        and (
            min(pixels[new], pixels[old]) >= _TELLING_PIXELS
            or (distance <= MAX_DISTANCE and alike >= MIN_CORRELATION)
        )
    )
    return pd.DataFrame(leaks, columns=list(LEAK_COLUMNS)).astype(
        {"distance": "Int64", "correlation": "float64"}
    )
