"""Fills VISIONOPS_HOME with a first champion, a promotion and a refusal of a small project, in a process of its own."""

import os
import sys
from pathlib import Path

import dagster as dg
import yaml

from tests.world import shapes_project, write_batch
from visionops import bootstrap

PROJECT = "shapes"
# Wide enough that an honest challenger passes; a poisoned batch is below its floor all the same.
GATE = {"require": "non_inferior", "min_improvement": 0.6}
# Name, images and share of wrong labels.
WEEKS = (("week-01", 120, 0.0), ("week-02", 60, 0.0), ("week-03", 120, 0.9))
OUTCOMES = ["promoted", "promoted", "refused"]


def declare(folder: Path) -> None:
    """Write the project's file."""
    project = shapes_project()
    changed = shapes_project(gate={**project.gate.model_dump(mode="json"), **GATE})
    folder.mkdir(parents=True)
    content = changed.model_dump(mode="json", exclude_none=True)
    (folder / f"{PROJECT}.yaml").write_text(yaml.safe_dump(content))


def fill() -> None:
    """Publish week by week, as people would, and let the sensor do the rest."""
    home = bootstrap.prepare()
    declare(Path(os.environ["VISIONOPS_PROJECTS"]))
    import definitions
    from visionops import services
    from visionops.tick import tick
    from visionops_assets.dataset.batch_publishing import Publisher

    project = services.project(PROJECT)
    publisher = Publisher(project, services.lakefs(), services.artifacts())
    outcomes = []
    with dg.DagsterInstance.get() as instance:
        for seed, (batch, images, wrong) in enumerate(WEEKS, start=1):
            publisher.publish(write_batch(home / "weeks" / batch, images, seed, wrong=wrong), batch)
            (found,) = tick(definitions.defs, instance, [project], say=print)
            outcomes.append(found.outcome)
    if outcomes != OUTCOMES:
        sys.exit(f"expected {OUTCOMES}, found {outcomes}")
