"""Holdout images that were trained on: a holdout that the model has seen says nothing.

A pHash alone is no proof (m: it calls up to 71% of the digits duplicates): what the images show decides, as in the
audit (`dataset/near_duplicates.py`).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from edge.decode import Pixels
from visionops_assets.dataset.duplicates import MAX_DISTANCE, grey
from visionops_assets.dataset.near_duplicates import near_duplicates_among

LEAK_COLUMNS = (
    "holdout_sha256",
    "training_sha256",
    "kind",
    "distance",
    "correlation",
    "holdout_path",
    "training_path",
)

# Enough pixels to be looked at.
_UNKNOWN_SIZE = 1 << 20

Images = Callable[[str], NDArray[np.uint8]]


def find_leaks(manifest: pd.DataFrame, candidates: pd.DataFrame, images: Images) -> pd.DataFrame:
    """All leaks of a manifest, as a table of `LEAK_COLUMNS`; empty where the holdout is clean.

    Training means every row that is neither holdout nor `excluded`: validation images choose the model too.
    `candidates` are pairs of digests with the `distance` of their pHashes (`holdout_sha256, training_sha256,
    distance`); `images` gives the uint8 [H, W, C] of a digest and is asked only for pairs near enough.
    """
    exact = checksum_leaks(manifest)
    # The same bytes on both sides are found already.
    near = perceptual_leaks(candidates[candidates["holdout_sha256"] != candidates["training_sha256"]], images)
    if near.empty:
        return exact
    places = manifest.drop_duplicates("sha256").set_index("sha256")["path"]
    near = near.assign(
        holdout_path=near["holdout_sha256"].map(places), training_path=near["training_sha256"].map(places)
    )
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


def perceptual_leaks(candidates: pd.DataFrame, images: Images) -> pd.DataFrame:
    """The candidate pairs that are near duplicates; paths are left empty."""
    near = candidates[candidates["distance"] <= MAX_DISTANCE]
    held, trained = (near[name].to_numpy(object) for name in ("holdout_sha256", "training_sha256"))
    digests, numbers = np.unique(np.concatenate([held, trained]).astype(str), return_inverse=True)

    def load(wanted: Sequence[int]) -> Iterator[tuple[int, Pixels]]:
        for number in wanted:
            yield number, grey(images(str(digests[number])))[..., None]

    places = {frozenset(pair): place for place, pair in enumerate(numbers.reshape(2, -1).T.tolist())}
    found = []
    pixels = np.full(len(digests), _UNKNOWN_SIZE)
    for *pair, alike in near_duplicates_among(*numbers.reshape(2, -1), pixels, load):
        place = places[frozenset(pair)]
        distance = int(near["distance"].iloc[place])
        found.append((held[place], trained[place], "perceptual", distance, alike, None, None))
    table = pd.DataFrame(sorted(found), columns=list(LEAK_COLUMNS))
    return table.astype({"distance": "Int64", "correlation": "float64"})
