import hashlib
from collections import Counter, defaultdict
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataset.named_samples import Placement, Sample, assign_splits

SHARES = {"train": 0.7, "val": 0.1, "holdout": 0.2}


def sample(
    key: str, *labels: str, group: str | None = None, split: str | None = None, excluded: bool = False
) -> Sample:
    return Sample(key, hashlib.sha256(key.encode()).hexdigest(), labels or ("a",), group, split, excluded)


def as_existing(new: list[Sample], placements: dict[str, Placement]) -> list[Sample]:
    return [
        Sample(one.key, one.sha256, one.labels, placed.group, placed.split, placed.excluded)
        for one, placed in ((one, placements[one.key]) for one in new)
    ]


def counts(placements: dict[str, Placement]) -> Counter:
    return Counter(placed.split for placed in placements.values())


def test_single_samples_come_within_one_of_their_shares_in_every_class():
    new = [sample(f"{label}{i}", label) for label, n in (("a", 300), ("b", 50), ("c", 10)) for i in range(n)]
    placements = assign_splits(new, [], SHARES, "")
    assert counts(placements) == {"train": 252, "val": 36, "holdout": 72}
    for label, n in (("a", 300), ("b", 50), ("c", 10)):
        own = Counter(placements[one.key].split for one in new if one.labels == (label,))
        assert all(abs(own[side] - share * n) <= 1 for side, share in SHARES.items())


def test_many_rare_classes_still_give_every_side_its_share():
    new = [sample(f"{k}-{i}", f"class {k}") for k in range(100) for i in range(3)]
    split = counts(assign_splits(new, [], SHARES, "s"))
    assert abs(split["val"] - 30) <= 3 and abs(split["holdout"] - 60) <= 3


@pytest.mark.parametrize("salt", range(40))
def test_five_cameras_of_which_one_has_half_the_images_give_every_side_its_share(salt):
    new = [
        sample(f"{camera}-{i}", group=camera)
        for camera in "ABCDE"
        for i in range(96 if camera == "A" else 24)
    ]
    placements = assign_splits(new, [], SHARES, str(salt))
    split = counts(placements)
    # Whole cameras allow 144 + 24 + 24 or 120 + 24 + 48.
    assert split["train"] in (120, 144) and split["val"] == 24
    assert split == counts(assign_splits(new, [], SHARES, "another salt"))


@pytest.mark.parametrize(
    "sizes", [(5, 4, 3, 2, 1), (30, 1, 1, 1), (8, 8, 8), (2, 2, 2, 2, 9, 1), (1,), (3, 1)]
)
def test_few_groups_are_placed_as_well_as_whole_groups_allow(sizes):
    def cost(sides: tuple[str, ...]) -> float:
        total = sum(sizes)
        held = {side: sum(n for n, own in zip(sizes, sides, strict=True) if own == side) for side in SHARES}
        return sum((share * total - held[side]) ** 2 / (share * total) for side, share in SHARES.items())

    best = min(map(cost, product(SHARES, repeat=len(sizes))))
    new = [sample(f"{g}-{i}", group=f"group {g}") for g, n in enumerate(sizes) for i in range(n)]
    for salt in "xyz":
        placements = assign_splits(new, [], SHARES, salt)
        own = tuple(placements[f"{g}-0"].split for g in range(len(sizes)))
        assert cost(own) == pytest.approx(best)


def test_a_split_that_came_with_the_data_wins():
    new = [sample("a", split="holdout"), sample("b", split="train", group="g"), sample("c", group="g")]
    placements = assign_splits(new, [], {"train": 0.01, "val": 0.01, "holdout": 0.98}, "")
    assert [placements[key].split for key in "abc"] == ["holdout", "train", "train"]


def test_a_group_keeps_its_side_on_main_whatever_the_shares_say():
    existing = [sample("old", group="camera", split="val")]
    new = [sample(f"n{i}", group="camera") for i in range(50)]
    assert counts(assign_splits(new, existing, SHARES, "")) == {"val": 50}


def test_a_copy_of_an_image_joins_it_even_without_a_group():
    old = sample("old", split="holdout")
    copy = Sample("new", old.sha256, ("a",))
    assert assign_splits([copy], [old], SHARES, "")["new"] == Placement("holdout", old.sha256)


def test_a_near_duplicate_joins_the_group_of_the_oldest_image_it_duplicates():
    existing = [sample("old", group="camera", split="holdout")]
    new = [sample("first"), sample("second"), sample("third")]
    duplicates = {"first": ["old"], "second": ["first"], "third": ["second", "first"]}
    placements = assign_splits(new, existing, SHARES, "", duplicates)
    assert {placed.group for placed in placements.values()} == {"camera"}
    assert {placed.split for placed in placements.values()} == {"holdout"}
    assert [placements[key].duplicate_of for key in ("first", "second", "third")] == ["old", "first", "first"]
    assert not any(placed.excluded for placed in placements.values())


def test_near_duplicates_within_a_batch_stay_together():
    new = [sample(f"n{i}") for i in range(200)]
    duplicates = {f"n{i}": [f"n{i - 1}"] for i in range(1, 200, 2)}
    placements = assign_splits(new, [], SHARES, "", duplicates)
    for i in range(0, 200, 2):
        assert placements[f"n{i}"].split == placements[f"n{i + 1}"].split
        assert placements[f"n{i + 1}"].group == new[i].sha256


def test_one_that_duplicates_both_sides_is_excluded():
    existing = [sample("t", split="train"), sample("h", split="holdout")]
    placements = assign_splits([sample("n")], existing, SHARES, "", {"n": ["h", "t"]})
    assert placements["n"] == Placement("holdout", existing[1].sha256, True, "h")


def test_one_whose_given_split_is_not_that_of_its_original_is_excluded():
    existing = [sample("h", split="holdout")]
    placements = assign_splits([sample("n", split="train")], existing, SHARES, "", {"n": ["h"]})
    assert placements["n"].split == "train" and placements["n"].excluded


def test_what_is_excluded_excludes_nothing_else():
    existing = [sample("x", split="holdout", excluded=True)]
    new = [sample("n", split="train"), sample("m", split="train")]
    placements = assign_splits(new, existing, SHARES, "", {"n": ["x"], "m": ["n"]})
    assert not placements["n"].excluded and not placements["m"].excluded


def test_detection_counts_every_class_an_image_shows():
    new = [sample(f"{i}", *(("a", "b") if i % 2 else ("a",))) for i in range(200)]
    placements = assign_splits(new, [], SHARES, "")
    both = Counter(placements[one.key].split for one in new if "b" in one.labels)
    assert both == {"train": 70, "val": 10, "holdout": 20}


batches = st.lists(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.sampled_from(["g1", "g2", "g3", "g4"]))),
        max_size=12,
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.slow
@given(batches, st.text(max_size=3), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_splits_never_move_and_groups_never_straddle_as_data_grows(grown, salt, random):
    existing: list[Sample] = []
    sides: dict[str, str] = {}
    for number, batch in enumerate(grown):
        new = [sample(f"{number}/{i}", label, group=group) for i, (label, group) in enumerate(batch)]
        keys = [one.key for one in [*existing, *new]]
        duplicates = {
            one.key: random.sample(keys, random.randint(0, min(2, len(keys))))
            for one in new
            if random.random() < 0.3
        }
        placements = assign_splits(new, existing, SHARES, salt, duplicates)
        assert set(placements) == {one.key for one in new}
        shuffled = random.sample(existing, len(existing))
        assert assign_splits(new, shuffled, SHARES, salt, duplicates) == placements
        existing += as_existing(new, placements)
        for one in existing:
            assert one.split is not None
            assert sides.setdefault(one.key, one.split) == one.split
    by_group = defaultdict(set)
    for one in existing:
        by_group[one.group].add(one.split)
    assert all(len(own) == 1 for own in by_group.values())


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.text(max_size=3))
@settings(max_examples=60, deadline=None)
def test_shares_are_met_within_the_largest_group(sizes, salt):
    new = [sample(f"{g}/{i}", group=str(g)) for g, n in enumerate(sizes) for i in range(n)]
    split = counts(assign_splits(new, [], SHARES, salt))
    for side, share in SHARES.items():
        assert abs(split[side] - share * len(new)) <= max(sizes)


def test_the_order_of_groups_depends_on_the_salt():
    new = [sample(f"{i}") for i in range(100)]
    one, other = (assign_splits(new, [], SHARES, salt) for salt in ("a", "b"))
    assert one != other and counts(one) == counts(other)


def test_nothing_new_is_nothing_to_place():
    assert assign_splits([], [sample("old", split="train")], SHARES, "") == {}
