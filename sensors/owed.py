"""What runs of a project failed, or were cancelled, and were not done since: each in a sentence with its command.

Told from Dagster's runs alone: the sensors know more, and have to look at lakeFS for it.
"""

from collections.abc import Callable, Iterator, Sequence

import dagster as dg

from resources.drop import Drop
from resources.drop_errors import DropError
from sensors.readiness import SETTLED, cancelled, given_up
from visionops_assets.common import run_tags
from visionops_assets.project import Project
from visionops_assets.run_reason import is_attempt, run_outcome

_STOPPED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_DONE = {*SETTLED, run_tags.PUBLISHED, run_tags.UNCHANGED}


def owed(instance: dg.DagsterInstance, project: Project, drop: Drop) -> list[str]:
    """The newest dataset version whose decision failed, production days that did, and batches that were not taken."""
    return [*_version(instance, project), *_days(instance, project), *_batches(instance, project, drop)]


def _version(instance: dg.DagsterInstance, project: Project) -> Iterator[str]:
    wanted = {run_tags.PROJECT: project.project, run_tags.INTENT: run_tags.DECISION}
    newest = next(
        (run for run in instance.get_runs(dg.RunsFilter(tags=wanted), limit=20) if _asked(run)), None
    )
    if newest is None or run_tags.COMMIT not in newest.tags:
        return
    same = {
        name: newest.tags[name]
        for name in (run_tags.COMMIT, run_tags.TRAINING_VERSION)
        if name in newest.tags
    }
    runs = [run for run in instance.get_runs(dg.RunsFilter(tags={**wanted, **same})) if _asked(run)]
    what = newest.tags.get("dagster/partition") or newest.tags[run_tags.COMMIT][:12]
    yield from _told(project.project, what, runs, project.trigger.attempts, _at_the_next_tick)


def _days(instance: dg.DagsterInstance, project: Project) -> Iterator[str]:
    """A day given up is tried again all the same, each time after twice as long."""

    def by_itself(what: str, count: int) -> str:
        command = f"`visionops tick {project.project} --again`"
        return f"{_at_the_next_tick(what, count)} once it has waited, or by {command}"

    for day, runs in _stopped(instance, project, run_tags.DAY):
        newest = [run for run in runs if run.tags.get(run_tags.COMMIT) == runs[0].tags.get(run_tags.COMMIT)]
        yield from _told(project.project, f"production day {day}", newest, None, by_itself)


def _batches(instance: dg.DagsterInstance, project: Project, drop: Drop) -> Iterator[str]:
    for batch, runs in _stopped(instance, project, run_tags.BATCH):
        newest = [run for run in runs if run.tags.get(run_tags.DROP) == runs[0].tags.get(run_tags.DROP)]
        if run_tags.DROP in runs[0].tags and _lies_there(drop, project, batch):
            what = f"batch {batch} of the drop"
            yield from _told(project.project, what, newest, project.drop.attempts, _at_the_next_tick)


def _lies_there(drop: Drop, project: Project, batch: str) -> bool:
    try:
        return batch in drop.place(project.project, project.drop.address).batches()
    except DropError:
        # That it does not answer is told by whoever looks at it.
        return True


def _stopped(
    instance: dg.DagsterInstance, project: Project, tag: str
) -> Iterator[tuple[str, Sequence[dg.DagsterRun]]]:
    """All runs that sensors asked for of each thing of which one stopped, newest first, by the value of its tag."""
    mine = {run_tags.PROJECT: project.project}
    stopped = instance.get_runs(dg.RunsFilter(tags=mine, statuses=_STOPPED))
    for value in sorted({run.tags[tag] for run in stopped if tag in run.tags and _asked(run)}):
        filters = dg.RunsFilter(tags={**mine, tag: value})
        yield value, [run for run in instance.get_runs(filters) if _asked(run)]


def _asked(run: dg.DagsterRun) -> bool:
    return run_tags.ATTEMPT in run.tags


def _told(
    project: str,
    what: str,
    runs: Sequence[dg.DagsterRun],
    most: int | None,
    tried_again: Callable[[str, int], str],
) -> Iterator[str]:
    """What is to be told of runs about one thing, newest first: nothing where it was done, or is being done."""
    if any(not run.is_finished or run.is_success or run_outcome(run) in _DONE for run in runs):
        return
    attempts = [run for run in runs if is_attempt(run)]
    by_hand = next((run for run in attempts if run.status == dg.DagsterRunStatus.CANCELED), None)
    if by_hand is not None:
        yield cancelled(project, what, by_hand.run_id).reason
    elif most is not None and (
        stopped := given_up(project, what, most, [run.run_id for run in reversed(attempts)])
    ):
        yield stopped.reason
    elif run_outcome(runs[0]) == run_tags.ERROR:
        yield f"{tried_again(what, len(attempts))}; the last was run {runs[0].run_id}"


def _at_the_next_tick(what: str, count: int) -> str:
    times = {0: "failed", 1: "failed once"}.get(count, f"failed {count} times")
    return f"{what} {times} with an error, and is tried again by the next tick"
