"""What a verdict needs, in numbers, from what is known of each device: outcomes, silence in matched pairs, latency.

A device counts once, by its first outcome. What may be its own trouble (`OWN_TROUBLE`) is none of the candidate's: it
is unavailable, and counts as a failure only beyond `MOST_TROUBLE` times what the base had of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from visionops_assets.rollout import latency
from visionops_assets.rollout.e_values import log_e_pairs, log_e_share

Outcome = Literal["", "ok", "failed", "unavailable"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
NONE, OK, FAILED, UNAVAILABLE = range(len(OUTCOMES))
# Why a device leaves a candidate that may be nothing of the candidate's.
OWN_TROUBLE = frozenset({"no_space", "wrong_runtime", "bad_digest", "clock", "power"})
# Reports that a device misses before it is silent.
MISSED_REPORTS = 3
MOST_TROUBLE = 3.0

Bools = NDArray[np.bool_]


def outcome_of(event: str, why: str = "") -> Outcome:
    """What an event of a device says of the candidate; nothing where it says nothing."""
    if event == "committed":
        return "ok"
    if event not in ("refused", "rolled_back"):
        return ""
    return "unavailable" if why in OWN_TROUBLE else "failed"


@dataclass(frozen=True)
class Devices:
    """The devices of a group as columns, one entry a device. Times are seconds since 1970.

    `exposed_at` is when a device told that it tries the candidate, NaN where it did not; `last_report` when it was
    heard of last, NaN where never; `heard_before`: it had reported within an interval before it was exposed, or, where
    it was not, before its wave began. `outcome` indexes `OUTCOMES`.
    """

    bucket: NDArray[np.int64]
    in_wave: Bools
    exposed_at: NDArray[np.float64]
    last_report: NDArray[np.float64]
    heard_before: Bools
    outcome: NDArray[np.int8]

    def __post_init__(self) -> None:
        lengths = {len(each) for each in vars(self).values()}
        if len(lengths) != 1:
            raise ValueError(f"columns of devices have one length, not {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.bucket)


@dataclass(frozen=True)
class Pairs:
    """Pairs that were judged, each once: indices of the device with the candidate and of its match, and who fell
    silent.

    A pair that was judged stays: what a device says later changes nothing.
    """

    treated: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    control: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    lost: Bools = field(default_factory=lambda: np.empty(0, np.bool_))
    won: Bools = field(default_factory=lambda: np.empty(0, np.bool_))


def judged(devices: Devices, before: Pairs, now: float, report_every: float) -> Pairs:
    """The pairs so far, with those that can be judged at `now`: each exposed device that had been heard of, once it had
    time for `MISSED_REPORTS`, beside the next by bucket of the control arm that is in no pair yet and had been heard of
    within an interval before that exposure, or since.

    Both are looked at over the same time: an outage of a whole site hits both, and says nothing.
    """
    due = devices.exposed_at + MISSED_REPORTS * report_every <= now
    treated = _free(due & devices.heard_before, before.treated, devices)
    earliest = devices.exposed_at[treated].min(initial=np.inf) - report_every
    arm = ~devices.in_wave & np.isnan(devices.exposed_at) & (devices.last_report >= earliest)
    control = _free(arm, before.control, devices)
    count = min(len(treated), len(control))
    treated, control = treated[:count], control[:count]
    heard = devices.last_report[control] >= devices.exposed_at[treated] - report_every
    treated, control = treated[heard], control[heard]
    since = devices.exposed_at[treated]
    silent = ~(devices.last_report[treated] > since)
    other = ~(devices.last_report[control] > since)
    return Pairs(
        np.concatenate([before.treated, treated]),
        np.concatenate([before.control, control]),
        np.concatenate([before.lost, silent & ~other]),
        np.concatenate([before.won, other & ~silent]),
    )


def _free(wanted: Bools, used: NDArray[np.int64], devices: Devices) -> NDArray[np.int64]:
    """Indices of the devices that are wanted and in no pair yet, in the order of their buckets."""
    free = wanted.copy()
    free[used] = False
    found = np.flatnonzero(free)
    return found[np.argsort(devices.bucket[found], kind="stable")]


@dataclass(frozen=True)
class Evidence:
    """Of one look. Counts are of devices, times in ms; `log_safety` and `log_silence` are logarithms of e-values.

    `cohort` had the candidate assigned and were heard of; `reported` of these had an outcome. `excess` of the
    unavailable ones count as failures. `late` are silent, whoever their match is.
    """

    devices: int
    in_wave: int
    cohort: int
    reported: int
    ok: int
    failed: int
    unavailable: int
    excess: int
    late: int
    pairs_lost: int
    pairs_won: int
    log_safety: float
    log_silence: float
    candidate_ms: float | None = None
    base_ms: float | None = None
    # Of the labelled frames on which the two models differ, where a rollout asks for them.
    log_worse: float | None = None
    log_no_worse: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As a verdict keeps it."""
        return dict(vars(self))


@dataclass(frozen=True)
class Times:
    """Histograms of latency pooled over devices, by the buckets of `edge.blocks`: of the candidate, and of the base."""

    candidate: NDArray[np.int64]
    base: NDArray[np.int64]


def evidence_of(
    devices: Devices,
    pairs: Pairs,
    *,
    now: float,
    report_every: float,
    allowed_failures: float,
    base_trouble: float | None = None,
    times: Times | None = None,
) -> Evidence:
    """What is known at `now`. `allowed_failures` is the share of devices that may fail; `base_trouble` the share that
    was unavailable when the base was rolled out, that of failures where nobody knows."""
    counts = np.bincount(devices.outcome[devices.in_wave], minlength=len(OUTCOMES))
    ok, failed, unavailable = (int(counts[each]) for each in (OK, FAILED, UNAVAILABLE))
    decided = ok + failed + unavailable
    usual = allowed_failures if base_trouble is None else base_trouble
    excess = max(0, unavailable - int(np.ceil(MOST_TROUBLE * usual * decided)))
    units = ok + failed + excess
    # Who told that it tries the candidate owes an outcome, however seldom reports are collected.
    tries = ~np.isnan(devices.exposed_at)
    cohort = devices.in_wave & (devices.heard_before | tries | (devices.outcome != NONE))
    due = devices.exposed_at + MISSED_REPORTS * report_every <= now
    late = due & devices.in_wave & ~(devices.last_report > devices.exposed_at)
    lost, won = int(pairs.lost.sum()), int(pairs.won.sum())
    return Evidence(
        devices=len(devices),
        in_wave=int(devices.in_wave.sum()),
        cohort=int(cohort.sum()),
        reported=int((cohort & (devices.outcome != NONE) & (devices.outcome != UNAVAILABLE)).sum()),
        ok=ok,
        failed=failed,
        unavailable=unavailable,
        excess=excess,
        late=int(late.sum()),
        pairs_lost=lost,
        pairs_won=won,
        log_safety=float(log_e_share(failed + excess, units, allowed_failures)),
        log_silence=float(log_e_pairs(lost, lost + won)),
        candidate_ms=latency.quantile_ms(times.candidate) if times is not None else None,
        base_ms=latency.quantile_ms(times.base) if times is not None else None,
    )


def columns(rows: Sequence[Mapping[str, Any]]) -> Devices:
    """The columns of devices that are told one by one, with the names of `Devices`; the outcome in words."""
    return Devices(
        bucket=np.array([row["bucket"] for row in rows], np.int64),
        in_wave=np.array([row["in_wave"] for row in rows], np.bool_),
        exposed_at=np.array([_seconds(row.get("exposed_at")) for row in rows], float),
        last_report=np.array([_seconds(row.get("last_report")) for row in rows], float),
        heard_before=np.array([row["heard_before"] for row in rows], np.bool_),
        outcome=np.array([OUTCOMES.index(row.get("outcome", "")) for row in rows], np.int8),
    )


def _seconds(time: Any) -> float:
    return float("nan") if time is None else float(time)
