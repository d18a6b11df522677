"""The gate on 10,000 holdout images, 30 slices and 10,000 draws, against a plain numpy bootstrap of the same run.

    python benchmarks/gate.py

Budget: 3 s for the whole judgement (docs/gate.md). The baseline is what one would write first: a loop over draws for
the interval of one accuracy difference, nothing else.
"""

import argparse
import hashlib
import resource
from datetime import UTC, datetime
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from timing import seconds

from visionops_assets.config.gate_rules import Bootstrap, Costs, GateRules
from visionops_assets.evaluation.context import LEAK_COLUMNS
from visionops_assets.evaluation.gate import GateContext, gate_verdict
from visionops_assets.evaluation.verdict import ModelReference
from visionops_assets.inference.predictions import Scores, holdout_digest, predictions_table

CLASSES = tuple(f"class-{i}" for i in range(10))
BATCHES, CAMERAS = 12, 8


def holdout(size: int, frames_a_group: int, rng: np.random.Generator) -> pd.DataFrame:
    """Manifest rows in 10 classes, 12 batches and 8 cameras: 30 slices."""
    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(size)]
    batch = [f"week-{i % BATCHES:02}" for i in range(size)]
    return pd.DataFrame(
        {
            "path": [f"batches/{b}/images/{i:06}.png" for i, b in enumerate(batch)],
            "sha256": digests,
            "batch": batch,
            "group": [digests[i - i % frames_a_group] for i in range(size)],
            "label": rng.choice(CLASSES, size),
            "camera": [f"camera-{i}" for i in rng.integers(0, CAMERAS, size)],
        }
    )


def answers(labels: pd.Series, wrong: float, rng: np.random.Generator) -> Scores:
    """A model that is wrong on this share of the images."""
    codes = pd.Categorical(labels, categories=CLASSES).codes.astype(np.int64)
    said = np.where(rng.random(len(codes)) < wrong, (codes + 1) % len(CLASSES), codes)
    probabilities = np.full((len(codes), len(CLASSES)), 0.1 / 9, dtype=np.float32)
    probabilities[np.arange(len(codes)), said] = 0.9
    return Scores(CLASSES, probabilities)


def naive_interval(
    differences: NDArray[np.float64], draws: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A percentile interval by a loop over draws."""
    size = len(differences)
    means = [differences[rng.integers(0, size, size)].mean() for _ in range(draws)]
    return np.quantile(means, [0.05, 0.95])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    common = {"slices": ("camera",), "bootstrap": Bootstrap(draws=arguments.draws)}
    costs = Costs(unit="EUR", matrix={"class-1": {"class-2": 50.0}}, otherwise=1.0)
    cases = {
        "accuracy": (1, GateRules.model_validate(common)),
        "accuracy, groups of 5 images": (5, GateRules.model_validate(common)),
        "non-inferior, 3 critical slices": (
            1,
            GateRules.model_validate(
                common
                | {
                    "require": "non_inferior",
                    "critical_slices": ("class=class-1", "class=class-2", "camera=camera-3"),
                }
            ),
        ),
        "expected cost": (1, GateRules.model_validate(common | {"costs": costs, "min_improvement": 0.1})),
    }
    print(
        f"{arguments.images:,} images, {len(CLASSES) + BATCHES + CAMERAS} slices, {arguments.draws:,} draws"
    )
    for name, (frames, rules) in cases.items():
        rng = np.random.default_rng(0)
        rows = holdout(arguments.images, frames, rng)
        predictions = predictions_table(
            rows,
            challenger=answers(rows["label"], 0.05, rng),
            champion=answers(rows["label"], 0.06, rng),
            slices=("camera",),
        )
        context = GateContext(
            project="benchmark",
            classes=CLASSES,
            challenger=ModelReference(weights_sha256="1" * 64),
            champion=ModelReference(weights_sha256="2" * 64),
            holdout_digest=holdout_digest(rows, rules.slices),
            holdout_share=0.25,
            leaks=pd.DataFrame(columns=list(LEAK_COLUMNS)),
            kind="decision",
            k=1,
            created_at=datetime(2025, 1, 6, tzinfo=UTC),
        )
        wall, cpu = seconds(partial(gate_verdict, predictions, rules, context=context), arguments.repeats)
        right = (predictions["challenger_prediction"] == predictions["label"]).to_numpy(np.float64)
        before = (predictions["champion_prediction"] == predictions["label"]).to_numpy(np.float64)
        _, naive = seconds(partial(naive_interval, right - before, arguments.draws, rng), arguments.repeats)
        print(
            f"  {name:<32} {wall:5.2f} s, of CPU {cpu:5.2f} s: {cpu / naive:4.2f}× one naive interval ({naive:.2f} s)"
        )
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
