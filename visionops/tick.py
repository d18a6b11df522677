"""`visionops tick`: evaluate the sensors once and run what they ask, in this process."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resources import machine_errors
from resources.settings import People
from visionops import interruption
from visionops.runs import ASKED_BY, RUN_KEY, evaluate_sensor, recorded_tick, run_job, sensor_tags
from visionops.services import skews
from visionops.terminal import shown_progress

if TYPE_CHECKING:
    import dagster as dg

    from visionops_assets.config.project import Project, Projects


@dataclass(frozen=True)
class Tick:
    """What one project's sensor did: a run with its outcome, or why there was none."""

    project: str
    partition: str | None
    run_id: str | None
    outcome: str | None
    reason: str
    seconds: float


def command(
    projects: Annotated[list[str] | None, typer.Argument(help="Projects to look at; all by default.")] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Try again what failed as often as it may, and what was cancelled."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say only what came of it, not what is being done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what happened as JSON.")] = False,
) -> None:
    """Evaluate the sensors once and run what they ask, in this process: for CI, cron and tests.

    A refusal is no failure: exit code 0. Only an error is 1. Where another `visionops tick` works on a project, that
    is said and left to it.
    """
    interruption.keep(
        "what was decided is kept, and a training up to its last checkpoint", "tick", *(projects or ())
    )
    from visionops import services
    from visionops_assets.config.project import find_project

    with _told_below():
        import definitions
    _warn()
    declared = definitions.projects
    chosen = [find_project(declared, name) for name in projects] if projects else declared.usable
    with services.dagster() as instance:
        if again:
            for project in chosen:
                have_tried_again(instance, project)
        with shown_progress(not quiet):
            ticks = tick(definitions.defs, instance, chosen, say=None if as_json else typer.echo)
    wrong = [] if projects else [(file.project, file.why) for file in declared.unusable]
    nothing_declared = not projects and _undeclared(declared, as_json)
    wrong += [(each.project, found) for each in chosen for found in _untold(each, ticks)]
    for name, why in wrong:
        ticks.append(Tick(name, None, None, "error", why, 0.0))
        if not as_json:
            typer.echo(f"{name}: error: {why}")
    if as_json:
        typer.echo(json.dumps([asdict(found) for found in ticks], indent=1))
    if nothing_declared or any(found.outcome == "error" for found in ticks):
        raise typer.Exit(1)


@contextmanager
def _told_below() -> Iterator[None]:
    """A project file that cannot be used is told with what came of the others, not by a line of the log as well."""
    import dagster as dg

    log = dg.get_dagster_logger("projects")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _warn() -> None:
    """Say what stops nothing and is to be known."""
    from visionops_assets.training.code_digest import why_no_revision

    for skew in skews():
        if skew.matters:
            typer.echo(f"warning: {skew.sentence()}", err=True)
    missing = why_no_revision()
    if missing is not None:
        typer.echo(f"warning: models record no revision: {missing[0]}: {missing[1]}", err=True)


def _undeclared(declared: "Projects", as_json: bool) -> bool:
    """Say of which champions no file tells any more. True where that is an error: no file tells of anything, as of a
    folder that is not mounted."""
    from resources import home
    from visionops import services
    from visionops.cli.projects import left_behind, no_project

    behind = left_behind(services.registry(), declared)
    for each in behind:
        typer.echo(f"warning: {each.sentence()}", err=True)
    if declared or declared.unusable:
        return False
    typer.echo(no_project(home.projects_folder()), err=as_json or bool(behind))
    return bool(behind)


def _untold(project: "Project", ticks: Sequence[Tick]) -> list[str]:
    """What is wrong with a project's state, less what its sensor waits for, which it has told itself."""
    told = {found.reason for found in ticks if found.project == project.project}
    return [
        found
        for found in _also_wrong(project)
        if not any(found in reason or reason in found for reason in told)
    ]


def _also_wrong(project: "Project") -> list[str]:
    """What is gone of a project's state, though no sensor needed it now."""
    from resources.models.records import RegistryError
    from visionops import services
    from visionops.diagnosis.project_state import missing_pieces
    from visionops_assets.champions.disagreements import unfinished

    registry = services.registry()
    try:
        return [
            *(each.sentence() for each in unfinished(registry, project.project)),
            *missing_pieces(project, registry, services.lakefs(), services.artifacts()),
        ]
    except RegistryError as error:
        return [str(error)]


def tick(
    defs: "dg.Definitions",
    instance: "dg.DagsterInstance",
    projects: "Sequence[Project]",
    say: Callable[[str], None] | None = None,
    *,
    wait: bool = False,
) -> list[Tick]:
    """Evaluate each project's sensor and run its requests one after the other. `say` gets a line for each.

    What another process ticks is left to it, or with `wait` ticked after it.
    """
    from resources.escaping import folded
    from visionops_assets.shells.run_outcomes import outcome_in_words

    ticks = []
    for project in projects:
        with alone(instance, project, wait) as other:
            done = [_left_to(project, other)] if other else _tick_project(defs, instance, project)
        for found in _each_once(done):
            ticks.append(found)
            if say is not None:
                said = outcome_in_words(found.outcome or "nothing to do", found.reason)
                say(f"{project.project}: {folded(said)}")
    return ticks


def tick_production(defs: "dg.Definitions", instance: "dg.DagsterInstance", project: "Project") -> list[Tick]:
    """Collect what production logged and run the days that it touched; a project without production has none.

    Waits for a process that ticks the project.
    """
    with alone(instance, project, wait=True):
        return _tick_days(defs, instance, project)


def tick_delivery(defs: "dg.Definitions", instance: "dg.DagsterInstance", project: "Project") -> list[Tick]:
    """Give the device groups of a project what they should run. Waits for a process that ticks the project."""
    with alone(instance, project, wait=True):
        return _tick_delivery(defs, instance, project)


def have_tried_again(instance: "dg.DagsterInstance", project: "Project") -> None:
    """Let the runs of a project that ended with an error, or were cancelled, no longer count as attempts."""
    import dagster as dg

    from visionops_assets.common import run_tags
    from visionops_assets.shells.run_outcomes import is_attempt, run_outcome

    stopped = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    for run in instance.get_runs(dg.RunsFilter(tags={run_tags.PROJECT: project.project}, statuses=stopped)):
        asked_for = run_tags.ATTEMPT in run.tags
        if asked_for and is_attempt(run) and run_outcome(run) in (None, run_tags.ERROR):
            instance.add_run_tags(run.run_id, {run_tags.AGAIN: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"})


@contextmanager
def alone(instance: "dg.DagsterInstance", project: "Project", wait: bool) -> "Iterator[str | None]":
    """Hold the project's ticks on this Dagster; without `wait`, give who holds them where somebody does.

    Two that look at once would both see that nothing runs yet, and both start it.
    """
    from resources.models.lock import LockHeld, held_file

    with ExitStack() as held:
        other = None
        try:
            # Beside Dagster's folder: a lock in it would go with it, and two would hold it.
            folder = Path(f"{instance.root_directory}.ticks")
            held.enter_context(held_file(folder, project.project, -1 if wait else 0))
        except LockHeld as error:
            other = str(error)
        yield other


def _left_to(project: "Project", other: str) -> Tick:
    reason = f"another `visionops tick` works on it ({other})"
    return Tick(project.project, None, None, None, reason, 0.0)


def _tick_days(defs: "dg.Definitions", instance: "dg.DagsterInstance", project: "Project") -> list[Tick]:
    from sensors.readiness import was_cancelled

    if not defs.get_repository_def().has_sensor_def(f"{project.project}_production"):
        return []
    ticks: list[Tick] = []
    # What ended with an error is tried again at the next tick: now its cause would be the same.
    while not any(found.outcome == "error" for found in ticks):
        asked = _tick_sensor(defs, instance, project, "production", "days")
        ticks += [found for found in asked if found.run_id or found.outcome or was_cancelled(found.reason)]
        if not any(found.run_id for found in asked):
            break
    return ticks


def _tick_project(defs: "dg.Definitions", instance: "dg.DagsterInstance", project: "Project") -> list[Tick]:
    """First every batch that is complete in the drop, then what `main` has, then what production logged.

    Before and after, whoever is to be told of runs that ended.
    """
    ticks: list[Tick] = []
    _announce(defs, instance, project)
    # What ended with an error is tried again at the next tick: now its cause would be the same.
    while not ticks or ticks[-1].outcome != "error":
        (taken,) = _tick_sensor(defs, instance, project, "drops", "take")
        if taken.run_id or taken.outcome == "error":
            ticks.append(taken)
        if not taken.run_id:
            break
    ticks += _tick_sensor(defs, instance, project, "commits", "decide")
    ticks += _tick_days(defs, instance, project)
    ticks += _tick_delivery(defs, instance, project)
    _announce(defs, instance, project)
    return ticks


def _tick_delivery(defs: "dg.Definitions", instance: "dg.DagsterInstance", project: "Project") -> list[Tick]:
    """Give device groups what they should run; nothing to tell where they are assigned that already."""
    if not defs.get_repository_def().has_sensor_def(f"{project.project}_delivery"):
        return []
    from sensors.readiness import was_cancelled

    asked = _tick_sensor(defs, instance, project, "delivery", "deliver")
    return [found for found in asked if found.run_id or found.outcome or was_cancelled(found.reason)]


def _each_once(ticks: "Sequence[Tick]") -> "Iterator[Tick]":
    """Without what is told again: several sensors wait for one thing that is wrong."""
    told: set[str] = set()
    for found in ticks:
        waits = found.run_id is None and found.outcome is not None
        if not (waits and any(_without_group(found.reason) in other for other in told)):
            yield found
        told |= {found.reason} if waits else set()


def _without_group(reason: str) -> str:
    """What is wrong, without the device groups of which it is told."""
    groups, separator, rest = reason.partition(": ")
    return rest if separator and " " not in groups.replace(", ", ",") else reason


def _announce(defs: "dg.Definitions", instance: "dg.DagsterInstance", project: "Project") -> None:
    if defs.get_repository_def().has_sensor_def(f"{project.project}_announcements"):
        _tick_sensor(defs, instance, project, "announcements", "")


def _tick_sensor(
    defs: "dg.Definitions", instance: "dg.DagsterInstance", project: "Project", name: str, job: str
) -> list[Tick]:
    from sensors.readiness import what_is_wrong
    from visionops_assets.common import run_tags
    from visionops_assets.shells.unstable_dagster import make_new_run_id

    started = time.perf_counter()
    sensor, job = f"{project.project}_{name}", f"{project.project}_{job}"
    try:
        with recorded_tick(defs, instance, sensor) as recorded:
            asked = evaluate_sensor(defs, instance, sensor)
            recorded.asked = asked
            requests = [(make_new_run_id(), request) for request in asked.run_requests or []]
            for run_id, request in requests:
                recorded.requested(run_id, request.run_key)
    except Exception as error:
        if People.read().debug:
            raise
        # Its page has the traceback. What stops one project's sensor stops no other.
        seconds = time.perf_counter() - started
        return [Tick(project.project, None, None, run_tags.ERROR, machine_errors.in_words(error), seconds)]
    if not requests:
        seconds = time.perf_counter() - started
        problem = what_is_wrong(asked.skip_message)
        if problem is not None:
            return [Tick(project.project, None, None, run_tags.ERROR, problem, seconds)]
        return [Tick(project.project, None, None, None, asked.skip_message or "nothing new", seconds)]
    return [_run(defs, instance, project, sensor, job, run_id, request) for run_id, request in requests]


def _run(
    defs: "dg.Definitions",
    instance: "dg.DagsterInstance",
    project: "Project",
    sensor: str,
    job: str,
    run_id: str,
    request: "dg.RunRequest",
) -> Tick:
    import dagster as dg

    from visionops_assets.common import run_tags
    from visionops_assets.shells.run_outcomes import note_outcome, run_reason

    started = time.perf_counter()
    tags = sensor_tags(request, sensor)
    # The daemon asks for it too.
    asked = dg.RunsFilter(tags={name: tags[name] for name in (ASKED_BY, RUN_KEY)})
    for other in instance.get_runs(asked, limit=1):
        reason = f"run {other.run_id} was started for it meanwhile"
        return Tick(project.project, request.partition_key, None, None, reason, 0.0)
    ran = run_job(defs, instance, job, partition=request.partition_key, tags=tags, run_id=run_id)
    run = instance.get_run_by_id(run_id)
    outcome = (note_outcome(instance, run) if run is not None else None) or run_tags.ERROR
    return Tick(
        project.project,
        request.partition_key,
        run_id,
        outcome,
        run_reason(ran.events, outcome),
        time.perf_counter() - started,
    )
