"""Average precision as COCO defines it, and the same with images counted several times."""

import contextlib
import io

import numpy as np
import pytest

from visionops_assets.images.box_geometry import iou
from visionops_assets.images.box_metrics import Boxes, Matching, average_precisions, mean_average_precisions

CLASSES = 4


def a_holdout(images: int, seed: int) -> tuple[Boxes, Boxes]:
    """Random truths, and answers near some of them, beside others that are wrong; scores have ties within an image."""
    random = np.random.default_rng(seed)
    count = random.integers(0, 6, images)
    place = np.repeat(np.arange(images), count)
    boxes = np.concatenate(
        [random.uniform(0, 150, (len(place), 2)), random.uniform(4, 130, (len(place), 2))], axis=1
    )
    truths = Boxes(place, random.integers(0, CLASSES, len(place)), boxes, np.ones(len(place)))
    near = np.repeat(np.arange(len(place)), random.integers(0, 3, len(place)))
    moved = boxes[near] + random.normal(0, 5, (len(near), 4)) * random.integers(0, 3, (len(near), 1))
    labels = np.where(
        random.random(len(near)) < 0.85, truths.labels[near], random.integers(0, CLASSES, len(near))
    )
    stray = random.integers(0, images, images)
    answered = np.concatenate([place[near], stray])
    order = np.argsort(answered, kind="stable")
    far = np.concatenate([random.uniform(0, 150, (images, 2)), random.uniform(4, 130, (images, 2))], axis=1)
    answers = Boxes(
        answered,
        np.concatenate([labels, random.integers(0, CLASSES, images)]),
        np.maximum(np.concatenate([moved, far]), 0.5),
        random.random(len(answered)),
    )
    return truths, answers.of(order)


def by_coco(truths: Boxes, answers: Boxes, images: int) -> np.ndarray:
    """COCO's twelve numbers by faster-coco-eval."""
    from faster_coco_eval import COCO, COCOeval_faster

    def entries(boxes: Boxes, truth: bool) -> list[dict]:
        rows = zip(boxes.images, boxes.labels, boxes.boxes, boxes.scores, strict=True)
        return [
            {
                "id": number + 1,
                "image_id": int(image),
                "category_id": int(label),
                "bbox": [float(side) for side in box],
                "area": float(box[2] * box[3]),
                "iscrowd": 0,
                **({} if truth else {"score": float(score)}),
            }
            for number, (image, label, box, score) in enumerate(rows)
        ]

    truth = COCO()
    truth.dataset = {
        "images": [{"id": number, "width": 300, "height": 300} for number in range(images)],
        "categories": [{"id": number, "name": str(number)} for number in range(CLASSES)],
        "annotations": entries(truths, True),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judged = COCOeval_faster(truth, truth.loadRes(entries(answers, False)), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return np.asarray(judged.stats[:12], dtype=np.float64)


def matched(truths: Boxes, answers: Boxes, images: int, least: float, areas=(0.0, np.inf)):
    return Matching(truths, answers, images=images, classes=CLASSES).at(least, areas)


@pytest.mark.parametrize("seed", range(6))
def test_the_point_value_is_that_of_faster_coco_eval(seed: int) -> None:
    images = 60
    truths, answers = a_holdout(images, seed)
    reference = by_coco(truths, answers, images)
    once = np.ones((1, images))
    steps = np.linspace(0.5, 0.95, 10)
    every = [matched(truths, answers, images, float(least)) for least in steps]
    assert mean_average_precisions(every, once)[0] == pytest.approx(reference[0], abs=1e-9)
    assert mean_average_precisions(every[:1], once)[0] == pytest.approx(reference[1], abs=1e-9)
    assert mean_average_precisions(every[5:6], once)[0] == pytest.approx(reference[2], abs=1e-9)


@pytest.mark.parametrize(("areas", "place"), [((0, 32**2), 3), ((32**2, 96**2), 4), ((96**2, 1e10), 5)])
def test_sizes_are_those_of_faster_coco_eval(areas: tuple[float, float], place: int) -> None:
    images = 60
    truths, answers = a_holdout(images, 11)
    steps = np.linspace(0.5, 0.95, 10)
    found = [matched(truths, answers, images, float(least), areas) for least in steps]
    expected = by_coco(truths, answers, images)[place]
    assert mean_average_precisions(found, np.ones((1, images)))[0] == pytest.approx(expected, abs=1e-9)


def test_an_image_drawn_twice_counts_like_two_images() -> None:
    images = 30
    truths, answers = a_holdout(images, 3)
    drawn = np.random.default_rng(0).integers(0, images, images)
    weights = np.bincount(drawn, minlength=images)[None].astype(float)

    def copied(boxes: Boxes) -> Boxes:
        parts = [np.flatnonzero(boxes.images == image) for image in drawn]
        numbers = np.repeat(np.arange(images), [len(part) for part in parts])
        chosen = boxes.of(np.concatenate(parts))
        return Boxes(numbers, chosen.labels, chosen.boxes, chosen.scores)

    weighted = mean_average_precisions([matched(truths, answers, images, 0.5)], weights)[0]
    repeated = mean_average_precisions(
        [matched(copied(truths), copied(answers), images, 0.5)], np.ones((1, images))
    )[0]
    assert weighted == pytest.approx(repeated, abs=1e-12)


def test_many_draws_are_the_draws_one_by_one() -> None:
    images = 40
    truths, answers = a_holdout(images, 5)
    weights = np.random.default_rng(1).multinomial(images, np.full(images, 1 / images), 50).astype(float)
    (first, *_) = matched(truths, answers, images, 0.5)
    together = average_precisions(first, weights)
    assert np.array_equal(together, [average_precisions(first, row[None])[0] for row in weights])


def test_nothing_to_find_is_no_number_and_nothing_found_is_zero() -> None:
    truths, answers = a_holdout(20, 7)
    nothing = answers.of(np.empty(0, np.int64))
    (first, *_) = matched(truths, nothing, 20, 0.5)
    assert average_precisions(first, np.ones((1, 20)))[0] == 0.0
    (first, *_) = matched(truths.of(np.empty(0, np.int64)), answers, 20, 0.5)
    assert np.isnan(average_precisions(first, np.ones((1, 20)))[0])


def test_overlap_of_equal_and_of_apart_boxes() -> None:
    boxes = np.array([[0.0, 0.0, 4.0, 4.0], [2.0, 0.0, 4.0, 4.0], [50.0, 50.0, 4.0, 4.0]])
    assert np.allclose(iou(boxes[:, None], boxes[None])[0], [1.0, 8 / 24, 0.0])


def test_images_left_out_are_images_that_do_not_count() -> None:
    images = 40
    truths, answers = a_holdout(images, 9)
    kept = np.arange(images) % 3 == 0
    (first, *_) = matched(truths, answers, images, 0.5)
    weights = np.random.default_rng(2).integers(0, 4, (20, images)).astype(np.uint8)
    expected = average_precisions(first, weights * kept)
    np.testing.assert_array_equal(average_precisions(first.of(kept), weights), expected)
