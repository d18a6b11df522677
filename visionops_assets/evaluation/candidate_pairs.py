"""Which holdout images may be near duplicates of training images, by pHash alone."""

import numpy as np
import pandas as pd

from visionops_assets.dataset.duplicates import PhashIndex, phash_values

COLUMNS = ("holdout_sha256", "training_sha256", "distance")


def candidate_pairs(used: pd.DataFrame) -> pd.DataFrame:
    """Pairs of a holdout and a training or validation row with near pHashes and other bytes.

    `used` are the manifest's rows that take part. The table has `COLUMNS`; `leakage.find_leaks` looks at the
    images, since a pHash alone is no proof.
    """
    held, trained = used[used["split"] == "holdout"], used[used["split"] != "holdout"]
    index = PhashIndex(phash_values(trained["phash"].tolist()))
    found = list(index.near(phash_values(held["phash"].tolist()))) if len(held) and len(trained) else []
    query = np.concatenate([part.query for part in found]) if found else np.empty(0, np.int64)
    match = np.concatenate([part.match for part in found]) if found else np.empty(0, np.int64)
    distance = np.concatenate([part.distance for part in found]) if found else np.empty(0, np.uint8)
    columns = (held["sha256"].to_numpy()[query], trained["sha256"].to_numpy()[match], distance)
    pairs = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    return pairs[pairs["holdout_sha256"] != pairs["training_sha256"]].drop_duplicates(ignore_index=True)
