"""A decision on a rollout of a million devices: processor seconds of pairs, evidence, verdict and decision together,
as a computation on this machine (budget: 5).

    python benchmarks/rollout.py [--devices 1000000]

Prints the measure beside its budget; exit code 1 where it is missed, or where a rollout ends otherwise than it should.
"""

import argparse
import sys
import time
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

BUDGET = 5.0
EVERY, BEGAN, HOUR = 300.0, 1e9, 3600.0


def main() -> int:
    """Measure."""
    import numpy as np

    from visionops_assets.rollout.decide import Standing, decide
    from visionops_assets.rollout.evidence import FAILED, OK, Devices, Pairs, evidence_of, judged
    from visionops_assets.rollout.rollout_verdict import Rules, verdict_of
    from visionops_assets.rollout.waves import ALL_PPM, ppm_of, wave_sizes

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--devices", type=int, default=10**6)
    number = parser.parse_args().devices
    rules, worst, wrong = Rules(dwell=timedelta(hours=1)), 0.0, False
    for name, fails, ends in (("good", 0.002, "complete"), ("fails on a quarter", 0.25, "roll_back")):
        rng = np.random.default_rng(1)
        bucket = rng.integers(0, ALL_PPM, number)
        fate = np.where(rng.random(number) < fails, FAILED, OK).astype(np.int8)
        heard = rng.random(number) < 0.98
        exposed, pairs = np.full(number, np.nan), Pairs()
        sizes = wave_sizes(number, [0.01, 0.1, 0.5, 0.95, 1.0])
        for wave, size in enumerate(sizes):
            began = BEGAN + wave * 2 * HOUR
            in_wave = bucket < ppm_of(bucket, size)
            exposed[in_wave & np.isnan(exposed)] = began
            last = np.where(rng.random(number) < 0.995, began + HOUR, began - EVERY / 2)
            devices = Devices(
                bucket, in_wave, exposed, last, heard, np.where(in_wave, fate, 0).astype(np.int8)
            )
            start = time.process_time()
            pairs = judged(devices, pairs, began + HOUR, EVERY)
            known = evidence_of(devices, pairs, now=began + HOUR, report_every=EVERY, allowed_failures=0.01)
            standing = Standing(sizes, wave, timedelta(hours=2 * wave + 1))
            found = decide(verdict_of(known, rules, timedelta(hours=1)), standing, rules)
            took = time.process_time() - start
            worst = max(worst, took)
            print(f"{name}: wave {wave + 1} of {size:,} devices: {found.action} in {took:.2f} s; {found.why}")
            if found.action != "advance":
                break
        wrong |= found.action != ends
    print(f"a decision on {number:,} devices: {worst:.2f} s of processor time at most, budget {BUDGET:g}")
    return int(wrong or worst > BUDGET)


if __name__ == "__main__":
    sys.exit(main())
