import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visionops_assets.images.phash import MAX_DISTANCE, PhashIndex, correlation, hashed, phash, phash_values


def distance(one: np.ndarray, other: np.ndarray) -> int:
    return (phash(one) ^ phash(other)).bit_count()


def test_the_phash_of_known_images_never_changes(picture):
    assert f"{phash(picture(1)):016x}" == "8ce3d8b83acbc534"
    assert f"{phash(np.full((9, 9, 1), 7, np.uint8)):016x}" == "8000000000000000"


def test_the_phash_is_that_of_a_floating_point_dct(picture):
    from scipy.fft import dctn

    from edge.images.decode import resize
    from visionops_assets.images.phash import grey

    for seed in range(20):
        small = resize(grey(picture(seed))[..., None], 32, 32)[..., 0].astype(float)
        low = dctn(small)[:8, :8]
        expected = int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")
        assert (expected ^ phash(picture(seed))).bit_count() <= 2


def test_sureties_have_the_signs_of_their_bits(picture):
    for seed in range(20):
        value, sureties = hashed(picture(seed))
        bits = np.array([int(bit) for bit in f"{value:064b}"])
        assert (bits[sureties > 0] == 1).all()
        assert (bits[sureties < 0] == 0).all()
        assert np.abs(sureties).max() > 42


def test_a_plain_image_is_sure_of_nothing():
    assert not hashed(np.full((9, 9, 1), 7, np.uint8))[1].any()


def test_plain_images_correlate_when_they_are_equally_grey():
    plain = [np.full((8, 8, 1), value, np.uint8) for value in (100, 101, 200)]
    assert correlation(plain[0], plain[1]) == 1.0
    assert correlation(plain[0], plain[2]) == 0.0
    assert correlation(plain[0], np.arange(64, dtype=np.uint8).reshape(8, 8, 1)) == 0.0


def test_the_correlation_is_taken_at_the_smaller_size(picture):
    large = picture(3, 200, 300)
    small = np.asarray(Image.fromarray(large).resize((30, 20), Image.Resampling.BILINEAR))
    assert correlation(large, small) == correlation(small, large) > 0.999


def test_phashes_survive_their_text():
    values = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
    assert phash_values([f"{value:016x}" for value in values]).tolist() == values.tolist()
    assert len(phash_values([])) == 0


def brute_force(query: np.ndarray, index: np.ndarray, most: int) -> set[tuple[int, int, int]]:
    distances = np.bitwise_count(query[:, None] ^ index[None, :])
    return {(i, j, int(distances[i, j])) for i, j in np.argwhere(distances <= most).tolist()}


def found(index: PhashIndex, query: np.ndarray) -> list[tuple[int, int, int]]:
    return [(int(i), int(j), int(d)) for part in index.near(query) for i, j, d in zip(*part, strict=True)]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_index_finds_exactly_the_pairs_within_the_distance(data):
    centres = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5))
    flips = st.lists(st.integers(0, 63), max_size=12)
    near = st.builds(
        lambda centre, bits: centre ^ sum(1 << bit for bit in set(bits)),
        st.sampled_from(centres),
        flips,
    )
    index, query = (np.array(data.draw(st.lists(near, max_size=25)), np.uint64) for _ in range(2))
    pairs = found(PhashIndex(index), query)
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == brute_force(query, index, MAX_DISTANCE)


def test_many_equal_phashes_come_in_portions(monkeypatch):
    from visionops_assets.images import phash as duplicates

    monkeypatch.setattr(duplicates, "_PAIRS_AT_ONCE", 5000)
    values = np.full(300, 12345, np.uint64)
    parts = list(PhashIndex(values).near(values))
    assert len(parts) > 10
    assert sum(len(part.query) for part in parts) == 300 * 300
    assert {int(q) for part in parts for q in part.query} == set(range(300))
