"""Which batch's labels to look at first, when a model got worse.

Labels swapped in one batch show as losses on the other batches, so the failing slice does not name the culprit.
What does is the model that was not trained on it: it disagrees with that batch's labels alone.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.evaluation.significance import holm
from visionops_assets.evaluation.verdict import Suspect

# Below five points a batch is merely harder than the others.
_NOTABLE_GAP = 0.05
_LEVEL = 0.01


def suspect_batches(
    predictions: pd.DataFrame, answers: pd.Series | None, correct: NDArray[np.bool_], *, min_samples: int
) -> list[Suspect]:
    """Batches whose labels agree with `answers` [rows] significantly less than the other batches' labels.

    Fisher's exact test of each batch against the rest, Holm-corrected, at 0.01, and a gap of five points;
    worst first. Batches below `min_samples` rows are not tested. In detection, where `answers` is None, an image is
    correct when all its boxes are found.
    """
    from scipy.stats import fisher_exact

    batches = predictions["batch"].astype(str).to_numpy()
    names, sizes = np.unique(batches, return_counts=True)
    tested = [str(name) for name, size in zip(names, sizes, strict=True) if size >= min_samples]
    if len(names) < 2 or not tested:
        return []
    p_values = []
    for name in tested:
        inside = batches == name
        right_in, right_out = int(correct[inside].sum()), int(correct[~inside].sum())
        wrong_in, wrong_out = int(inside.sum()) - right_in, int((~inside).sum()) - right_out
        p_values.append(fisher_exact([[right_in, wrong_in], [right_out, wrong_out]], "less").pvalue)
    suspects = []
    for name, p in zip(tested, holm(p_values), strict=True):
        inside = batches == name
        agreement, elsewhere = float(correct[inside].mean()), float(correct[~inside].mean())
        if p <= _LEVEL and elsewhere - agreement >= _NOTABLE_GAP:
            suspects.append(
                Suspect(
                    batch=name,
                    rows=int(inside.sum()),
                    agreement=agreement,
                    elsewhere=elsewhere,
                    confusion=None
                    if answers is None
                    else _confusion(predictions["label"][inside], answers[inside]),
                )
            )
    return sorted(suspects, key=lambda suspect: suspect.agreement - suspect.elsewhere)


def _confusion(labels: pd.Series, answers: pd.Series) -> str | None:
    wrong = labels.to_numpy() != answers.to_numpy()
    if not wrong.any():
        return None
    pairs = pd.Series(list(zip(labels[wrong], answers[wrong], strict=True))).value_counts()
    (label, answer), count = pairs.index[0], int(pairs.iloc[0])
    return f"{count} of {int((labels == label).sum())} images labelled {label} are answered {answer}"
