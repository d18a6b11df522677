"""Formats that people have, each read into the same list of images with their annotations."""

__all__ = [
    "cifar",
    "coco",
    "cvat",
    "folders",
    "label_studio",
    "labels_table",
    "mnist",
    "own_batches",
    "voc",
    "yolo",
]
