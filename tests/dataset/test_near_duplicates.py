import numpy as np
import pytest

from visionops_assets.dataset.deduplication import candidate_pairs, near_duplicates
from visionops_assets.dataset.deduplication.image_views import Loaded
from visionops_assets.dataset.deduplication.near_duplicates import find_near_duplicates
from visionops_assets.dataset.importing.image_source import SourceChanged
from visionops_assets.images.phash import hashed, phash


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
        return (Loaded(number, images[number]) for number in numbers)

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


@pytest.mark.slow
@pytest.mark.parametrize("first_new", [0, 40, 90])
@pytest.mark.parametrize("noise", [1, 12, 60])
@pytest.mark.parametrize("by_kind", [0, 0.6, 1])
def test_each_pair_whose_hashes_agree_is_proposed_once(noise, first_new, by_kind, monkeypatch):
    monkeypatch.setattr(candidate_pairs, "_OF_A_KIND", 4)
    monkeypatch.setattr(candidate_pairs, "_LEFT_AT_MOST", by_kind)
    monkeypatch.setattr(candidate_pairs, "_ROWS", 16)
    monkeypatch.setattr(candidate_pairs, "_COLUMNS", 24)
    monkeypatch.setattr(candidate_pairs, "_PAIRS_AT_ONCE", 32)
    generator = np.random.default_rng(noise)
    scenes = generator.normal(0, 42, (3, 64))
    seen = scenes[generator.integers(0, 3, 90)] + generator.normal(0, noise, (90, 64))
    sureties = np.clip(np.rint(seen), -127, 127).astype(np.int8)
    bits = sureties > 0
    pixels = np.where(np.arange(90) % 7, 32 * 32, 8 * 8)
    hashes = candidate_pairs.Hashes(
        np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64),
        sureties[first_new:],
        pixels,
        first_new,
    )

    def agree(newer: int, older: int) -> bool:
        tiny = 64 in (pixels[newer], pixels[older])
        one, other = (sureties[number].astype(float) for number in (newer, older))
        weight = np.minimum(np.abs(one), 3 * np.median(np.abs(one[1:]))) ** 2
        if older >= first_new:
            alike = one @ other >= (0.75 if tiny else 0.92) * np.sqrt((one @ one) * (other @ other))
        else:
            alike = True
        different = weight[bits[newer] != bits[older]].sum() / weight.sum()
        return bool(alike and different <= (0.12 if tiny else 0.08))

    found: list[tuple[int, int]] = []
    for some in hashes.proposed():
        if isinstance(some, candidate_pairs.Block):
            rows, columns = np.nonzero(some.maybe)
            found += zip(some.newer[rows].tolist(), some.older[columns].tolist(), strict=True)
        else:
            found += zip(some.newer.tolist(), some.older.tolist(), strict=True)
    wanted = [
        (newer, older) for newer in range(first_new, 90) for older in range(newer) if agree(newer, older)
    ]
    assert sorted(found) == wanted
    assert wanted or noise == 60 or first_new == 90


def test_an_image_that_cannot_be_read_any_more_is_told(picture):
    images = [picture(1, 48, 48)[..., :1]] * 40

    def load(numbers):
        for number in numbers:
            if number == 39:
                raise SourceChanged("39.png changed while it was imported")
            yield Loaded(number, images[number])

    with pytest.raises(SourceChanged, match=r"39\.png"):
        find_near_duplicates(
            np.array([phash(image) for image in images], np.uint64),
            np.repeat(np.arange(40, dtype=np.uint8)[:, None], 32, axis=1),
            [image.size for image in images],
            0,
            load,
            np.repeat(hashed(images[0])[1][None], 40, axis=0),
        )
