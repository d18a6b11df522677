import numpy as np
import pytest

from visionops_assets.dataset import near_duplicates
from visionops_assets.dataset.duplicates import phash
from visionops_assets.dataset.near_duplicates import find_near_duplicates


@pytest.mark.parametrize("side", [24, 48])
def test_images_at_hand_are_bounded_by_bytes_however_many_near_duplicates_there_are(
    picture, side, monkeypatch
):
    budget = 4 * 24 * 24
    monkeypatch.setattr(near_duplicates, "_KEPT_BYTES", budget)
    images = [picture(1, side, side)[..., :1].copy() for _ in range(12)]
    for number, image in enumerate(images):
        image[0, 0] = number
    asked: list[int] = []

    def load(numbers):
        asked.append(sum(images[number].size for number in numbers))
        return ((number, images[number]) for number in numbers)

    found = find_near_duplicates(
        np.array([phash(image) for image in images], np.uint64),
        np.repeat(np.arange(12, dtype=np.uint8)[:, None], 32, axis=1),
        [image.size for image in images],
        0,
        load,
    )
    assert [(one.newer, one.older) for one in found] == [
        (newer, older) for newer in range(12) for older in range(newer)
    ]
    assert max(asked) <= max(budget, 2 * side * side)
