"""A version of the past, and the present in which it is made again."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from past_and_present import (
    MODEL,
    SecondClone,
    commit_all,
    copy_of_this_code,
    git,
    installed_dependency,
    wheel_of_dependency,
)
from safetensors.torch import save

from tests.hub import a_hub
from tests.world import RECIPE, new_world, shapes_project


@pytest.fixture(scope="module")
def second_clone(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Iterator[SecondClone]:
    """Version 1 was made of uncommitted code, `scaling` 1.0 and weights of a hub. Then code, dependency and data moved
    on, and the hub lost them.
    """
    root = tmp_path_factory.mktemp("past")
    first = copy_of_this_code(root / "first")
    (first / "their_models.py").write_text(MODEL.format(width=8))
    commit_all(first, "the first model")
    # What is trained is not what is committed.
    (first / "their_models.py").write_text(MODEL.format(width=12))
    packages = installed_dependency(root / "packages-of-then", "1.0", 1.5)
    start = save({"net.1.bias": torch.linspace(-0.1, 0.1, 12)})
    with (
        a_hub() as hub,
        new_world(root / "world", mlflow_template) as world,
        pytest.MonkeyPatch.context() as patch,
    ):
        pinned = {
            "uri": hub.put("team/scaled", "model.safetensors", start),
            "sha256": hashlib.sha256(start).hexdigest(),
            "licence": "MIT",
        }
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        model = {"class_path": "their_models.Scaled", "init_weights": pinned}
        recipe = {**RECIPE, "model": model, "epochs": 4}
        world.projects = [shapes_project(recipe=recipe)]
        patch.syspath_prepend(str(packages))
        patch.syspath_prepend(str(first))
        from visionops_assets.training import challenge, code_digest

        patch.setattr(challenge, "code_state", lambda: code_digest.code_state(first))
        world.publish("week-01", 90, seed=1)
        assert world.tick().outcome == "promoted"
        assert hub.asked
        hub.files.clear()

        world.publish("week-02", 30, seed=2)
        (first / "their_models.py").write_text(MODEL.format(width=20))
        (first / "README.md").write_text("Another project.\n")
        commit_all(first, "a wider model")
        git(root, "clone", "-q", str(first), str(root / "second"))
        yield SecondClone(
            root / "second",
            world,
            packages,
            installed_dependency(root / "packages-of-now", "2.0", 3.0),
            wheel_of_dependency(root / "wheels", "1.0", 1.5),
        )
