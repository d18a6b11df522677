"""The demo's three commits, split into training and the rest (budgets: 90 s in all, 5 s a commit beside training).

The baseline of the same run is the training itself: the same data, recipe and code without any of the loop.
"""

import os
import tempfile
import time
from pathlib import Path

from timing.steps import step_seconds

TRAINING = "digits__challenger"
WHOLE_BUDGET, BESIDE_BUDGET = 90.0, 5.0


def main() -> None:
    """Run the demo in a fresh home and read its event log."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VISIONOPS_HOME"] = folder
        os.environ.pop("DAGSTER_HOME", None)
        from visionops import bootstrap
        from visionops.cli import demo

        bootstrap.prepare()
        started = time.perf_counter()
        try:
            demo.demo_command(days=0, as_json=False)
            whole = time.perf_counter() - started
            report(whole)
        finally:
            from lakefs_local import discovery

            discovery.stop(Path(folder) / "lakefs")


def report(whole: float) -> None:
    """Print the split of every decision run."""
    import dagster as dg

    print(f"\n{'run':28} {'whole':>7} {'training':>9} {'beside':>7}")
    beside_all = []
    with dg.DagsterInstance.get() as instance:
        for record in instance.get_run_records(ascending=True):
            run = record.dagster_run
            if record.start_time is None or record.end_time is None or not run.job_name.endswith("_decide"):
                continue
            training = step_seconds(instance, run.run_id, TRAINING)
            beside = record.end_time - record.start_time - training
            beside_all.append(beside)
            partition = run.tags["dagster/partition"]
            print(
                f"{partition:28} {record.end_time - record.start_time:6.1f}s {training:8.1f}s {beside:6.1f}s"
            )
    print(
        f"\ndemo: {whole:.0f} s, budget {WHOLE_BUDGET:.0f} s: {'kept' if whole <= WHOLE_BUDGET else 'MISSED'}"
    )
    worst = max(beside_all)
    print(
        f"beside training: at most {worst:.1f} s a commit, budget {BESIDE_BUDGET:.0f} s: "
        f"{'kept' if worst <= BESIDE_BUDGET else 'MISSED'}"
    )


if __name__ == "__main__":
    main()
