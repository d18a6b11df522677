"""Which level is left to a challenger: significance is spent by decisions, never by what-ifs.

The k-th distinct claim made against one champion, which is a challenger and the test that it has to survive, is tested
at α/(k(k+1)). These levels sum to α over
all k, so by the union bound a champion is replaced by a challenger that is no better with a chance of at most
α, however many are tried (alpha spending; Foster & Stine 2008, "α-investing", give the family it belongs to).
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """A challenger that was judged in a decision, by the SHA-256 of both models' weights.

    `claim` is what was claimed of it (`GateRules.claim`); an earlier release did not write it down.
    """

    champion_sha256: str | None
    challenger_sha256: str
    claim: str | None = None


def turn_of(
    challenger_sha256: str, champion_sha256: str | None, earlier: Iterable[Decision], claim: str | None = None
) -> int:
    """The k of a challenger: its place among the distinct claims made against this champion, from 1.

    `earlier` are all decisions of the project, oldest first. The same claim of the same challenger keeps its place,
    however often it is asked; another claim of it takes one of its own. A promotion starts again at 1, because the
    champion is another.
    """
    places = _places(champion_sha256, earlier)
    for number, (challenger, claimed) in enumerate(places, start=1):
        if challenger == challenger_sha256 and claim in (claimed, None):
            return number
    if (challenger_sha256, None) in places:
        return places.index((challenger_sha256, None)) + 1
    return len(places) + 1


def next_turn(champion_sha256: str | None, earlier: Iterable[Decision]) -> int:
    """The k of the next challenger that this champion has not met."""
    return 1 + len(_places(champion_sha256, earlier))


def _places(champion_sha256: str | None, earlier: Iterable[Decision]) -> list[tuple[str, str | None]]:
    """The claims against a champion, in order. One that was not written down is the first that is made after it."""
    places: list[tuple[str, str | None]] = []
    for decision in earlier:
        if decision.champion_sha256 != champion_sha256:
            continue
        place = (decision.challenger_sha256, decision.claim)
        unwritten = (decision.challenger_sha256, None)
        if place in places or (decision.claim is None and any(each == place[0] for each, _ in places)):
            continue
        if unwritten in places:
            places[places.index(unwritten)] = place
        else:
            places.append(place)
    return places


def level_left(alpha: float, k: int) -> float:
    """α_k = α/(k(k+1)).

    Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"the first challenger is number 1, not {k}")
    return alpha / (k * (k + 1))
