"""An import killed at any instant is asked for again, and ends as if nothing had happened."""

import os
import signal
from pathlib import Path

import pytest
import yaml
from places import FolderDrop, fill

from lakefs_local import discovery
from resources.lakefs.client import LakeFSResource
from tests import processes
from tests.world import shapes_project, write_batch

PLACES = ["merge", "save", "write_many", "create_branch"]


@pytest.mark.slow
def test_a_killed_import_is_taken_again_and_published_once(tmp_path: Path, count):
    (tmp_path / "projects").mkdir()
    # What is published waits: nothing is trained here.
    content = shapes_project(trigger={"quiet_for": 86_400}).model_dump(mode="json", exclude_none=True)
    (tmp_path / "projects" / "shapes.yaml").write_text(yaml.safe_dump(content))
    home = tmp_path / "home"
    environment = {
        **os.environ,
        "VISIONOPS_HOME": str(home),
        "VISIONOPS_PROJECTS": str(tmp_path / "projects"),
    }
    for name in ("DAGSTER_HOME", "VISIONOPS_DROP", "LAKEFS_ENDPOINT", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)

    def tick(before: processes.Dying | None = None) -> processes.Ended:
        said = tmp_path / "said"
        return processes.visionops("tick", "shapes", environment=environment, said=said, before=before)

    drop = FolderDrop(home / "drop" / "shapes")
    try:
        for number, place in enumerate(PLACES[: count(1, len(PLACES))]):
            batch = f"week-{number}"
            fill(drop, batch, write_batch(tmp_path / batch, 12, seed=number))
            killed = tick(processes.Dying(LakeFSResource, place))
            assert killed.code == -signal.SIGKILL, killed.said
            again = tick()
            assert again.code == 0, f"killed at {place}: {again.said}"
            assert "shapes: published" in again.said, f"killed at {place}: {again.said}"
            lakefs = _lakefs(home)
            merges = [one for one in lakefs.log("shapes") if one.metadata.get("visionops.batch") == batch]
            assert len(merges) == 1, f"killed at {place}"
            assert len(list(lakefs.objects("shapes", "main", f"batches/{batch}/images/"))) == 12
            assert lakefs.branches("shapes", "ingest-") == []
    finally:
        discovery.stop(home / "lakefs")


def _lakefs(home: Path) -> LakeFSResource:
    server = discovery.ensure_running(home / "lakefs")
    return LakeFSResource(
        endpoint=server.endpoint,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
    )
