"""Which level is left to a challenger: significance is spent by decisions, never by what-ifs.

The k-th distinct challenger judged against one champion is tested at α/(k(k+1)). These levels sum to α over
all k, so by the union bound a champion is replaced by a challenger that is no better with a chance of at most
α, however many are tried (alpha spending; Foster & Stine 2008, "α-investing", give the family it belongs to).
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """A challenger that was judged in a decision, by the SHA-256 of both models' weights."""

    champion_sha256: str | None
    challenger_sha256: str


def turn_of(challenger_sha256: str, champion_sha256: str | None, earlier: Iterable[Decision]) -> int:
    """The k of a challenger: its place among the distinct challengers of this champion, from 1.

    `earlier` are all decisions of the project, oldest first. A challenger that was judged before keeps its
    place; a promotion starts again at 1, because the champion is another.
    """
    seen: list[str] = []
    for decision in earlier:
        if decision.champion_sha256 == champion_sha256 and decision.challenger_sha256 not in seen:
            seen.append(decision.challenger_sha256)
    if challenger_sha256 in seen:
        return seen.index(challenger_sha256) + 1
    return len(seen) + 1


def next_turn(champion_sha256: str | None, earlier: Iterable[Decision]) -> int:
    """The k of the next challenger that this champion has not met."""
    return 1 + len({d.challenger_sha256 for d in earlier if d.champion_sha256 == champion_sha256})


def level_left(alpha: float, k: int) -> float:
    """α_k = α/(k(k+1)).

    Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"the first challenger is number 1, not {k}")
    return alpha / (k * (k + 1))
