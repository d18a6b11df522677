"""One class an image: as annotations have it, and to be labelled."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from visionops_assets.dataset.dataset_task import DatasetTask, Rows, Suspect
from visionops_assets.dataset.suspect_labels import suspect_labels


class Classification(DatasetTask):
    """A choice an image."""

    kind = pa.string()
    label_formats = ("csv", "label-studio", "cvat")
    whole_images = True
    label_studio = ("Choices", "choices", "Choice")

    def named(self, truths: pa.Array) -> tuple[pa.Array, Rows]:
        return truths, np.arange(len(truths))

    def classes(self, truth: Any) -> tuple[str, ...]:
        return (truth,)

    def text(self, truth: Any) -> str:
        found: str = truth
        return found

    def fault(self, truths: pa.Array) -> tuple[int, str] | None:
        row = pc.index(pc.equal(truths, ""), True).as_py()
        return None if row < 0 else (row, "is empty")

    def askable(self, truths: pa.Array, learnt: Sequence[str]) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = pc.is_in(truths, value_set=pa.array(learnt, pa.string())).to_numpy(
            zero_copy_only=False
        )
        return found

    def suspects(
        self, rows: pd.DataFrame, said: pd.DataFrame, learnt: Sequence[str], confident: float
    ) -> tuple[list[Suspect], int]:
        return suspect_labels(rows, said, confident)


TASK = Classification()
