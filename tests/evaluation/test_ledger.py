"""Who is the k-th challenger of a champion."""

import pytest

from visionops_assets.evaluation.ledger import Decision, HoldoutSize, level_left, next_turn, turn_of


def test_each_new_challenger_takes_the_next_place() -> None:
    earlier = [Decision("champion", name) for name in ("one", "two", "three")]
    assert turn_of("four", "champion", earlier) == 4
    assert turn_of("first", "champion", []) == 1


def test_a_challenger_judged_again_keeps_its_place() -> None:
    earlier = [Decision("champion", name) for name in ("one", "two", "one", "three", "two")]
    assert [turn_of(name, "champion", earlier) for name in ("one", "two", "three", "four")] == [1, 2, 3, 4]
    assert next_turn("champion", earlier) == 4


def test_a_promotion_starts_again() -> None:
    earlier = [Decision("old", "one"), Decision("old", "two")]
    assert turn_of("three", "two", earlier) == 1
    assert next_turn("two", earlier) == 1


def test_a_return_to_an_earlier_champion_remembers_what_was_spent_against_it() -> None:
    earlier = [Decision("old", "one"), Decision("old", "new"), Decision("new", "three")]
    assert turn_of("four", "old", earlier) == 3


def test_challengers_before_any_champion_are_counted_apart() -> None:
    assert turn_of("two", None, [Decision(None, "one")]) == 2
    assert turn_of("two", "one", [Decision(None, "one")]) == 1


def test_the_levels_of_all_challengers_sum_to_alpha() -> None:
    levels = [level_left(0.05, k) for k in range(1, 2001)]
    assert levels[0] == 0.025
    assert sum(levels) == pytest.approx(0.05 * (1 - 1 / 2001))
    assert sum(levels) < 0.05


def test_there_is_no_challenger_before_the_first() -> None:
    with pytest.raises(ValueError, match="number 1, not 0"):
        level_left(0.05, 0)


def test_another_claim_of_a_challenger_takes_a_place_of_its_own_and_the_same_one_keeps_its_own():
    earlier = [Decision("champion", "one", "a"), Decision("champion", "two", "a")]
    assert turn_of("one", "champion", earlier, "a") == 1
    assert turn_of("one", "champion", earlier, "b") == 3
    earlier.append(Decision("champion", "one", "b"))
    assert [turn_of("one", "champion", earlier, claim) for claim in ("a", "b", "c")] == [1, 3, 4]
    assert next_turn("champion", earlier) == 4


def test_a_claim_that_was_not_written_down_is_the_first_one_that_is_made_after_it():
    earlier = [Decision("champion", "one"), Decision("champion", "two")]
    assert turn_of("one", "champion", earlier, "a") == 1 and next_turn("champion", earlier) == 3
    earlier.append(Decision("champion", "one", "a"))
    assert next_turn("champion", earlier) == 3, "an upgrade spends nothing"
    assert [turn_of("one", "champion", earlier, claim) for claim in ("a", "b")] == [1, 3]


@pytest.mark.parametrize(
    ("size", "superior", "can_show"),
    [
        (HoldoutSize(30, 30, True), True, True),
        (HoldoutSize(29, 29, True), True, False),
        (HoldoutSize(30, 30, False), True, False),
        (HoldoutSize(300, 1, True), False, False),
        # All of five groups won is p = 1/32, above the first level, 1/40.
        (HoldoutSize(300, 5, True), True, False),
        (HoldoutSize(300, 6, True), True, True),
        (HoldoutSize(300, 5, True), False, True),
    ],
)
def test_a_holdout_that_can_show_nothing_is_known_before_anybody_answers(
    size: HoldoutSize, superior: bool, can_show: bool
) -> None:
    assert size.can_show(min_holdout=30, alpha=0.05, superior=superior) is can_show


def test_what_was_seen_on_too_small_a_holdout_counts_once_it_is_enough() -> None:
    seen = [Decision("champion", name, "a", 1, untested=True) for name in ("one", "two")]
    assert next_turn("champion", seen) == 3 and turn_of("two", "champion", seen, "a") == 2
    taken = [*seen, Decision("champion", "two", "a", 2)]
    assert turn_of("four", "champion", taken, "a") == 3, "no place is given twice"
