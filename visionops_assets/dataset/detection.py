"""Boxes, to be labelled."""

from visionops_assets.dataset.dataset_task import DatasetTask


class Detection(DatasetTask):
    """Rectangles with a class."""

    label_formats = ("coco", "yolo", "voc", "csv", "label-studio", "cvat")
    whole_images = False
    label_studio = ("RectangleLabels", "rectanglelabels", "Label")


TASK = Detection()
