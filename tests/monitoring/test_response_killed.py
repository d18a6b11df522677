"""An action that is killed at any of its steps is finished by the next run, once."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from acting_world import NOW, ActingWorld, day, learnt
from production_world import ProductionWorld

from resources.lakefs.client import LakeFSResource
from resources.models.model_versions import Models
from resources.models.registry import ModelRegistry
from resources.storage import ArtifactStore
from tests import processes
from visionops_assets.champions.history import production as in_production
from visionops_assets.champions.history import read_history
from visionops_assets.config.project import Project
from visionops_assets.monitoring.response.respond import Responding

# Each follows on what the one before left: evidence and entry of the comparison, of the rollback, then its own steps.
STEPS: tuple[tuple[type, str, int], ...] = (
    (ArtifactStore, "write_json", 1),
    (Models, "set_tag", 1),
    (ArtifactStore, "write_json", 2),
    (Models, "set_tag", 1),
    (Models, "set_tag", 2),
    (Models, "set_version_tags", 1),
    (Models, "set_alias", 1),
)
RECORDED = ["comparison", "rollback"]
LAKEFS = ("endpoint", "access_key_id", "secret_access_key")


class Killed(BaseException):
    """The process is gone: nothing catches it, as nothing catches SIGKILL."""


def require_one_rollback(acting: ActingWorld) -> None:
    acting.respond()
    assert [action.kind for action in acting.actions()] == RECORDED
    model = acting.world.registry.models.get("shapes")
    now = in_production(model)
    assert now.version == acting.before.version and now.on_hold and now.incomplete is None
    voided = {entry.voids for entry in read_history(model.tags).entries}
    counted = [e for e in read_history(model.tags).entries if e.kind == "rollback" and e.number not in voided]
    assert len(counted) == 1
    assert acting.actions()[1].identity[:12] in counted[0].why


@pytest.mark.slow
def test_killed_again_and_again_at_every_step_it_still_goes_back_once(
    production: ProductionWorld, monkeypatch: pytest.MonkeyPatch
):
    acting = ActingWorld(production, before=learnt())
    acting.log()
    for owner, name, number in STEPS:
        with monkeypatch.context() as patch:
            calls: list[int] = []
            original = getattr(owner, name)

            def dying(
                *arguments: Any,
                original: Any = original,
                number: int = number,
                calls: Any = calls,
                **options: Any,
            ) -> Any:
                calls.append(1)
                if len(calls) == number:
                    raise Killed
                return original(*arguments, **options)

            patch.setattr(owner, name, dying)
            with pytest.raises(Killed):
                acting.respond()
        assert production.champion() == acting.champion.version
    require_one_rollback(acting)


def respond_and_die(
    project: Project, lakefs: Mapping[str, Any], mlflow: str, artifacts: str, dying: processes.Dying
) -> None:
    """Respond in this process, which kills itself."""
    services = LakeFSResource(**lakefs), ModelRegistry(tracking_uri=mlflow), ArtifactStore(root=artifacts)
    dying()
    Responding(project, *services, "test", NOW).respond(day(1))


@pytest.mark.stated
def test_a_process_that_was_really_killed_is_finished_by_the_next(
    production: ProductionWorld, tmp_path: Path, count: Callable[[int, int], int]
):
    acting = ActingWorld(production, before=learnt())
    acting.log()
    for owner, name, number in STEPS[-count(1, len(STEPS)) :]:
        # The first of them finds the comparison made, or makes it: one entry more before its own.
        ahead = len(acting.actions()) == 0 and name == "set_tag" and number == 2
        dying = processes.Dying(owner, name, number + ahead)
        ended = processes.run(
            respond_and_die,
            production.project,
            {name: getattr(production.lakefs, name) for name in LAKEFS},
            production.registry.tracking_uri,
            production.artifacts.root,
            dying,
            environment=dict(os.environ),
            said=tmp_path / "said.txt",
        )
        assert ended.code == -9, ended.said
        assert production.champion() == acting.champion.version
    require_one_rollback(acting)
