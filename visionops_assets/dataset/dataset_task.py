"""What the dataset asks of a task: how what is to be labelled is handed to a labelling tool."""

from typing import ClassVar, Protocol

from visionops_assets.tasks.task_registry import facet


class DatasetTask(Protocol):
    """What the dataset asks of a task.

    `label_formats` are what its labels can be written as, the default first. `whole_images` says that a label is of
    the whole image. `label_studio` is what its labelling interface is made of: the control's tag, its type in results,
    and the tag of a choice.
    """

    label_formats: ClassVar[tuple[str, ...]]
    whole_images: ClassVar[bool]
    label_studio: ClassVar[tuple[str, str, str]]


def dataset_task(name: str) -> DatasetTask:
    """The facet of the task that a project file names. Raises `UnknownTask`."""
    found: DatasetTask = facet(name, "dataset")
    return found
