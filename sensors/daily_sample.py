"""Every day, a sample of the newest dataset version's images is read again."""

import dagster as dg

from visionops_assets.common import run_tags
from visionops_assets.graph import ProjectGraph
from visionops_assets.partitions import dataset_versions

# At night, when lakeFS has time.
CRON = "17 3 * * *"


def daily_sample_schedule(graph: ProjectGraph) -> dg.ScheduleDefinition:
    """The schedule of one project."""
    project = graph.project

    @dg.schedule(
        name=f"{project.project}_daily_sample",
        job=graph.verify,
        cron_schedule=CRON,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Asks for `images_intact` on the newest dataset version.",
        tags={"project": project.project},
    )
    def daily_sample(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        keys = context.instance.get_dynamic_partitions(dataset_versions(project.project).name or "")
        if not keys:
            return dg.SkipReason(f"{project.project} has no dataset version yet")
        return dg.RunRequest(partition_key=max(keys), tags={run_tags.PROJECT: project.project})

    return daily_sample
