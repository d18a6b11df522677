"""The code location: assembles, decides nothing."""

import os

import dagster as dg

from resources import home
from resources.dagster_resources import bound_resources
from resources.environ import read_secret_files
from resources.service_clients import Services
from sensors.after_promotion import delivery_sensor
from sensors.announcements import announcement_sensor
from sensors.drops import drop_sensor
from sensors.new_commits import commit_sensor, daily_sample_schedule
from sensors.production_log import production_sensor
from visionops_assets.config.project import ProjectError, load_projects, neighbours_of
from visionops_assets.graph import project_graph
from visionops_assets.shells.outputs import RecordIOManager, TableIOManager

read_secret_files()
projects = load_projects(home.projects_folder())
if projects.unusable and os.environ.get("DAGSTER_IS_DEFS_VALIDATION_CLI"):
    # `dg check defs` is asked whether all is well, not to go on with the rest.
    raise ProjectError("\n".join(file.why for file in projects.unusable))
for file in projects.unusable:
    dg.get_dagster_logger("projects").warning(f"{file.project} is not loaded: {file.why}")

services = Services.from_environment()
graphs = [project_graph(project, neighbours_of(project, projects)) for project in projects]
defs = dg.Definitions.merge(
    *(graph.definitions for graph in graphs),
    dg.Definitions(
        # The page of the code location shows what is missing in it.
        metadata={f"not loaded: {file.path.name}": file.why for file in projects.unusable},
        sensors=[
            sensor(graph)
            for graph in graphs
            for sensor in (drop_sensor, commit_sensor, production_sensor, announcement_sensor)
        ]
        + [delivery_sensor(graph) for graph in graphs if graph.deliver is not None],
        schedules=[daily_sample_schedule(graph) for graph in graphs],
        resources={
            **bound_resources(services),
            "tables": TableIOManager(store=services.artifacts),
            "records": RecordIOManager(store=services.artifacts),
        },
    ),
)
