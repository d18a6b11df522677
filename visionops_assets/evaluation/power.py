"""How many labels a claim needs."""

import math
from statistics import NormalDist

POWER = 0.8


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
