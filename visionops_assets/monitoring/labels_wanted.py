"""Which captured images of a day are most worth a label. Pure; one (model, device group)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.monitoring.drawn_by_lot import drawn
from visionops_assets.monitoring.embedding_distance import EmbeddingReference
from visionops_assets.monitoring.signals import NO_BOX, embeddings

# With their Arrow types.
WANTED_COLUMNS = {
    "image_sha256": "string",
    "capture": "string",
    "device": "string",
    "device_group": "string",
    "model_sha256": "string",
    "prediction": "string",
    "confidence": "double",
    "uncertainty": "double",
    "novelty": "double",
    "worth": "double",
    "why": "string",
}
BY_LOT = "by lot"
_MUCH = 0.8


def labels_wanted(
    day: pd.DataFrame, reference: pd.DataFrame, task: str, count: int, share: float = 0.0
) -> pd.DataFrame:
    """At most `count` rows of the log with a capture and no label, the most wanted first; columns `WANTED_COLUMNS`.

    `worth` is the mean of two ranks among the day's candidates, 0 to 1: `uncertainty`, how little the model's first
    answer is ahead of its second (of a detector, how near its most doubtful box is to a score of one half), and
    `novelty`, the distance to the nearest image of the reference by embedding, in the reference's own deviations.
    What cannot be told ranks last. An image is asked for once. The classes that the model answers take turns, so
    that one class of doubtful images does not use up the day; those at a class's turn go by worth.

    Half of what is asked for, as far as there are, are images drawn by a `share` of all, in the order of
    `drawn_by_lot.counted`: only these tell how well a model does.
    """
    candidates = day[day["capture"].notna() & day["label"].isna()].drop_duplicates("image_sha256")
    if candidates.empty:
        return pd.DataFrame(columns=list(WANTED_COLUMNS))
    uncertainty = (
        _of_boxes(candidates["boxes"]) if task == "detection" else _of_classes(candidates["probabilities"])
    )
    found = candidates.assign(uncertainty=uncertainty, novelty=_novelty(candidates, reference))
    ranks = [found[name].rank(pct=True).fillna(0.0) for name in ("uncertainty", "novelty")]
    found = found.assign(worth=(ranks[0] + ranks[1]) / 2, why=_reasons(*ranks))
    found = found.sort_values(["worth", "image_sha256"], ascending=[False, True], kind="stable")
    lot = found[drawn(found["image_sha256"], share)].sort_values("image_sha256").head(count // 2)
    others = found.drop(lot.index)
    turns = others.groupby(others["prediction"].fillna(NO_BOX), sort=False).cumcount()
    others = others.assign(turn=turns).sort_values(["turn", "worth"], ascending=[True, False], kind="stable")
    chosen = pd.concat([lot.assign(why=BY_LOT), others.head(count - len(lot))])
    return chosen.sort_values("worth", ascending=False, kind="stable")[list(WANTED_COLUMNS)].reset_index(
        drop=True
    )


def _of_classes(column: pd.Series) -> NDArray[np.float64]:
    """One less the lead of the first class over the second."""
    found = np.full(len(column), np.nan)
    for row, probabilities in enumerate(column):
        best = np.sort(np.asarray(probabilities, np.float64))[-2:]
        if len(best) == 2 and np.isfinite(best).all():
            found[row] = 1 - (best[1] - best[0])
    return found


def _of_boxes(column: pd.Series) -> NDArray[np.float64]:
    """How near the most doubtful box is to one half, 0 to 1; an image without boxes is in no doubt."""
    return np.array(
        [max((1 - abs(2 * float(box["score"]) - 1) for box in boxes), default=0.0) for boxes in column],
        np.float64,
    )


def _novelty(candidates: pd.DataFrame, reference: pd.DataFrame) -> NDArray[np.float64]:
    found, known = np.full(len(candidates), np.nan), embeddings(reference)
    if len(known) < 2:
        return found
    vectors = [np.asarray([] if each is None else each, np.float64) for each in candidates["embedding"]]
    usable = [
        row for row, each in enumerate(vectors) if len(each) == known.shape[1] and np.isfinite(each).all()
    ]
    if usable:
        found[usable] = EmbeddingReference(known).nearest(np.stack([vectors[row] for row in usable]))
    return found


def _reasons(uncertainty: Sequence[float] | pd.Series, novelty: Sequence[float] | pd.Series) -> list[Any]:
    names = {(True, True): "uncertain and novel", (True, False): "uncertain", (False, True): "novel"}
    return [
        names.get((doubt >= _MUCH, new >= _MUCH), "class quota")
        for doubt, new in zip(uncertainty, novelty, strict=True)
    ]
