"""The two chances of error of a claim: which level is left to a challenger, and how many labels give enough power.

Significance is spent by decisions, never by what-ifs. The k-th distinct claim made against one champion, which is a
challenger and the test that it has to survive, is tested at α/(k(k+1)). These levels sum to α over all k, so by the
union bound a champion is replaced by a challenger that is no better with a chance of at most α, however many are
tried (alpha spending; Foster & Stine 2008, "α-investing", give the family it belongs to).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

POWER = 0.8


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


def rows_needed(spread: float, improvement: float, level: float) -> int | None:
    """Holdout rows that show an improvement of this size with 80% power, testing at `level`.

    n = (z₁₋level + z₀.₈)² · d / δ², with d the mean square of the difference per row: for accuracies of
    ungrouped samples, the discordant share (Connor 1987, "Sample size for testing differences in proportions
    for the paired-sample design"). None where d is 0: models that never differ cannot be told apart.
    """
    if spread <= 0:
        return None
    quantiles = NormalDist().inv_cdf(1 - level) + NormalDist().inv_cdf(POWER)
    return math.ceil(quantiles**2 * spread / improvement**2)


def rows_for_no_loss(margin: float, level: float) -> int:
    """Rows of which a model that loses a share `margin` would show at least one loss, but for chance `level`.

    ln(level)/ln(1−margin); at 5% the "rule of three", 3/margin. Fewer rows cannot show that nothing was lost.
    """
    if margin >= 1:
        return 1
    return math.ceil(math.log(level) / math.log1p(-margin))


def labels_to_collect(needed: int | None, rows_now: int, holdout_share: float) -> int | None:
    """Labels to collect so that the holdout, which gets `holdout_share` of them, grows to `needed` rows."""
    if needed is None or holdout_share <= 0:
        return None
    return math.ceil(max(0, needed - rows_now) / holdout_share)
