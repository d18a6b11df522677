"""A month of production days in one Dagster run: 30 days of 2,000 rows, seconds by asset (budget: 90 s in all).

    python benchmarks/production_days.py

The baseline of the same run is what the assets compute, without Dagster, MLflow, lakeFS and validation. A tenth of
the rows has a label; the last third of the month is brighter, so its days alarm and have Evidently's page.
"""

import argparse
import hashlib
import os
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import yaml
from drift import CLASSES, month, rows
from timing import seconds
from timing.steps import step_seconds

if TYPE_CHECKING:
    import dagster as dg

BUDGET = 90.0
PROJECT = "bench"
ASSETS = ("inference_log", "features", "drift_report", "performance", "labels_wanted", "response")
LABELLED = 0.1
WEIGHTS, ONNX = (hashlib.sha256(part).hexdigest() for part in (b"weights", b"onnx"))


def declare(folder: Path) -> None:
    """Write the project's file."""
    folder.mkdir()
    content = {
        "project": PROJECT,
        "description": "Numbers drawn by chance.",
        "owners": ["team:vision"],
        "licence": "CC0-1.0",
        "task": "classification",
        "repository": PROJECT,
        "annotations": PROJECT,
        "classes": list(CLASSES),
        "recipe": {"input": {"height": 8, "width": 8, "channels": 1}},
    }
    (folder / f"{PROJECT}.yaml").write_text(yaml.safe_dump(content))


def register(holdout: int) -> None:
    """A version whose reference is there already."""
    from resources.models.records import TAG_ONNX, TAG_WEIGHTS
    from visionops import services
    from visionops_assets.common.tables import to_parquet
    from visionops_assets.monitoring.reference import REFERENCE_ARTIFACT

    registry = services.registry()
    run = registry.runs.start(PROJECT, "by hand", {})
    reference = rows(holdout, 0).drop(columns=["timestamp", "device", "device_group"])
    registry.artifacts.put_bytes(run.id, REFERENCE_ARTIFACT, to_parquet(reference))
    registry.runs.end(run.id)
    registry.models.create_version(PROJECT, run.id, {TAG_WEIGHTS: WEIGHTS, TAG_ONNX: ONNX})


def log(first: date, days: int, count: int) -> None:
    """Spool and collect the days."""
    from visionops import services
    from visionops_assets.monitoring.collection import collect
    from visionops_assets.monitoring.spool_files import spooled_log

    project, spool = services.project(PROJECT), services.spool()
    for number in range(days):
        day = datetime.combine(first + timedelta(days=number), datetime.min.time(), UTC)
        drawn = rows(count, number + 1, brighter=1.0 if 3 * number >= 2 * days else 0.0)
        labels = drawn["label"].where(drawn.index < LABELLED * count, None)
        drawn = drawn.assign(model_sha256=WEIGHTS, label=labels, frame=None)
        records = drawn.drop(columns=["capture"]).to_dict("records")
        for second, record in enumerate(records):
            record["timestamp"] = day + timedelta(seconds=second)
        spool.put(PROJECT, "camera-1", spooled_log(project.task, records))
    lakefs, now = services.lakefs(), datetime.now(UTC)
    collect(project, lakefs=lakefs, spool=spool, lock=nullcontext(), now=now)


def backfill(instance: "dg.DagsterInstance", first: date, days: int) -> str:
    """One run of all days; its id."""
    import definitions

    last = first + timedelta(days=days - 1)
    done = definitions.defs.resolve_job_def(f"{PROJECT}_days").execute_in_process(
        instance=instance,
        tags={
            "dagster/asset_partition_range_start": first.isoformat(),
            "dagster/asset_partition_range_end": last.isoformat(),
        },
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    return done.run_id


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--holdout", type=int, default=500)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        os.environ |= {"VISIONOPS_HOME": f"{folder}/home", "VISIONOPS_PROJECTS": f"{folder}/projects"}
        os.environ.pop("DAGSTER_HOME", None)
        import dagster as dg

        from lakefs_local import discovery
        from visionops import bootstrap

        bootstrap.prepare()
        declare(Path(folder) / "projects")
        first = datetime.now(UTC).date() - timedelta(days=arguments.days)
        try:
            register(arguments.holdout)
            print(f"collected: {seconds(lambda: log(first, arguments.days, arguments.rows)).wall:.1f} s")
            _, plain = seconds(lambda: month(arguments.days, arguments.rows, arguments.holdout))
            runs: list[str] = []
            with dg.DagsterInstance.get() as instance:
                wall, cpu = seconds(lambda: runs.append(backfill(instance, first, arguments.days)))
                for asset in ASSETS:
                    print(f"{asset:14} {step_seconds(instance, runs[0], f'{PROJECT}__{asset}'):6.1f} s")
        finally:
            discovery.stop(Path(folder) / "home" / "lakefs")
    kept = "kept" if wall <= BUDGET else "MISSED"
    print(
        f"{arguments.days} days of {arguments.rows:,} rows in one run: {wall:.1f} s, budget {BUDGET:.0f} s: {kept}; "
        f"of CPU {cpu:.1f} s, {cpu / plain:.2f}× what is computed ({plain:.1f} s)"
    )


if __name__ == "__main__":
    main()
