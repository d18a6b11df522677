"""An import killed at any instant is asked for again, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import yaml
from places import FolderDrop, fill

from lakefs_local import discovery
from resources.lakefs import LakeFSResource
from tests.world import shapes_project, write_batch

# Kills its own process before the named request to lakeFS, then does what the command line does.
KILLED_AT = """
import os, signal, sys
from resources.lakefs import LakeFSResource
place = sys.argv.pop(1)
def dying(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(LakeFSResource, place, dying)
from visionops.__main__ import main
main()
"""
PLACES = ["merge", "save", "write_many", "create_branch"]


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

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300
        )

    drop = FolderDrop(home / "drop" / "shapes")
    try:
        for number, place in enumerate(PLACES[: count(1, len(PLACES))]):
            batch = f"week-{number}"
            fill(drop, batch, write_batch(tmp_path / batch, 12, seed=number))
            killed = run("-c", KILLED_AT, place, "tick", "shapes")
            assert killed.returncode == -signal.SIGKILL, killed.stderr
            again = run("-m", "visionops", "tick", "shapes")
            assert again.returncode == 0, f"killed at {place}: {again.stdout}{again.stderr}"
            assert "shapes: published" in again.stdout, f"killed at {place}: {again.stdout}"
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
