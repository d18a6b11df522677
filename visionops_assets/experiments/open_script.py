"""Opening a run for somebody's own training script, and closing it: what it is made with, and who is told."""

import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resources.escaping import markdown
from resources.lakefs.client import LakeFSResource
from resources.model_records import (
    FAILED,
    FINISHED,
    KILLED,
    SCRIPT,
    TAG_CODE,
    TAG_COMMIT,
    TAG_DESCRIPTION,
    TAG_IDENTITY,
    TAG_KIND,
    TAG_MANIFEST,
    TAG_PARTITION,
    TAG_RECIPE,
)
from resources.models.registry import ModelRegistry
from resources.tracking import Tracking
from visionops_assets.config.recipe import canonical_json
from visionops_assets.dataset.versions.dataset_version import DatasetVersion
from visionops_assets.experiments.script import ScriptRun, script_file
from visionops_assets.project import Project
from visionops_assets.training.challenge import identity_of
from visionops_assets.training.recording import flattened

_SIDES = {"train": "training", "val": "validation"}


@contextmanager
def open_script_run(
    project: Project,
    version: DatasetVersion,
    params: Mapping[str, Any],
    *,
    name: str | None,
    normalise: bool,
    lakefs: LakeFSResource,
    registry: ModelRegistry,
    samples: Path,
) -> Iterator[ScriptRun]:
    """A new run of a script on a dataset version, closed at the end of the block, as failed by an exception."""
    script, runs = script_file(), registry.runs
    content = script.read_bytes() if script.is_file() else b""
    code = hashlib.sha256(content).hexdigest()
    parameters = made_with(project, params)
    if untrue := [name for name, value in flattened(params).items() if parameters[name] != value]:
        say(
            f"{', '.join(untrue)}: recorded as they are, not as the script says: the images come as the recipe of "
            f"{project.project} has them"
        )
    content_of_recipe = canonical_json({"script": script.name, "parameters": parameters})
    recipe = hashlib.sha256(content_of_recipe.encode()).hexdigest()
    run = runs.start(
        project.project,
        name or f"{project.project} {script.name}",
        {
            TAG_KIND: SCRIPT,
            TAG_PARTITION: version.partition,
            TAG_COMMIT: version.commit.id,
            TAG_MANIFEST: version.manifest.digest,
            TAG_RECIPE: recipe,
            TAG_CODE: code,
            TAG_IDENTITY: identity_of(project, version.manifest.digest, recipe, code),
            TAG_DESCRIPTION: markdown(f"{script.name}: {_told(project, version)}."),
        },
    )
    say(f"run {run.id} of {project.project} ({registry.run_url(run)}): {_told(project, version)}")
    tracking = Tracking(project.tracking, runs, project.project, run, say)
    status = FINISHED
    try:
        tracking.start({"script": script.name, **parameters}, run.tags)
        address = f"lakefs://{project.repository}/{version.commit.id}/"
        runs.log_dataset(run.id, address, project.repository, version.manifest.digest)
        made = ScriptRun(
            project,
            version,
            parameters,
            run=run,
            tracking=tracking,
            lakefs=lakefs,
            registry=registry,
            samples=samples,
            normalise=normalise,
        )
        yield made
    except Exception:
        status = FAILED
        raise
    except BaseException:
        status = KILLED
        raise
    finally:
        tracking.end(status)
    # The result, where `visionops train` prints its own.
    if made.is_recorded:
        print(f"run {run.id} is recorded: `visionops submit {run.id}` has it judged")
    else:
        print(f"run {run.id} is recorded without a model: with `run.log_model(model)` it can be submitted")


def made_with(project: Project, params: Mapping[str, Any]) -> dict[str, Any]:
    """What a script's run is made with, by dotted path: its parameters, and the input that its images come in."""
    spec = project.recipe.input.model_dump(mode="json", include={"height", "width", "channels", "resize"})
    return {**flattened(params), **flattened(spec, "input.")}


def say(text: str) -> None:
    """Tell whoever runs the script, beside what it prints itself."""
    print(text, file=sys.stderr)


def _told(project: Project, version: DatasetVersion) -> str:
    spec, used = project.recipe.input, version.used["split"]
    counts = " and ".join(f"{int((used == side).sum()):,} {name}" for side, name in _SIDES.items())
    colour = "grey" if spec.channels == 1 else "colour"
    return f"{counts} images, {spec.width}×{spec.height}, {colour}, of dataset version {version.partition}"
