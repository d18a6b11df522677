"""What is wrong with one project file is that project's matter alone."""

import json
import sys

from desk import Desk
from typer.testing import CliRunner

from tests.world import write_batch


def test_a_project_file_with_a_typo_stops_only_its_own_project(desk: Desk) -> None:
    from visionops.command_line import app

    folder = desk.world.root / "projects"
    bad = folder / "signs.yaml"
    bad.write_text(
        (folder / "shapes.yaml").read_text().replace("project: shapes", "project: signs\nwidth: 8")
    )
    batch = write_batch(desk.world.root / "week-01", 60, seed=1)
    assert "60 images" in desk.run("import", "shapes", str(batch), "--batch", "week-01")
    assert desk.json("status", "shapes")["champion"] is None
    assert [found["outcome"] for found in desk.json("tick", "shapes")] == ["promoted"]

    sys.modules.pop("definitions", None)
    everything = CliRunner().invoke(app, ["tick", "--json"])
    assert everything.exit_code == 1, "one of the projects was not looked at"
    shapes, signs = json.loads(everything.stdout)
    assert (shapes["project"], shapes["outcome"]) == ("shapes", None)
    assert (signs["project"], signs["outcome"]) == ("signs", "error")
    assert str(bad) in signs["reason"]

    named = CliRunner().invoke(app, ["status", "signs"])
    assert named.exit_code == 1 and str(bad) in str(named.exception)
