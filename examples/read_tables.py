"""Read a project's newest manifest, and what champion and challenger answered on the holdout, as pandas tables.

Run it from the root of the checkout after `make demo`: `.venv/bin/python examples/read_tables.py digits`.
"""

import sys

import dagster as dg
import pandas as pd

from visionops import bootstrap


def tables(project: str) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """The newest dataset version of a project that was judged, its manifest and its table of predictions."""
    bootstrap.prepare()
    import definitions

    with dg.DagsterInstance.get() as instance:
        newest = max(instance.get_materialized_partitions(dg.AssetKey([project, "evaluation"])))

        def read(asset: str) -> pd.DataFrame:
            table = definitions.defs.load_asset_value(
                [project, asset], instance=instance, partition_key=newest
            )
            assert isinstance(table, pd.DataFrame)
            return table

        return newest, read("manifest"), read("evaluation")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("name a project: read_tables.py digits")
    version, manifest, predictions = tables(sys.argv[1])
    print(f"{version}: images by batch and split")
    print(pd.crosstab(manifest["batch"], manifest["split"]))
    print("what the models answered on the holdout")
    print(predictions.head())
