"""One class an image, to be labelled."""

from visionops_assets.dataset.dataset_task import DatasetTask


class Classification(DatasetTask):
    """A choice an image."""

    label_formats = ("csv", "label-studio", "cvat")
    whole_images = True
    label_studio = ("Choices", "choices", "Choice")


TASK = Classification()
