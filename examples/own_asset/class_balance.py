"""An asset of one's own behind a project's: how many images of each class and split a dataset version holds.

`definitions.py` of a code location of one's own would merge it with VisionOps's:
`dg.Definitions.merge(definitions.defs, dg.Definitions(assets=[class_balance("digits")]))`.
"""

import dagster as dg
import pandas as pd

from visionops_assets.shells.asset_options import dataset_versions


def class_balance(project: str) -> dg.AssetsDefinition:
    """The `class_balance` asset of a project, with the partitions of its manifest."""

    @dg.asset(
        key=[project, "class_balance"],
        ins={"manifest": dg.AssetIn(key=[project, "manifest"])},
        partitions_def=dataset_versions(project),
        io_manager_key="tables",
        group_name=project,
        owners=["team:vision"],
        kinds={"pandas"},
        description="Images by class and split.",
    )
    def counted(context: dg.AssetExecutionContext, manifest: pd.DataFrame) -> pd.DataFrame:
        table = pd.crosstab(manifest["label"], manifest["split"]).reset_index()
        rows = [
            dg.TableRecord({str(column): value for column, value in row.items()})
            for row in table.to_dict("records")
        ]
        context.add_output_metadata({"classes": len(table), "counts": dg.MetadataValue.table(rows)})
        return table

    return counted
