"""One evaluation of the commit sensor (budgets: 0.3 s with nothing new, 1 s after a commit of 1,000 changed objects).

The baseline of the same run is the one request that no sensor can do without: reading the log's first page.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = 1000
QUIET_BUDGET, CHANGED_BUDGET = 0.3, 1.0


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of one call."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def commit_ticks(definitions: Any, instance: Any, project: str) -> Callable[[str | None], Any]:
    """What evaluates a project's commit sensor once, from a cursor on."""
    import dagster as dg

    repository = definitions.get_repository_def()
    sensor = repository.get_sensor_def(f"{project}_commits")
    resources = repository.get_top_level_resources()

    def evaluate(cursor: str | None) -> Any:
        with dg.build_sensor_context(
            instance=instance,
            instance_ref=instance.get_ref(),
            cursor=cursor,
            repository_def=repository,
            resources={name: resources[name] for name in sensor.required_resource_keys},
        ) as context:
            return sensor.evaluate_tick(context)

    return evaluate


def add_partitions(instance: Any, ticked: Any) -> None:
    """What the daemon does with a tick's new partitions."""
    for request in ticked.dynamic_partitions_requests:
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))


def main() -> None:
    """Measure a tick after a commit, and quiet ticks after that."""
    import dagster as dg

    from lakefs_local import discovery

    with (
        tempfile.TemporaryDirectory() as folder,
        discovery.serving(Path(folder) / "lakefs") as server,
        dg.instance_for_test() as instance,
    ):
        os.environ.update(
            VISIONOPS_HOME=folder,
            LAKEFS_ENDPOINT=server.endpoint,
            LAKEFS_ACCESS_KEY_ID=server.access_key_id,
            LAKEFS_SECRET_ACCESS_KEY=server.secret_access_key,
        )
        import definitions
        from visionops import services

        lakefs, project = services.lakefs(), definitions.projects[0]
        evaluate = commit_ticks(definitions.defs, instance, project.project)

        lakefs.create_repository(project.repository)
        content = (
            (f"batches/b/images/{n:05d}.png", lambda n=n: n.to_bytes(8, "big")) for n in range(CHANGES)
        )
        lakefs.write_many(project.repository, "main", content)
        lakefs.save(project.repository, "main", "a thousand images")
        changed, asked = timed(lambda: evaluate(None))
        if not asked.run_requests:
            raise SystemExit(f"the sensor did not see the commit: {asked.skip_message}")
        add_partitions(instance, asked)
        quiet = statistics.median(timed(lambda: evaluate(asked.cursor))[0] for _ in range(10))
        page = statistics.median(timed(lambda: lakefs.head(project.repository))[0] for _ in range(10))
    for name, seconds, budget in (
        ("nothing new", quiet, QUIET_BUDGET),
        (f"{CHANGES:,} changes", changed, CHANGED_BUDGET),
    ):
        kept = "kept" if seconds <= budget else "MISSED"
        print(
            f"{name:14} {seconds:6.3f} s  {seconds / page:6.1f}x one log request  budget {budget} s: {kept}"
        )


if __name__ == "__main__":
    main()
