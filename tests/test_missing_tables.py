"""Who asks for a table that is not there is told which step makes it, and what there is."""

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from resources.storage import ArtifactNotFound, ArtifactStore
from visionops_assets.shells.outputs import NotMade, RecordIOManager, TableIOManager

DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-20")


@dg.asset(key=["shop", "features"], partitions_def=DAYS, io_manager_key="tables")
def features(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return pd.DataFrame({"day": [context.partition_key]})


@dg.asset(key=["shop", "challenger"], partitions_def=DAYS, io_manager_key="records")
def challenger() -> dict[str, Any]:
    return {"run_id": "abc"}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(root=str(tmp_path))


@pytest.fixture
def definitions(store: ArtifactStore) -> dg.Definitions:
    """A table and a record a day, of which two days were made."""
    resources = {"tables": TableIOManager(store=store), "records": RecordIOManager(store=store)}
    made = dg.Definitions(assets=[features, challenger], resources=resources)
    with dg.DagsterInstance.ephemeral() as instance:
        for day in ("2026-01-02", "2026-01-03"):
            assets = [features, challenger]
            assert dg.materialize(assets, partition_key=day, resources=resources, instance=instance).success
    return made


@pytest.mark.parametrize("asset", ["features", "challenger"])
def test_a_value_that_was_never_made_names_its_step_and_what_is_stored(
    definitions: dg.Definitions, asset: str
) -> None:
    with pytest.raises(NotMade) as missing:
        definitions.load_asset_value(["shop", asset], partition_key="2026-01-09")
    said = str(missing.value)
    assert f"shop/{asset} has nothing stored for 2026-01-09: the step {asset} makes it" in said
    assert "visionops tick shop" in said and "Stored are: 2026-01-02, 2026-01-03" in said
    assert definitions.load_asset_value(["shop", asset], partition_key="2026-01-03") is not None


def test_a_table_asked_for_without_its_partition_names_some(definitions: dg.Definitions) -> None:
    with pytest.raises(NotMade, match="give partition_key, such as 2026-01-02, 2026-01-03"):
        definitions.load_asset_value(["shop", "features"])


def test_a_table_of_which_a_part_is_gone_is_damaged_not_missing(
    definitions: dg.Definitions, store: ArtifactStore
) -> None:
    for fragment in Path(store.root).rglob("*.parquet"):
        fragment.unlink()
    with pytest.raises(
        ArtifactNotFound, match=r"shop/features/2026-01-03: a part .* step features makes it again"
    ):
        definitions.load_asset_value(["shop", "features"], partition_key="2026-01-03")
