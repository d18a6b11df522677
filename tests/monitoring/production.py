"""Production in small: real digits or generated parts, a model for each, and cameras that go wrong.

The models are scikit-learn's, fitted in a second: monitoring sees only what a model answers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from visionops.demo.parts import CLASSES as PARTS
from visionops.demo.parts import SIDE, draw_picture
from visionops_assets.monitoring.signals import image_statistics

Pixels = NDArray[np.uint8]
Shift = Callable[[Pixels, np.random.Generator], Pixels]
MODEL = "a" * 64


@dataclass(frozen=True)
class Pictures:
    """Images uint8 [N, H, W, 1] with the truth of each: a class, or a list of boxes."""

    pixels: Pixels
    truths: NDArray[np.object_]

    def of(self, chosen: NDArray[Any]) -> "Pictures":
        return Pictures(self.pixels[chosen], self.truths[chosen])

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Production:
    """A model with its holdout, the images that production draws from, and those of a class it never saw."""

    task: str
    answers: Callable[[Pixels], pd.DataFrame]
    holdout: Pictures
    pool: Pictures
    strangers: Pictures
    _seen: dict[Shift | None, pd.DataFrame] = field(default_factory=dict)

    def reference(self) -> pd.DataFrame:
        """What the model says of its holdout, as rows of the log with their labels."""
        return self.rows(self.holdout)

    def rows(self, pictures: Pictures, device: str = "camera-0", model: str = MODEL) -> pd.DataFrame:
        height, width = pictures.pixels.shape[1:3]
        statistics = image_statistics(pictures.pixels, [(width, height)] * len(pictures))
        kept = pd.DataFrame(
            {
                "timestamp": pd.date_range("2025-03-01", periods=len(pictures), freq="min", tz="UTC"),
                "device": device,
                "device_group": "all",
                "model_sha256": model,
                "image_sha256": [f"{hash(image.tobytes()) & (2**64 - 1):064x}" for image in pictures.pixels],
                "capture": None,
                "label": pd.Series(list(pictures.truths), dtype=object),
            }
        )
        return pd.concat([kept, statistics, self.answers(pictures.pixels)], axis=1)

    def day(
        self,
        rows: int,
        seed: int,
        *,
        shift: Shift | None = None,
        cameras: int = 1,
        weights: NDArray[np.float64] | None = None,
        new: float = 0.0,
        model: str = MODEL,
    ) -> pd.DataFrame:
        """A day of `rows`, drawn by `weights` [pool]. `shift` befalls one of so many cameras; `new` is the share of
        images of the class that the model never saw."""
        random = np.random.default_rng(seed)
        # Each image once: days then vary as days of fresh images do, the pool being a sample itself.
        chosen = random.choice(len(self.pool), rows, replace=weights is not None, p=weights)
        strange = random.random(rows) < new
        drawn = random.integers(0, max(len(self.strangers), 1), rows)
        found = self._answered(None).iloc[chosen].reset_index(drop=True)
        if shift is not None:
            hit = np.arange(rows) % cameras == 0
            found.loc[hit] = self._answered(shift).iloc[chosen[hit]].set_index(np.flatnonzero(hit))
        if strange.any():
            strangers = self._answered_strangers.iloc[drawn[strange]]
            found.loc[strange] = strangers.set_index(np.flatnonzero(strange))
        return found.assign(
            timestamp=pd.date_range("2025-03-01", periods=rows, freq="min", tz="UTC"),
            device=[f"camera-{number % cameras}" for number in range(rows)],
            model_sha256=model,
        )

    def _answered(self, shift: Shift | None) -> pd.DataFrame:
        """The rows of the whole pool, seen through a camera."""
        if shift not in self._seen:
            seen = self.pool.pixels if shift is None else shift(self.pool.pixels, np.random.default_rng(0))
            self._seen[shift] = self.rows(Pictures(seen, self.pool.truths))
        return self._seen[shift]

    @cached_property
    def _answered_strangers(self) -> pd.DataFrame:
        return self.rows(self.strangers)

    def prior(self, factor: float) -> NDArray[np.float64]:
        """Weights of the pool under which one class comes `factor` times as often."""
        if self.task == "classification":
            more = self.pool.truths == self.pool.truths[0]
        else:
            more = np.array([any(box["class"] == PARTS[0] for box in boxes) for boxes in self.pool.truths])
        weights = np.where(more, factor, 1.0)
        return weights / weights.sum()


def blur(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return ndimage.uniform_filter(pixels, (0, 3, 3, 0))


def darkness(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return (pixels * 0.6).astype(np.uint8)


def noise(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return np.clip(pixels + random.normal(0, 25, pixels.shape), 0, 255).astype(np.uint8)


def blur_and_darkness(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return darkness(blur(pixels, random), random)


@cache
def digits(seed: int = 0, unseen: int | None = None) -> Production:
    """A network of one hidden layer on scikit-learn's digits, without one of the ten classes if asked."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    data = load_digits()
    pixels = np.rint(data.images * 255 / 16).astype(np.uint8)[..., None]
    everything = Pictures(pixels, np.array([str(label) for label in data.target], object))
    known = np.flatnonzero(data.target != unseen)
    order = np.random.default_rng(seed).permutation(known)
    training, holdout, pool = np.split(order, [700, 1100])
    network = MLPClassifier((32,), max_iter=80, tol=1e-2, random_state=seed)
    flat = pixels.reshape(len(pixels), -1) / 255.0
    network.fit(flat[training], everything.truths[training].astype(str))
    classes = network.classes_

    def answers(images: Pixels) -> pd.DataFrame:
        inputs = images.reshape(len(images), -1) / 255.0
        probabilities = network.predict_proba(inputs)
        hidden = np.maximum(inputs @ network.coefs_[0] + network.intercepts_[0], 0)
        return pd.DataFrame(
            {
                "prediction": classes[probabilities.argmax(axis=1)].astype(object),
                "confidence": probabilities.max(axis=1),
                "probabilities": list(probabilities),
                "embedding": list(hidden),
            }
        )

    strangers = everything.of(data.target == unseen)
    return Production("classification", answers, everything.of(holdout), everything.of(pool), strangers)


@cache
def parts(seed: int = 0) -> Production:
    """Blobs that stand out of the ground, classed by a forest on their shape, in generated pictures of parts."""
    from sklearn.ensemble import RandomForestClassifier

    random = np.random.default_rng(seed)
    drawn = [draw_picture(random) for _ in range(560)]
    truths = np.empty(len(drawn), object)
    for number, picture in enumerate(drawn):
        truths[number] = [
            {**dict(zip("xywh", map(float, box), strict=True)), "class": label}
            for box, label in zip(picture.boxes, picture.labels, strict=True)
        ]
    everything = Pictures(np.stack([picture.pixels for picture in drawn])[..., None], truths)
    training, holdout, pool = np.split(np.arange(len(drawn)), [120, 320])
    shapes: list[list[float]] = []
    names: list[str] = []
    for image, boxes in zip(everything.pixels[training], truths[training], strict=True):
        for blob, shape in _blobs(image):
            near = [box["class"] for box in boxes if abs(box["x"] - blob[0]) + abs(box["y"] - blob[1]) < 6]
            shapes += [shape] * len(near)
            names += near
    forest = RandomForestClassifier(30, max_depth=8, random_state=seed).fit(np.array(shapes), names)
    projection = random.normal(size=(64, 16))

    def answers(images: Pixels) -> pd.DataFrame:
        found = [_blobs(image) for image in images]
        flat = [shape for blobs in found for _, shape in blobs]
        chances = iter(forest.predict_proba(np.array(flat)) if flat else [])
        boxes = [[_box(blob, next(chances), forest.classes_) for blob, _ in blobs] for blobs in found]
        best = [max(each, key=lambda box: box["score"], default=None) for each in boxes]
        small = (
            images.reshape(len(images), 8, SIDE // 8, 8, SIDE // 8).mean(axis=(2, 4)).reshape(-1, 64) / 255
        )
        return pd.DataFrame(
            {
                "prediction": pd.Series([box and box["class"] for box in best], dtype=object),
                "confidence": [box["score"] if box else np.nan for box in best],
                "boxes": pd.Series(boxes, dtype=object),
                "embedding": list(np.tanh((small - 0.35) @ projection)),
            }
        )

    strange = everything.pixels[pool][:60].copy()
    strange[:, ::3, ::2] = 255
    return Production(
        "detection",
        answers,
        everything.of(holdout),
        everything.of(pool),
        Pictures(strange, truths[pool][:60]),
    )


def _blobs(image: Pixels) -> list[tuple[tuple[int, int, int, int], list[float]]]:
    """What stands out of an image: left, top, width, height of each, and its shape in numbers."""
    away = np.abs(image[..., 0].astype(float) - np.median(image))
    labelled, _ = ndimage.label(ndimage.median_filter(away, 3) > 45)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labelled), start=1):
        inside = labelled[rows, columns] == number
        height, width = inside.shape
        if inside.sum() >= 12:
            shape = [inside.mean(), width / height, inside.sum(), inside[height // 2, width // 2]]
            found.append(((columns.start, rows.start, width, height), shape))
    return found


def _box(
    blob: tuple[int, int, int, int], chances: NDArray[np.float64], classes: NDArray[Any]
) -> dict[str, Any]:
    best = int(chances.argmax())
    sides = dict(zip("xywh", map(float, blob), strict=True))
    return {**sides, "class": str(classes[best]), "score": float(chances[best])}
