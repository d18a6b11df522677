"""Which level is left to a challenger: significance is spent by decisions, never by what-ifs.

The k-th distinct claim made against one champion, which is a challenger and the test that it has to survive, is tested
at α/(k(k+1)). These levels sum to α over
all k, so by the union bound a champion is replaced by a challenger that is no better with a chance of at most
α, however many are tried (alpha spending; Foster & Stine 2008, "α-investing", give the family it belongs to).

A holdout on which nobody could pass tests nothing, and spends nothing. It is written down all the same: where the rules
are edited so that it would have been enough, what was seen on it may have chosen who is asked now, and it counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class HoldoutSize:
    """How much a holdout can show: its images, its groups, and whether it has two of the project's classes."""

    images: int
    groups: int
    several_classes: bool

    def can_show(self, *, min_holdout: int, alpha: float, superior: bool) -> bool:
        """Whether any answers at all could pass on it under these rules, at the first and largest level.

        Of G groups the sign-flip test of superiority never gives a p below 2^−G.
        """
        if self.images < min_holdout or self.groups < 2 or not self.several_classes:
            return False
        return not superior or self.groups == self.images or 2.0**-self.groups <= level_left(alpha, 1)


@dataclass(frozen=True)
class Decision:
    """A challenger that was judged in a decision, by the SHA-256 of both models' weights.

    `claim` is what was claimed of it (`GateRules.claim`); an earlier release did not write it down. `k` is the place
    that it took. `untested` is set where its holdout could not show anything under the rules of then, and could under
    those of now.
    """

    champion_sha256: str | None
    challenger_sha256: str
    claim: str | None = None
    k: int = 0
    untested: bool = False


def turn_of(
    challenger_sha256: str,
    champion_sha256: str | None,
    earlier: Iterable[Decision],
    claim: str | None = None,
    unreadable: int = 0,
) -> int:
    """The k of a challenger: its place among the distinct claims made against this champion, from 1.

    `earlier` are all decisions of the project that count, oldest first, and `unreadable` how many more there were,
    which may have been against this champion. The same claim of the same challenger keeps its place, however often it
    is asked; another claim of it takes one of its own. A promotion starts again at 1, because the champion is another.
    """
    earlier = list(earlier)
    places = _places(champion_sha256, earlier)
    # What was seen of the claim itself is no other one.
    own = (challenger_sha256, claim)
    others = [each for each in earlier if not (each.untested and (each.challenger_sha256, each.claim) == own)]
    for number, (challenger, claimed) in enumerate(places, start=1):
        if challenger == challenger_sha256 and claim in (claimed, None):
            return number
    if (challenger_sha256, None) in places:
        return places.index((challenger_sha256, None)) + 1
    return next_turn(champion_sha256, others, unreadable)


def next_turn(champion_sha256: str | None, earlier: Iterable[Decision], unreadable: int = 0) -> int:
    """The k of the next challenger that this champion has not met: behind all that were taken or count by now."""
    earlier = list(earlier)
    places = _places(champion_sha256, earlier)
    against = [each for each in earlier if each.champion_sha256 == champion_sha256]
    untested = {(each.challenger_sha256, each.claim) for each in against if each.untested}
    taken = max((each.k for each in against if not each.untested), default=0)
    return 1 + max(taken, len(places) + len(untested - set(places)) + unreadable)


def _places(champion_sha256: str | None, earlier: Iterable[Decision]) -> list[tuple[str, str | None]]:
    """The claims against a champion, in order. One that was not written down is the first that is made after it."""
    places: list[tuple[str, str | None]] = []
    for decision in earlier:
        if decision.champion_sha256 != champion_sha256 or decision.untested:
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
