"""What the registry says: what is in production since when, what was judged, what waits. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import get_args

from resources.model_records import EVERYWHERE
from visionops.exporter import families
from visionops.exporter.families import Sample
from visionops_assets.champions.history import Kind
from visionops_assets.evaluation.verdict import Outcome
from visionops_assets.monitoring.acting import actions
from visionops_assets.promotion.status import Status


def model_label(weights_sha256: str) -> str:
    """How a model is named in labels: as everywhere, by the beginning of its weights' SHA-256."""
    return weights_sha256[:12]


def project_samples(status: Status) -> Iterator[Sample]:
    """What is true of a project on all device groups."""
    outcomes = Counter(verdict.outcome for verdict in status.verdicts)
    for outcome in get_args(Outcome):
        yield families.VERDICTS(outcomes[outcome], status.project, outcome.lower())
    yield families.WAITING(len(status.waiting), status.project)


def group_samples(status: Status) -> Iterator[Sample]:
    """What is true of a project on the device group of this status."""
    where = (status.project, status.now.group)
    yield families.ON_HOLD(status.now.on_hold, *where)
    changes = Counter(entry.kind for entry in status.entries)
    for kind in get_args(Kind):
        # A counter that begins at 1 has no increase.
        yield families.CHANGES(changes[kind], *where, kind)
    if status.now.version is not None:
        yield families.CHAMPION(status.now.version, *where)
    if status.champion is not None:
        model, version = model_label(status.champion.weights_sha256), str(status.champion.version)
        yield families.CHAMPION_INFO(1, *where, model, version)
    if status.now.version is not None and status.now.since is not None:
        yield families.CHAMPION_SINCE(status.now.since.when.timestamp(), *where)


def action_samples(project: str, done: Iterable[actions.Action]) -> Iterator[Sample]:
    """What was done about production, by kind."""
    # A counter that begins at 1 has no increase.
    counted = Counter({(EVERYWHERE, kind, False): 0 for kind in get_args(actions.Kind)})
    counted.update((action.group, action.kind, action.dry_run) for action in done)
    for (group, kind, dry_run), number in counted.items():
        yield families.ACTIONS(number, project, group, kind, str(dry_run).lower())
