"""Boxes: as annotations have them, and to be labelled."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from visionops_assets.dataset.audit import check_boxes
from visionops_assets.dataset.batch_on_main import rows_with_odd_boxes
from visionops_assets.dataset.dataset_task import DatasetTask, Rows, Suspect
from visionops_assets.dataset.findings_file import boxes_in_words
from visionops_assets.dataset.suspect_labels import suspect_boxes
from visionops_assets.dataset.versions.annotations import BOX, BOXES


class Detection(DatasetTask):
    """Rectangles with a class."""

    kind = BOXES
    nothing = ("no boxes",)
    label_formats = ("coco", "yolo", "voc", "csv", "label-studio", "cvat")
    whole_images = False
    label_studio = ("RectangleLabels", "rectanglelabels", "Label")

    def named(self, truths: pa.Array) -> tuple[pa.Array, Rows]:
        return truths.flatten().field("label"), pc.list_parent_indices(truths).to_numpy()

    def classes(self, truth: Any) -> tuple[str, ...]:
        return tuple(sorted({box["label"] for box in truth})) or self.nothing

    def text(self, truth: Any) -> str:
        told = sorted(f"{box['label']} {box['x']:g} {box['y']:g} {box['w']:g} {box['h']:g}" for box in truth)
        return "; ".join(told) or "no boxes"

    def shown(self, truth: Any) -> str:
        return boxes_in_words(truth)

    def boxes(self, truth: Any) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = truth
        return found

    def fault(self, truths: pa.Array) -> tuple[int, str] | None:
        flat, parents = truths.flatten(), pc.list_parent_indices(truths)
        for name in BOX.names:
            values = flat.field(name)
            wrong = (
                pc.is_null(values)
                if name == "label"
                else pc.invert(pc.fill_null(pc.is_finite(values), False))
            )
            place = pc.index(wrong, True).as_py()
            if place >= 0:
                return parents[place].as_py(), f"has a box whose {name} is not given or not finite"
        return None

    def rows_to_check(self, table: pa.Table) -> Rows:
        return rows_with_odd_boxes(table)

    def check(self, rows: pd.DataFrame) -> pd.DataFrame:
        return check_boxes(rows)

    def suspects(
        self, rows: pd.DataFrame, said: pd.DataFrame, learnt: Sequence[str], confident: float
    ) -> tuple[list[Suspect], int]:
        return suspect_boxes(rows, said, learnt, confident)


TASK = Detection()
