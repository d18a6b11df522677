"""The gate on 500 holdout images of 5 classes and 2,000 draws, against matching again in every draw.

    python benchmarks/gate_detection.py

Budget: 30 s for the whole judgement. The baseline is what one would write first: draw images, match their answers
anew, compute both mean average precisions; timed on a few draws and scaled.
"""

import argparse
import hashlib
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from visionops_assets.config.gate_rules import Bootstrap, GateRules
from visionops_assets.evaluation.context import LEAK_COLUMNS
from visionops_assets.evaluation.detection import DetectionHoldout
from visionops_assets.evaluation.gate import GateContext, gate_verdict
from visionops_assets.evaluation.verdict import ModelReference
from visionops_assets.images.box_metrics import Boxes, Matching, mean_average_precisions
from visionops_assets.inference.predictions import holdout_digest

CLASSES = tuple(f"class-{number}" for number in range(5))
ANSWERS, NAIVE_DRAWS = 20, 10


def boxes(count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Boxes of 8 to 40 pixels anywhere in an image of 200."""
    sides, corners = rng.uniform(8, 40, (count, 2)), rng.uniform(0, 160, (count, 2))
    return [
        {"x": x, "y": y, "w": w, "h": h, "label": str(rng.choice(CLASSES))}
        for (x, y), (w, h) in zip(corners.tolist(), sides.tolist(), strict=True)
    ]


def answers(truths: list[dict[str, Any]], recall: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    """A model that finds so many of an image's objects, among 20 answers in all."""
    found = [
        {**box, "x": box["x"] + rng.normal(0, 2), "score": rng.beta(6, 2)}
        for box in truths
        if rng.random() < recall
    ]
    return found + [{**box, "score": rng.beta(1, 8)} for box in boxes(ANSWERS - len(found), rng)]


def table(images: int, rng: np.random.Generator) -> pd.DataFrame:
    """The predictions of two models, in four batches."""
    truths = [boxes(int(rng.integers(1, 9)), rng) for _ in range(images)]
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(images)]
    return pd.DataFrame(
        {
            "sha256": digests,
            "path": [f"batches/b/images/{number:06}.png" for number in range(images)],
            "batch": [f"week-{number % 4}" for number in range(images)],
            "group": digests,
            "boxes": truths,
            "champion_boxes": [answers(row, 0.80, rng) for row in truths],
            "challenger_boxes": [answers(row, 0.85, rng) for row in truths],
        }
    )


def naive(holdout: DetectionHoldout, predictions: pd.DataFrame, rng: np.random.Generator) -> float:
    """Seconds a draw when every draw matches anew."""
    images = len(predictions)
    models = [holdout.truths]
    models += [holdout.matched(model).answers for model in ("challenger", "champion")]
    started = time.process_time()
    for _ in range(NAIVE_DRAWS):
        drawn = rng.integers(0, images, images)
        truths, *both = (_copied(part, drawn) for part in models)
        for said in both:
            found = Matching(truths, said, images=images, classes=len(CLASSES)).at(0.5)
            mean_average_precisions([found], np.ones((1, images)))
    return (time.process_time() - started) / NAIVE_DRAWS


def _copied(part: Boxes, drawn: np.ndarray) -> Boxes:
    places = [np.flatnonzero(part.images == image) for image in drawn]
    chosen = part.of(np.concatenate(places))
    numbers = np.repeat(np.arange(len(drawn)), [len(place) for place in places])
    return Boxes(numbers, chosen.labels, chosen.boxes, chosen.scores)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--draws", type=int, default=2000)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    predictions = table(arguments.images, rng)
    rules = GateRules(bootstrap=Bootstrap(draws=arguments.draws), object_sizes=(16, 32))
    context = GateContext(
        project="benchmark",
        classes=CLASSES,
        challenger=ModelReference(weights_sha256="1" * 64),
        champion=ModelReference(weights_sha256="2" * 64),
        holdout_digest=holdout_digest(predictions),
        holdout_share=0.25,
        leaks=pd.DataFrame(columns=list(LEAK_COLUMNS)),
        kind="decision",
        k=1,
        created_at=datetime(2025, 1, 6, tzinfo=UTC),
        task="detection",
    )
    wall, cpu = time.perf_counter(), time.process_time()
    verdict = gate_verdict(predictions, rules, context=context)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    again = naive(DetectionHoldout(predictions, CLASSES), predictions, rng) * arguments.draws
    rows = len(verdict.evidence.slices) if verdict.evidence else 0
    print(
        f"{arguments.images} images × {len(CLASSES)} classes, {rows} slices, {arguments.draws:,} draws: {wall:.1f} s, "
        f"of CPU {cpu:.1f} s; {cpu / again:.3f}× one metric matched anew in each draw ({again:.0f} s)"
    )


if __name__ == "__main__":
    main()
