"""Whatever people do by hand, in any order, with kills in between: nothing is promoted by it, lost, or left unsaid."""

import contextlib
import itertools
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from typer.testing import CliRunner

from resources.models import artifacts
from resources.models.artifacts import RunArtifacts
from resources.models.model_versions import Models
from resources.models.records import HISTORY, alias_of
from tests.world import World, copied_world, copy_registry, shapes_project, write_batch
from visionops.tick import Tick, tick
from visionops_assets.champions import registered_model
from visionops_assets.champions.disagreements import Disagreement, disagreements
from visionops_assets.champions.history import CHANGES, production, read_history
from visionops_assets.evaluation.verdict_store import listed

# What a person may be refused by; anything else is a bug.
REFUSALS = (RuntimeError, ValueError, LookupError)
BUGS = (KeyError, IndexError, UnicodeError)
# Wide enough that an honest challenger often passes.
GATE: dict[str, Any] = {
    "floors": {"overall": 0.4, "batch": 0.4, "min_samples": 10},
    "min_holdout": 10,
    "bootstrap": {"draws": 1000},
    "require": "non_inferior",
    "min_improvement": 0.3,
}


DECISIONS = [
    ("rollback",),
    ("rollback", "--model-version", "1"),
    ("rollback", "--model-version", "none"),
    ("hold",),
    ("release",),
]


def delete_tag(client: MlflowClient, key: str) -> None:
    client.delete_registered_model_tag("shapes", key)


class Killed(BaseException):
    """A process that ends here."""


class Walk(RuleBasedStateMachine):
    """One project of a team that does not keep to its tools."""

    template: ClassVar[Path]
    empty: ClassVar[Path]
    root: ClassVar[Path]
    number: ClassVar["itertools.count[int]"] = itertools.count()

    @initialize()
    def begin(self) -> None:
        """A champion, from week-01."""
        self._open = contextlib.ExitStack()
        folder = self.root / str(next(self.number))
        self.world: World = self._open.enter_context(copied_world(self.template, folder))
        patch = self._open.enter_context(pytest.MonkeyPatch.context())
        for name in ("LAKEFS_ENDPOINT", "MLFLOW_TRACKING_URI", "VISIONOPS_ARTIFACTS"):
            patch.delenv(name, raising=False)
        patch.setenv("VISIONOPS_HOME", str(folder))
        patch.setenv("VISIONOPS_PROJECTS", str(folder / "projects"))
        patch.setenv("VISIONOPS_ACTOR", "ada@example.com")
        (folder / "projects").mkdir()
        self.rules_edited(overall=0.4, approval="auto")
        self.weeks = 1
        self.published = {"week-01": self._images("week-01")}
        self.written: dict[str, str] = {}

    def teardown(self) -> None:
        self._open.close()
        sys.modules.pop("definitions", None)
        artifacts._run.cache_clear()
        shutil.rmtree(self.world.root, ignore_errors=True)

    @rule(seed=st.integers(2, 9), wrong=st.sampled_from([0.0, 0.0, 0.9]))
    def publish(self, seed: int, wrong: float) -> None:
        """A good week, or one whose labels are wrong."""
        self.weeks += 1
        batch = f"week-{self.weeks:02d}"
        self.world.publish(batch, 45, seed=100 * self.weeks + seed, wrong=wrong)
        self.published[batch] = self._images(batch)

    @rule()
    def look(self) -> None:
        """A tick, undisturbed. It promotes only where history and registry agree on what runs."""
        self._tick()

    @rule(call=st.integers(0, 12), where=st.sampled_from(["file", "tag", "alias"]))
    def look_and_die(self, call: int, where: str) -> None:
        """A tick that is killed at its n-th write."""
        owner, name = {
            "file": (RunArtifacts, "put_bytes"),
            "tag": (Models, "set_tag"),
            "alias": (Models, "set_alias"),
        }[where]
        original, calls = getattr(owner, name), itertools.count()

        def dying(*arguments: Any, **named: Any) -> Any:
            if next(calls) == call:
                raise Killed
            return original(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(owner, name, dying)
            self._tick()

    @rule()
    def alias_removed(self) -> None:
        """Somebody clicks the alias away in MLflow."""
        if self._alias() is not None:
            self._mlflow(lambda client: client.delete_registered_model_alias("shapes", alias_of("all")))

    @rule(pick=st.integers(0, 5))
    def alias_moved(self, pick: int) -> None:
        """Somebody points the alias at a version in MLflow."""
        versions = self.world.registry.models.versions("shapes")
        if versions:
            chosen = str(versions[pick % len(versions)].version)
            self._mlflow(lambda client: client.set_registered_model_alias("shapes", alias_of("all"), chosen))

    @rule(overall=st.sampled_from([0.4, 0.45, 0.9999]), approval=st.sampled_from(["auto", "auto", "manual"]))
    def rules_edited(self, overall: float, approval: str) -> None:
        """Somebody edits the gate in the project file."""
        gate = {**GATE, "floors": {**GATE["floors"], "overall": overall}, "approval": approval}
        self.world.projects = [shapes_project(gate=gate, trigger={"attempts": 20})]
        declared = self.world.project.model_dump_json(exclude_none=True)
        (self.world.root / "projects" / "shapes.yaml").write_text(declared)

    @rule()
    def registered_model_deleted(self) -> None:
        """Somebody deletes the project in MLflow, history and all."""
        self._mlflow(lambda client: client.delete_registered_model("shapes"))

    @rule()
    def registry_lost(self) -> None:
        """Somebody deletes MLflow's database, and the next command makes an empty one; its runs' files stay."""
        copy_registry(self.empty / "mlflow" / "mlflow.db", self.world.root / "mlflow")
        artifacts._run.cache_clear()

    @rule()
    def history_deleted(self) -> None:
        """Somebody tidies the tags of the project in MLflow."""
        for key in self._mlflow_tags():
            self._mlflow(partial(delete_tag, key=key))

    @rule()
    def advice_taken(self) -> None:
        """Somebody types what `status` prints. It is never refused, and what it is about is in order then."""
        before = [each for each in self._disagreements() if each.wrong]
        for found in before[:1]:
            words = found.way_back.split("`")[1].split()[1:]
            assert self._verb(*words), f"{words} was advised and refused"
            assert found not in self._disagreements()

    @rule(pick=st.integers(0, 5))
    def version_deleted(self, pick: int) -> None:
        """Somebody deletes a version, be it the champion; MLflow takes its aliases with it."""
        versions = self.world.registry.models.versions("shapes")
        if versions:
            chosen = str(versions[pick % len(versions)].version)
            self._mlflow(lambda client: client.delete_model_version("shapes", chosen))

    @rule(pick=st.integers(0, 5))
    def run_deleted(self, pick: int) -> None:
        """Somebody deletes a run in MLflow."""
        versions = self.world.registry.models.versions("shapes")
        if versions:
            self._mlflow(lambda client: client.delete_run(versions[pick % len(versions)].run_id))

    @rule(key=st.sampled_from(["note", "visionops.note", "visionops.history.x"]))
    def tagged(self, key: str) -> None:
        """Somebody writes tags of his own."""
        self._mlflow(lambda client: client.set_registered_model_tag("shapes", key, "seen by Bob"))

    @rule(words=st.sampled_from(DECISIONS))
    def decided_by_a_person(self, words: tuple[str, ...]) -> None:
        """What people decide by our own verbs is done, or refused in words."""
        self._verb(words[0], "shapes", *words[1:], "--why", "because")

    @rule()
    def newest_week_retracted(self) -> None:
        """The newest batch is taken back, where it can be."""
        batch = max(self.published)
        if self._verb("retract", "shapes", batch, "--why", "wrong labels"):
            del self.published[batch]
            if not self.published:
                self.publish(seed=2, wrong=0.0)

    @rule()
    def copied(self) -> None:
        """Somebody copies the home and looks at the copy, which is no matter of this one."""
        copy = self.world.root.with_name(f"{self.world.root.name}-copy")
        shutil.copytree(self.world.root, copy, symlinks=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VISIONOPS_HOME", str(copy))
            self._verb("import", "shapes", str(write_batch(copy / "other", 12, seed=1)), "--batch", "other")
        from lakefs_local import discovery

        discovery.stop(copy / "lakefs")
        shutil.rmtree(copy)

    @invariant()
    def what_runs_has_a_reason(self) -> None:
        """No champion without a PASS or an override on record, but by hands, which status names."""
        model = self.world.registry.models.get("shapes")
        now, verdicts = production(model), listed(model.tags)
        state = self._status()
        if now.foreign or now.incomplete is not None:
            assert state["moved_by_hand"] or state["incomplete"], state
            assert state["wrong"] or not now.foreign, "status names what somebody did by hand"
            return
        entries = [entry for entry in read_history(model.tags).entries if entry.kind in CHANGES]
        assert entries, "week-01 was promoted"
        if now.version is None:
            assert now.since is not None and now.since.kind == "retirement"
            return
        brought = now.arrival(now.version)
        assert brought, f"version {now.version} came into production by nothing on record"
        if brought.kind == "promotion":
            assert verdicts[brought.verdict or ""].outcome == "PASS"

    @invariant()
    def nothing_on_record_is_lost(self) -> None:
        """History and decisions, and with them the level that was spent, are what they were, and more."""
        tags = self.world.registry.models.get("shapes").tags
        entries = {
            key: value
            for key, value in tags.items()
            if key.startswith((HISTORY, registered_model.DECISION_ENTRIES))
        }
        assert self.written.items() <= entries.items()
        self.written = entries

    @invariant()
    def no_image_is_lost(self) -> None:
        """What was published and not taken back is on main, byte for byte."""
        for batch, images in self.published.items():
            assert self._images(batch) == images

    def _tick(self) -> list[Tick]:
        model = self.world.registry.models.get("shapes")
        before = production(model)
        agreed = not before.foreign
        ticks = tick(self.world.definitions, self.world.instance, [self.world.project])
        after = self._alias()
        if not agreed:
            assert after == before.version, "a tick changed what runs though the history says something else"
            assert any(found.outcome == "error" for found in ticks), "a tick found nothing wrong"
        assert all(found.reason for found in ticks)
        for found in ticks:
            assert found.outcome != "promoted" or after is not None
        return ticks

    def _status(self) -> dict[str, Any]:
        import json

        return dict(json.loads(self._said("status", "shapes", "--json")))

    def _verb(self, *words: str) -> bool:
        """Whether a verb did what was asked; it may refuse in words, and in no other way."""
        try:
            self._said(*words)
        except BUGS:
            raise
        except REFUSALS as refusal:
            assert str(refusal).strip(), f"{words} was refused without a word"
            return False
        return True

    def _said(self, *words: str) -> str:
        from visionops.cli.command_line import app

        sys.modules.pop("definitions", None)
        result = CliRunner().invoke(app, list(words), catch_exceptions=False)
        assert result.exit_code in (0, 1), result.output
        return result.stdout

    def _images(self, batch: str) -> dict[str, str]:
        found = self.world.lakefs.objects("shapes", "main", f"batches/{batch}/images/")
        return {entry.path: entry.checksum for entry in found}

    def _disagreements(self) -> list[Disagreement]:
        return disagreements(self.world.registry, "shapes")

    def _mlflow_tags(self) -> list[str]:
        try:
            return list(MlflowClient(*[self.world.registry.uri] * 2).get_registered_model("shapes").tags)
        except MlflowException:
            return []

    def _alias(self) -> int | None:
        return self.world.registry.models.get("shapes").aliases.get(alias_of("all"))

    def _mlflow(self, act: Callable[[MlflowClient], object]) -> None:
        uri = self.world.registry.uri
        with contextlib.suppress(MlflowException):
            act(MlflowClient(uri, uri))


def test_no_order_of_hands_and_kills_promotes_loses_or_hides_anything(
    promoted_template: Path, empty_template: Path, tmp_path: Path, count: Callable[[int, int], int]
) -> None:
    Walk.template, Walk.empty, Walk.root = promoted_template, empty_template, tmp_path
    run_state_machine_as_test(
        Walk,
        settings=settings(
            max_examples=count(1, 20),
            stateful_step_count=count(8, 25),
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
