"""The asset materialised in this process: a table for the manifest, a temporary folder, no server."""

from pathlib import Path

import dagster as dg
import pandas as pd
from class_balance import class_balance

from resources.storage import ArtifactStore
from visionops_assets.shells.asset_options import dataset_versions
from visionops_assets.shells.outputs import TableIOManager

VERSION = "20260101T120000-0123456789ab"


def test_each_class_is_counted_in_each_split(tmp_path: Path) -> None:
    @dg.asset(key=["parts", "manifest"], partitions_def=dataset_versions("parts"), io_manager_key="tables")
    def manifest() -> pd.DataFrame:
        return pd.DataFrame({"label": ["nut", "nut", "bolt"], "split": ["train", "holdout", "train"]})

    tables = TableIOManager(store=ArtifactStore(root=str(tmp_path)))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(dataset_versions("parts").name or "", [VERSION])
        run = dg.materialize(
            [manifest, class_balance("parts")],
            partition_key=VERSION,
            instance=instance,
            resources={"tables": tables},
        )
    counted = run.output_for_node("parts__class_balance").set_index("label")
    assert counted.loc["nut"].to_dict() == {"holdout": 1, "train": 1}
    assert counted.loc["bolt"].to_dict() == {"holdout": 0, "train": 1}
