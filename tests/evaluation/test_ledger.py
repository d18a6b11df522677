"""Who is the k-th challenger of a champion."""

import numpy as np
import pytest
from scipy.stats import binomtest

from visionops_assets.common.error_levels import Decision, level_left, next_turn, turn_of


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


def test_the_best_of_many_that_were_seen_on_too_few_groups_is_no_surer_when_one_more_is_there() -> None:
    """Models no better than the champion win a group by a coin's throw; the best on five groups is asked on six."""
    random, promoted, trials, groups = np.random.default_rng(0), 0, 400, 5
    seen = [Decision("champion", str(name)) for name in range(50)]
    for _ in range(trials):
        won = random.integers(0, 2, (len(seen), groups)).sum(axis=1)
        best = int(won.argmax())
        wins = won[best] + random.integers(0, 2)
        p = binomtest(int(wins), groups + 1, alternative="greater").pvalue
        claim = "another holdout, so another claim"
        promoted += p <= level_left(0.05, turn_of("again", "champion", seen, claim))
    assert promoted / trials <= 0.05
