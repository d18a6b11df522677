"""The detector of projects/parts.yaml on its own generated data: what it finds, and what its training costs.

    python benchmarks/detector.py [--seeds 0 1 2]

Budget: at least 0.85 mAP@0.5 on the holdout within 90 s of CPU training. Trained by the project's recipe, with the
project's split, on the first batch alone and on the first two; measured on the holdout of the same batches.
"""

import argparse
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from resources.home import ROOT
from visionops.demo.parts import BATCHES, SIDE, Picture, draw_batch
from visionops_assets.config.project import Project, load_project
from visionops_assets.dataset.splits import NO_SPLIT, Samples, place_samples
from visionops_assets.dataset.versions.annotations import SPLITS
from visionops_assets.training.batches import LabelledImages
from visionops_assets.training.detection import TASK, box_targets
from visionops_assets.training.train import TrainingRequest, train

LEAST_PRECISION, MOST_SECONDS = 0.85, 90


class Drawn:
    """Pictures in memory: uint8 [N, SIDE, SIDE, 1]."""

    def __init__(self, pictures: list[Picture]) -> None:
        self.pixels = np.stack([picture.pixels[..., None] for picture in pictures])

    def gather(self, rows: NDArray[np.integer], /) -> NDArray[np.uint8]:
        return self.pixels[rows]


def splits(batches: list[list[Picture]], project: Project) -> list[str]:
    """The side of each picture, batch after batch as an audit gives them."""
    sides = np.empty(0, np.int8)
    placed: list[Picture] = []
    for pictures in batches:
        placed += pictures
        names = [hashlib.sha256(picture.pixels.tobytes()).hexdigest() for picture in placed]
        of_each = [tuple(sorted(set(picture.labels))) for picture in placed]
        label_sets = list(dict.fromkeys(of_each))
        samples = Samples(
            len(sides),
            np.arange(len(placed), dtype=np.int32),
            np.concatenate([sides, np.full(len(pictures), NO_SPLIT, np.int8)]),
            np.array([label_sets.index(labels) for labels in of_each], np.int32),
            np.zeros(len(placed), bool),
            label_sets,
            names.__getitem__,
            names.__getitem__,
        )
        sides = place_samples(samples, project.splits.shares(), project.splits.salt, {}).splits
    return [SPLITS[side] for side in sides]


def rows_of(pictures: list[Picture]) -> pd.DataFrame:
    """What a manifest says of the pictures' boxes."""
    rows: list[dict[str, Any]] = []
    for picture in pictures:
        boxes = [
            {"x": x, "y": y, "w": w, "h": h, "label": label}
            for (x, y, w, h), label in zip(picture.boxes, picture.labels, strict=True)
        ]
        rows.append({"boxes": boxes, "width": SIDE, "height": SIDE})
    return pd.DataFrame(rows)


def measured(project: Project, batches: list[list[Picture]], seed: int) -> str:
    """Train once, and say what came of it."""
    pictures = [picture for batch in batches for picture in batch]
    recipe = project.recipe.model_copy(update={"seed": seed})
    source, sides = Drawn(pictures), np.array(splits(batches, project))
    targets = box_targets(rows_of(pictures), project.classes, recipe.input)

    def side(name: str) -> LabelledImages:
        rows = np.flatnonzero(sides == name)
        return LabelledImages(source, rows, targets[rows])

    request = TrainingRequest(recipe, project.classes, side("train"), side("val"), "benchmark", TASK)
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        result = train(request, Path(folder))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    _, precision = TASK.measure(result.shipped, side("holdout"))
    return (
        f"{len(request.train)} images trained on, {len(side('holdout'))} held out, seed {seed}: "
        f"mAP@0.5 {precision:.3f} ({precision / LEAST_PRECISION:.2f}× of what is asked), {cpu:.0f} s of CPU "
        f"({cpu / MOST_SECONDS:.2f}× of the budget), {wall:.0f} s by the clock"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    seeds = parser.parse_args().seeds
    project = load_project(ROOT / "projects" / "parts.yaml")
    batches = [draw_batch(images, seed) for images, seed, off in BATCHES.values() if not off]
    for count in range(1, len(batches) + 1):
        for seed in seeds:
            print(f"{count} batch(es), {measured(project, batches[:count], seed)}", flush=True)


if __name__ == "__main__":
    main()
