"""Has a day of production departed from a model's reference? Tables in, a table out.

Distances have a stated effect size and do not shrink with more rows, as p-values do. Chance is measured by drawing
both sides again from the reference, at their own sizes: with the reference held fixed, a reference smaller than the
day alarms by its own sampling error (docs/drift.md has the numbers).
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from visionops_assets.config.production_rules import DriftRules
from visionops_assets.monitoring.signals import (
    STATISTICS,
    EmbeddingReference,
    categorical_signal,
    embeddings,
    numeric_signals,
    watched_columns,
)

Kind = Literal["data", "prediction", "embedding"]
EMBEDDING = "embedding"
# Evidently's names of the methods it has too.
WASSERSTEIN, JENSEN_SHANNON, MMD = "wasserstein", "jensenshannon", "mmd"
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
# Evidently's floor of the norm, so that a constant column does not divide by zero.
_SMALLEST_NORM = 0.001
# A reference of more distinct values is put into so many equal shares before it is drawn from.
_MOST_ATOMS = 64
# Four of them lie beyond the quantile of 99.9%.
_DRAWS = 4_000
_DRAWS_AT_ONCE = 1_000


@dataclass(frozen=True)
class ColumnDrift:
    """One watched column of one day. `distance` is None where it cannot be told, and `note` says why.

    `threshold` is the larger of `effect` and `by_chance`; `missing` the share of rows without a finite value.
    """

    column: str
    kind: Kind
    method: str
    distance: float | None
    effect: float
    by_chance: float | None
    missing: float
    note: str = ""

    @property
    def threshold(self) -> float:
        return max(self.effect, self.by_chance or 0.0)

    @property
    def drifted(self) -> bool:
        return self.distance is not None and self.distance > self.threshold


@dataclass(frozen=True)
class DayDrift:
    """One day of one model on one device group, column by column."""

    rows: int
    columns: tuple[ColumnDrift, ...]

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        """The columns that drifted, the farthest beyond its threshold first."""
        found = [column for column in self.columns if column.drifted]
        return tuple(sorted(found, key=lambda column: -(column.distance or 0.0) / column.threshold))

    @property
    def compared(self) -> bool:
        """Whether any column could be."""
        return any(column.distance is not None for column in self.columns)

    @property
    def share(self) -> float:
        """Drifted columns over judged columns; 0 where none could be judged."""
        compared = sum(column.distance is not None for column in self.columns)
        return len(self.drifted) / compared if compared else 0.0

    def table(self) -> pd.DataFrame:
        """One row a column, `ColumnDrift`'s fields with `threshold` and `drifted`."""
        records = [
            {**asdict(each), "threshold": each.threshold, "drifted": each.drifted} for each in self.columns
        ]
        return pd.DataFrame(records)


class DriftReference:
    """What days of one model are compared with: its answers on its holdout, as rows of the log.

    What chance gives is drawn once for each number of rows (to two digits) and process, so a month costs little more
    than a day.
    """

    # By reference, quantile, column and number of rows.
    _drawn: ClassVar[dict[tuple[bytes, float, str, int], float]] = {}

    def __init__(self, rows: pd.DataFrame, task: str, rules: DriftRules) -> None:
        self.rows, self.task, self.rules = rows, task, rules
        self._signals = watched_columns(rows, task)
        vectors = embeddings(rows)
        varied = len(vectors) >= 2 and bool(np.ptp(vectors, axis=0).any())
        self._embedding = EmbeddingReference(vectors) if varied else None
        # One hash a row: the order of rows is part of what is drawn from.
        hashes = pd.util.hash_pandas_object(self._signals, index=False).to_numpy()
        self._identity = hashlib.sha256(hashes.tobytes() + vectors.tobytes()).digest()

    def compare(self, day: pd.DataFrame) -> DayDrift:
        """Compare rows of the log with the reference; a column with fewer than `min_rows` values is not judged."""
        found = watched_columns(day, self.task)
        columns = [self._number(name, found[name]) for name in numeric_signals(self.task)]
        columns += [self._classes(found[categorical_signal(self.task)]), self._vectors(day)]
        return DayDrift(len(day), tuple(columns))

    def _number(self, name: str, current: pd.Series) -> ColumnDrift:
        reference, present = (
            column.dropna().to_numpy(np.float64) for column in (self._signals[name], current)
        )
        return self._held_to_threshold(
            name,
            "data" if name in STATISTICS else "prediction",
            WASSERSTEIN,
            (len(reference), len(present), len(current)),
            self.rules.effect_sizes.wasserstein,
            lambda: normed_wasserstein(reference, present),
            lambda rows: wasserstein_by_chance(reference, rows, self.rules.quantile),
        )

    def _classes(self, current: pd.Series) -> ColumnDrift:
        reference, present = self._signals[str(current.name)].dropna(), current.dropna()
        counts = pd.DataFrame({"one": reference.value_counts(), "other": present.value_counts()}).fillna(0)
        one, other = (counts[side].to_numpy(np.int64) for side in ("one", "other"))
        return self._held_to_threshold(
            str(current.name),
            "prediction",
            JENSEN_SHANNON,
            (len(reference), len(present), len(current)),
            self.rules.effect_sizes.jensen_shannon,
            lambda: jensen_shannon(one, other),
            lambda rows: jensen_shannon_by_chance(one[one > 0], rows, self.rules.quantile),
        )

    def _vectors(self, day: pd.DataFrame) -> ColumnDrift:
        known, current = self._embedding, embeddings(day)
        fits = known is not None and current.shape[1] == known.vectors.shape[1]
        return self._held_to_threshold(
            EMBEDDING,
            "embedding",
            MMD,
            (len(known.vectors) if known else 0, len(current) if fits else 0, len(day)),
            self.rules.effect_sizes.embedding,
            lambda: known.distance(current) if known else 0.0,
            lambda rows: known.by_chance(rows, self.rules.quantile) if known else 0.0,
        )

    def _held_to_threshold(
        self,
        name: str,
        kind: Kind,
        method: str,
        sizes: tuple[int, int, int],
        effect: float,
        distance: Callable[[], float],
        by_chance: Callable[[int], float],
    ) -> ColumnDrift:
        """`sizes`: values of the reference, values of the day, rows of the day."""
        known, present, rows = sizes
        missing = 1 - present / rows if rows else 0.0
        least = self.rules.min_rows
        if known < 2:
            return ColumnDrift(name, kind, method, None, effect, None, missing, "the reference has no values")
        if present < least:
            note = f"{present} values, at least {least} are needed"
            return ColumnDrift(name, kind, method, None, effect, None, missing, note)
        # Rounded down: fewer rows vary more, so the threshold errs to the quiet side.
        digits = 10 ** max(len(str(present)) - 2, 0)
        drawn = present // digits * digits
        key = (self._identity, self.rules.quantile, name, drawn)
        if key not in self._drawn:
            self._drawn[key] = by_chance(drawn)
        return ColumnDrift(name, kind, method, distance(), effect, self._drawn[key], missing)


def normed_wasserstein(reference: Floats, current: Floats) -> float:
    """First Wasserstein distance in standard deviations of the reference; both finite and not empty."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(reference, current)) / _norm(reference)


def jensen_shannon(reference: Counts, current: Counts) -> float:
    """Jensen-Shannon distance (natural logarithm) of two counts over the same categories [K], neither all zero."""
    return float(_jensen_shannon(reference / reference.sum(), current / current.sum()))


def wasserstein_by_chance(reference: Floats, rows: int, quantile: float, seed: int = 0) -> float:
    """The quantile of `normed_wasserstein` between samples of one population, of the reference's size and of `rows`."""
    atoms, sizes = np.unique(reference, return_counts=True)
    if len(atoms) > _MOST_ATOMS:
        parts = np.array_split(np.sort(reference), _MOST_ATOMS)
        atoms, sizes = np.array([part.mean() for part in parts]), np.array([len(part) for part in parts])
    gaps, norm = np.diff(atoms), _norm(reference)

    def distance(one: Floats, other: Floats) -> Floats:
        return np.abs(np.cumsum(one - other, axis=1)[:, :-1]) @ gaps / norm

    return _by_chance(sizes, rows, quantile, distance, seed)


def jensen_shannon_by_chance(reference: Counts, rows: int, quantile: float, seed: int = 0) -> float:
    """The quantile of `jensen_shannon` between samples of one population, of the reference's size and of `rows`."""
    return _by_chance(reference, rows, quantile, _jensen_shannon, seed)


def _by_chance(
    sizes: Counts, rows: int, quantile: float, distance: Callable[[Floats, Floats], Floats], seed: int
) -> float:
    """`sizes` [K] counts the reference's rows at each atom; `distance` takes shares [draws, K] of both sides."""
    random, total = np.random.default_rng(seed), int(sizes.sum())
    shares = sizes / total
    found = [
        distance(
            random.multinomial(total, shares, _DRAWS_AT_ONCE) / total,
            random.multinomial(rows, shares, _DRAWS_AT_ONCE) / rows,
        )
        for _ in range(_DRAWS // _DRAWS_AT_ONCE)
    ]
    return float(np.quantile(np.concatenate(found), quantile))


def _norm(reference: Floats) -> float:
    return max(float(np.std(reference)), _SMALLEST_NORM)


def _jensen_shannon(one: Floats, other: Floats) -> Floats:
    """Of shares [..., K]: the root of the mean divergence from their mean (Endres & Schindelin 2003)."""
    from scipy.special import rel_entr

    middle = (one + other) / 2
    divergence = (rel_entr(one, middle) + rel_entr(other, middle)).sum(axis=-1) / 2
    found: Floats = np.sqrt(np.maximum(divergence, 0.0))
    return found
