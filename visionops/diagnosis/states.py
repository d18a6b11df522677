"""What people did to the state by hand or by accident: each project's own row, and projects that no file declares."""

from collections.abc import Iterator
from functools import partial

from resources import home
from resources.databases import sqlite_path
from resources.models.memory import ModelMemory
from visionops.diagnosis.checking import Check, Finding, broken, ok, warning
from visionops.diagnosis.servers import embedded_sleeps
from visionops_assets.project import Project, Projects


def checks(projects: Projects) -> Iterator[Check]:
    """The state of every project that can be used, and what is left of projects that cannot be found."""
    for project in projects:
        yield Check(
            f"state of {project.project}",
            f"what MLflow, lakeFS and {home.artifacts()} hold of it",
            "compare what each of them says",
            f"visionops status {project.project} names each disagreement, and what to type",
            partial(_state, project),
        )
    yield Check(
        "undeclared projects",
        "registered models in MLflow",
        "look for one that no project file declares",
        "visionops project list",
        partial(_undeclared, projects),
    )


def _state(project: Project) -> Finding:
    from visionops import services
    from visionops.missing_pieces import not_done, state_of

    fix = f"visionops status {project.project}"
    if not _registered():
        failed = not_done(project)
        if ModelMemory(home.artifacts()).read(project.project) is not None:
            gone = f"MLflow's database {home.mlflow_uri()} is gone, which had versions of {project.project}"
            return broken("; ".join([gone, *failed]), f"restore it from a backup, or {fix}")
        return broken("; ".join(failed), fix) if failed else ok("nothing was registered yet")
    found = state_of(project, services.registry(), data=not embedded_sleeps())
    if found.wrong:
        return broken("; ".join(found.wrong), fix)
    if found.gone:
        return warning("; ".join(found.gone), fix)
    return ok("they agree")


def _undeclared(projects: Projects) -> Finding:
    from visionops import services
    from visionops.renaming import left_behind

    if not _registered():
        return ok("there is none")
    found = left_behind(services.registry(), projects)
    if found:
        names = found[0].project
        return warning("; ".join(each.sentence() for each in found), f"visionops project rename {names} NEW")
    return ok("there is none")


def _registered() -> bool:
    """Whether there is an MLflow to ask: a local one is made only when it is needed."""
    file = sqlite_path(home.mlflow_uri())
    return file is None or file.exists()
