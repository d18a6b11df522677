"""The tasks by name: what each learns from, and where each stage finds its facet of it.

A stage states what it asks of a task as a Protocol and never compares names: it takes the facet that is registered. Of
our own tasks that is `TASK` in `<stage>/<task>.py`; another task names its own, as `module:name`. Light: definitions
load it, and a facet is imported when it is first asked for.
"""

import importlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from resources.error_family import Invalid, NotFound
from resources.nearest import there_are

CLASSIFICATION, DETECTION = "classification", "detection"


class UnknownTask(NotFound, ValueError):
    """A task that nobody registered, or that has no facet for a stage; the message says which there are."""


@dataclass(frozen=True)
class Task:
    """What a model can learn of images.

    `truth` is the column of annotations that it learns from, `learns_from` says so in words. `facets` gives by stage
    where its facet is, for what is not at the stage's own place.

    A project has at least `least_classes`. A slice may lose `tolerance` where the project does not say. Where an image
    has one answer, errors have `costs`; where it has boxes, they have sizes (`sized`). `score` is what its models are
    measured by, `seen_as` says what annotations of it have, `limits` what its models cannot do. `truth_as_text` is the
    truth of an image as digests take it: as long as it says the same, the holdout is the same.
    """

    name: str
    truth: str
    learns_from: str
    least_classes: int = 1
    tolerance: float = 0.01
    costs: bool = False
    sized: bool = False
    score: str = "Accuracy"
    seen_as: str = "a label for each image"
    limits: str = "It answers one of {classes} for every image, also for one that shows none of them."
    truth_as_text: Callable[[Any], str] = str
    facets: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def facet_at(self, stage: str) -> str:
        """Where the facet for a stage is, as `module:name`."""
        return self.facets.get(stage, f"visionops_assets.{stage}.{self.name}:TASK")


def _boxes_as_text(boxes: Iterable[Mapping[str, Any]]) -> str:
    """The same in whatever order they come."""
    sides = ("x", "y", "w", "h")
    return json.dumps(sorted([str(box["label"]), *(float(box[side]) for side in sides)] for box in boxes))


_REGISTERED = {
    each.name: each
    for each in (
        Task(CLASSIFICATION, "label", "labels of whole images", least_classes=2, costs=True),
        Task(
            DETECTION,
            "boxes",
            "boxes (task: detection)",
            tolerance=0.02,
            sized=True,
            score="mAP@0.5",
            seen_as="boxes",
            limits="It looks for {classes} and nothing else, and may see them where there are none.",
            truth_as_text=_boxes_as_text,
        ),
    )
}
# What annotations always had: their truth also beside a column that another task learns from.
_OURS = tuple(_REGISTERED)


def register(task: Task) -> None:
    """Make a task known to this process. Raises Invalid where its name or its truth is another's."""
    for other in _REGISTERED.values():
        if other != task and task.name == other.name:
            raise Invalid(f"a task {task.name} is registered already: give this one another name")
        if other != task and task.truth == other.truth:
            raise Invalid(
                f"{other.name} learns from the column {task.truth!r}: give {task.name} one of its own"
            )
    _REGISTERED[task.name] = task


def unregister(name: str) -> None:
    """Forget a task that `register` made known."""
    del _REGISTERED[name]


def names() -> tuple[str, ...]:
    """The tasks that are registered."""
    return tuple(_REGISTERED)


def task(name: str) -> Task:
    """The task of a name. Raises `UnknownTask`."""
    if name not in _REGISTERED:
        raise UnknownTask(f"no task is called {name}; {there_are(name, names())}")
    return _REGISTERED[name]


def task_taught_by(columns: Collection[str]) -> Task:
    """The task whose truth is among the columns of a table, one of ours before others: a column of somebody's own stays
    that when a task that learns from it is registered. Raises `UnknownTask` for none, or several."""
    taught = [each for each in _REGISTERED.values() if each.truth in columns]
    found = [each for each in taught if each.name in _OURS] or taught
    if len(found) != 1:
        truths = ", ".join(each.truth for each in _REGISTERED.values())
        raise UnknownTask(f"a table should have one of the columns {truths}, has {', '.join(columns)}")
    return found[0]


def facet(name: str, stage: str) -> Any:
    """What is peculiar to a task in a stage. Raises `UnknownTask`."""
    module, _, attribute = task(name).facet_at(stage).partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UnknownTask(
            f"task {name} has no facet for {stage}: register it with one, as `facets={{{stage!r}: 'module:name'}}`"
        ) from error
