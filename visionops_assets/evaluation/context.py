"""What the gate needs to know beside predictions and rules: who is compared with whom, which holdout images were
trained on, which batch's labels to look at first.

A holdout that the model has seen says nothing. Leaks are found as copies are in an import, where the training
images are those that are there and the holdout's are new. A leak refuses a model, where an import only groups: of
images of a few pixels, where what is called a copy depends on what else is there, pHashes and grey values have to
agree too. Labels swapped in one batch show as losses on the other batches, so the failing slice does not name the
culprit. What does is the model that was not trained on it: it disagrees with that batch's labels alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.common.error_levels import level_left
from visionops_assets.config.gate_rules import GateRules
from visionops_assets.dataset.deduplication.image_views import Loaded
from visionops_assets.dataset.deduplication.near_duplicates import MIN_CORRELATION, find_near_duplicates
from visionops_assets.evaluation.significance import holm
from visionops_assets.evaluation.verdict import Between, Kind, ModelReference, Suspect
from visionops_assets.images.phash import MAX_DISTANCE, grey, phash_values
from visionops_assets.training.provenance import ForeignOrigin

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
# Below five points a batch is merely harder than the others.
_NOTABLE_GAP = 0.05
_LEVEL = 0.01


@dataclass(frozen=True)
class GateContext:
    """Who is judged against whom, on what.

    `k` is the challenger's place among those judged against this champion (`error_levels.turn_of`).
    `holdout_share` is the share of all labelled samples that the holdout has. `leaks` is the table of
    `find_leaks`, empty where the check found nothing: there is no default, so that it cannot be
    forgotten. `between` is what differs in the two models' trainings, None where that is not known. `foreign` is what
    is said of a challenger that was made elsewhere, and `training` identifies what it is said to be trained on.
    """

    project: str
    classes: Sequence[str]
    challenger: ModelReference
    champion: ModelReference | None
    holdout_digest: str
    holdout_share: float
    leaks: pd.DataFrame
    kind: Kind
    k: int
    created_at: datetime
    dagster_run_id: str | None = None
    task: str = "classification"
    between: Between | None = None
    foreign: ForeignOrigin | None = None
    training: str | None = None

    def level(self, rules: GateRules) -> float:
        """α_k, at which this challenger may claim."""
        return level_left(rules.alpha, self.k)

    @property
    def unchanged(self) -> bool:
        """Whether the challenger is the champion itself."""
        return self.champion is not None and self.champion.weights_sha256 == self.challenger.weights_sha256


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

    def load(wanted: Sequence[int]) -> Iterator[Loaded]:
        for digest, image in images([digests[number] for number in wanted]):
            yield Loaded(numbers[digest], grey(image)[..., None])

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
