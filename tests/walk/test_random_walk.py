"""Whatever people do by hand, in any order, with kills in between: nothing is promoted by it, lost, or left unsaid.

Everything that people type is typed: ticks are processes, some of them killed, other commands are run in this one.
"""

import contextlib
import datetime
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from resources.models import artifacts
from resources.models.artifacts import RunArtifacts
from resources.models.model_versions import Models
from resources.models.records import HISTORY, ONNX_ARTIFACT, alias_of
from tests import processes
from tests.monitoring.logged import file_of, row
from tests.processes import Dying, Ended
from tests.walk.typing_in_process import typed_here
from tests.walk.what_was_logged import committed_rows, counted_rows, identity, spooled_rows
from tests.world import World, copied_world, copy_registry, shapes_project, write_batch
from visionops_assets.champions import registered_model
from visionops_assets.champions.history import CHANGES, production, read_history
from visionops_assets.evaluation.verdict_store import listed

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
    ("override",),
    ("reject",),
]
WRITES = {"file": (RunArtifacts, "put_bytes"), "tag": (Models, "set_tag"), "alias": (Models, "set_alias")}


def delete_tag(client: MlflowClient, key: str) -> None:
    client.delete_registered_model_tag("shapes", key)


class Walk(RuleBasedStateMachine):
    """One project of a team that does not keep to its tools."""

    template: ClassVar[Path]
    empty: ClassVar[Path]
    root: ClassVar[Path]
    # From how many rows on a day's drift is judged: that takes seconds.
    judged_rows: ClassVar[int]
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
        self.gate: dict[str, Any] = {}
        self.rules_edited(overall=0.4, approval="auto")
        self.weeks = self.copies = self.shots = 1
        self.published = {"week-01": self._images("week-01")}
        self.written: dict[str, str] = {}
        # What production was told to keep, by identity; and what runs by the last command that left all in order.
        self.rows: set[tuple[Any, ...]] = set()
        self.runs: int | None = 1

    def teardown(self) -> None:
        self._open.close()
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

    @rule(call=st.integers(1, 12), where=st.sampled_from(sorted(WRITES)))
    def look_and_die(self, call: int, where: str) -> None:
        """A tick that is killed at its n-th write."""
        self._tick(Dying(*WRITES[where], number=call))

    @rule(count=st.integers(1, 6), model=st.sampled_from(["present", "unknown"]), twice=st.booleans())
    def seen_by_a_device(self, count: int, model: str, twice: bool) -> None:
        """A device leaves what it saw in the spool, and sometimes sends it once more."""
        champion = self._champion()
        weights = champion.weights_sha256 if champion is not None and model == "present" else "e" * 64
        now = datetime.datetime.now(datetime.UTC)
        made = []
        for number in range(count):
            self.shots += 1
            when = now - datetime.timedelta(seconds=number)
            digest = f"{self.shots:064x}"
            made.append(row(number, timestamp=when, model_sha256=weights, image_sha256=digest))
        for _ in range(1 + twice):
            self.world.services.spool.put("shapes", "camera-1", file_of(*made))
        self.rows |= {identity(each) for each in made}

    @rule(seed=st.integers(0, 9))
    def predicted(self, seed: int) -> None:
        """Somebody predicts two images and has them logged: both rows are kept, or he is told that they are not."""
        folder = write_batch(self.world.root / f"seen-{next(self.number)}", 2, seed=seed)
        done = self._typed("predict", "shapes", str(folder), "--log", "--device", "desk")
        found = self._logged()
        assert found >= self.rows
        assert len(found - self.rows) == (2 if done else 0)
        self.rows = found

    @rule()
    def alias_removed(self) -> None:
        """Somebody clicks the alias away in MLflow."""
        if self._alias() is not None:
            self._mlflow(lambda client: client.delete_registered_model_alias("shapes", alias_of("all")))

    @rule(pick=st.integers(0, 5))
    def alias_moved(self, pick: int) -> None:
        """Somebody points the alias at a version in MLflow."""
        if (chosen := self._picked(pick)) is not None:
            version = str(chosen.version)
            self._mlflow(lambda client: client.set_registered_model_alias("shapes", alias_of("all"), version))

    @rule(overall=st.sampled_from([0.4, 0.45, 0.9999]), approval=st.sampled_from(["auto", "auto", "manual"]))
    def rules_edited(self, overall: float, approval: str) -> None:
        """Somebody edits the gate in the project file."""
        self.gate = {**GATE, "floors": {**GATE["floors"], "overall": overall}, "approval": approval}
        self._declare()

    @rule(wrong=st.sampled_from(["project: shapes\n", "classes: [", ""]))
    def project_file_broken(self, wrong: str) -> None:
        """Somebody spoils the project file: every verb names it, until it is corrected."""
        file = self.world.root / "projects" / "shapes.yaml"
        file.write_text(wrong)
        for words in (("status", "shapes"), ("tick",)):
            ended = self._ended(*words)
            assert ended.code == 1 and "shapes.yaml" in ended.said, ended
        assert self._champion_is(self._alias())
        self._declare()

    @rule(by_file=st.booleans())
    def renamed_and_back(self, by_file: bool) -> None:
        """Somebody gives the project another name, in its file first or not, and thinks better of it."""
        if self._wrong():
            return
        before = self._status()
        if by_file:
            self._declare("forms")
            said = " ".join(self._status("forms")["wrong"])
            assert self.runs is None or "`visionops project rename shapes" in said
        assert self._typed("project", "rename", "shapes", "forms")
        for name in ("champion", "history", "verdicts", "hold"):
            assert self._status("forms")[name] == before[name]
        assert self._typed("project", "rename", "forms", "shapes")
        self._declare()
        assert {**self._status(), "gone": []} == {**before, "gone": []}

    @rule()
    def registered_model_deleted(self) -> None:
        """Somebody deletes the project in MLflow, history and all."""
        self._mlflow(lambda client: client.delete_registered_model("shapes"))

    @rule()
    def registered_model_renamed(self) -> None:
        """Somebody gives it another name in MLflow."""
        other = f"forms-{next(self.number)}"
        self._mlflow(lambda client: client.rename_registered_model("shapes", other))
        self._mlflow(lambda client: client.delete_registered_model(other))

    @rule()
    def registry_lost(self) -> None:
        """Somebody deletes MLflow's database, and the next command makes an empty one; its runs' files stay."""
        copy_registry(self.empty / "mlflow" / "mlflow.db", self.world.root / "mlflow")
        artifacts._run.cache_clear()

    @rule()
    def history_deleted(self) -> None:
        """Somebody tidies the tags of the project in MLflow."""
        keys = self._mlflow_tags()
        for key in keys:
            self._mlflow(partial(delete_tag, key=key))
        if any(key.startswith(HISTORY) for key in keys):
            self._named("tags of registered model shapes were deleted")

    @rule(pick=st.integers(0, 5))
    def version_deleted(self, pick: int) -> None:
        """Somebody deletes a version, be it the champion; MLflow takes its aliases with it."""
        if (chosen := self._picked(pick)) is None:
            return
        version = chosen.version
        ran = any(each.version == version for each in self._production().intervals)
        self._mlflow(lambda client: client.delete_model_version("shapes", str(version)))
        if ran or version == self.runs:
            self._named(f"version {version} of shapes")

    @rule(pick=st.integers(0, 5))
    def run_deleted(self, pick: int) -> None:
        """Somebody deletes a run in MLflow, where it stays until it is collected."""
        if (chosen := self._picked(pick)) is not None:
            self._mlflow(lambda client: client.delete_run(chosen.run_id))

    @rule(key=st.sampled_from(["note", "visionops.note", "visionops.history.x"]))
    def tagged(self, key: str) -> None:
        """Somebody writes tags of his own."""
        self._mlflow(lambda client: client.set_registered_model_tag("shapes", key, "seen by Bob"))

    @rule(pick=st.integers(0, 9))
    def entry_altered(self, pick: int) -> None:
        """Somebody edits an entry of the history, or a decision."""
        keys = [key for key in self._mlflow_tags() if re.fullmatch(r"visionops\.[a-z]+\.\d{6}", key)]
        if keys:
            key = keys[pick % len(keys)]
            self._mlflow(lambda client: client.set_registered_model_tag("shapes", key, "{}"))
            self._named("were altered in MLflow")

    @rule()
    def file_removed(self) -> None:
        """Somebody removes the file that ships from MLflow's artifacts."""
        champion = self._champion()
        files = [] if champion is None else self.world.root.rglob(Path(ONNX_ARTIFACT).name)
        for file in files:
            if champion is not None and champion.run_id in file.parts:
                file.unlink()
                self._named(f"the files of version {champion.version} of shapes cannot be used")

    @rule()
    def tables_removed(self) -> None:
        """Somebody clears the artifact store, but for what is remembered of the registry."""
        for folder in (self.world.root / "artifacts").iterdir():
            if folder.name != "registry":
                shutil.rmtree(folder)
        if self._champion() is not None:
            self._named("no table of shapes is left")

    @rule()
    def repository_deleted(self) -> None:
        """Somebody deletes the repository in lakeFS: what was in it is his loss, and he is told."""
        with contextlib.suppress(Exception):
            self._lakefs(lambda client: client.repositories_api.delete_repository("shapes"))
        self.published = {}
        if self._champion() is not None:
            self._named("lakeFS has no repository shapes")

    @rule(back=st.integers(1, 3))
    def main_reset(self, back: int) -> None:
        """Somebody sets main back to an older commit in lakeFS."""
        if not self.published:
            return
        log = list(self.world.lakefs.log("shapes"))
        # One below the first batch has nothing.
        chosen = log[min(back, len(log) - 2)] if len(log) > 2 else log[0]
        self._lakefs(lambda client: client.experimental_api.hard_reset_branch("shapes", "main", chosen.id))
        found = {batch: self._images(batch) for batch in self.published}
        self.published = {batch: images for batch, images in found.items() if images}

    @rule(words=st.sampled_from(DECISIONS))
    def decided_by_a_person(self, words: tuple[str, ...]) -> None:
        """What people decide by our own verbs is done, or refused in words."""
        self._typed(words[0], "shapes", *words[1:], "--why", "because")

    @rule()
    def newest_week_retracted(self) -> None:
        """The newest batch is taken back, where it can be."""
        if not self.published:
            return
        batch = max(self.published)
        if self._typed("retract", "shapes", batch, "--why", "wrong labels"):
            del self.published[batch]

    @rule()
    def copied(self) -> None:
        """Somebody copies the home and works in the copy, which is no matter of this one."""
        from lakefs_local import discovery

        copy = self.world.root.with_name(f"{self.world.root.name}-copy")
        shutil.copytree(self.world.root, copy, symlinks=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VISIONOPS_HOME", str(copy))
            batch = write_batch(copy / "other", 12, seed=1)
            self._typed("import", "shapes", str(batch), "--batch", "other")
        discovery.stop(copy / "lakefs")
        shutil.rmtree(copy)

    @rule()
    def advice_taken(self) -> None:
        """Somebody types what `status` prints first. It is never refused, and what it is about is in order then."""
        for told in self._wrong()[:1]:
            commands = re.findall(r"`(visionops [^`]+)`", told)
            if not commands:
                assert "restore" in told, f"no way back is printed: {told}"
            elif "SOURCE" in commands[0]:
                self.publish(seed=2, wrong=0.0)
                assert told not in self._wrong()
            elif "verify" not in commands[0]:
                words = commands[0].replace("TEXT", "because").split()[1:]
                if words[0] == "tick":
                    self._tick(words=words)
                else:
                    assert self._typed(*words), f"{words} was advised and refused"
                    assert told not in self._wrong()

    @invariant()
    def what_runs_has_a_reason(self) -> None:
        """No champion without a PASS or an override on record, but by hands, which status names."""
        model = self.world.registry.models.get("shapes")
        now, verdicts = production(model), listed(model.tags)
        state = self._status()
        clear = not (state["moved_by_hand"] or state["incomplete"])
        # Asked of MLflow itself, and not of what we make of it.
        if self._alias_in_mlflow() != self.runs:
            assert not clear, f"version {self.runs} is to run, and {state} says nothing of it"
            assert state["wrong"], "status names what somebody did by hand"
        if not clear:
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

    @invariant()
    def no_row_is_lost_and_none_counted_twice(self) -> None:
        """What production was told to keep waits in the spool or is committed; a day's table has no row twice."""
        assert self._logged() == self.rows
        counted = counted_rows(self.world.artifacts)
        assert len(counted) == len(set(counted)) and set(counted) <= self.rows

    def _tick(self, before: Callable[[], None] | None = None, words: list[str] | None = None) -> None:
        """A process; killed, or with an exit code that `status` confirms."""
        state, alias = self._status(), self._alias_in_mlflow()
        ended = processes.visionops(
            *(words or ["tick", "shapes"]),
            environment=os.environ,
            said=self.world.root / "said",
            before=before,
        )
        # What this process knows of the others' runs is old.
        artifacts._run.cache_clear()
        if before is None or ended.code >= 0:
            assert ended.code in (0, 1), ended.said
            assert ("error: " in ended.said) == (ended.code == 1), ended.said
        unclear = state["moved_by_hand"] or (
            state["incomplete"] and state["incomplete"]["kind"] not in ("promotion", "override")
        )
        if unclear:
            assert self._alias_in_mlflow() == alias, (
                "a tick changed what runs though it is not clear what does"
            )
            assert ended.code != 0, f"a tick found nothing wrong: {ended.said}"
        self._take_what_runs()
        if ended.code == 0:
            assert self._wrong() == [], f"exit code 0, and {ended.said}"
            if "logged" in ended.said:
                assert not self.world.services.spool.files("shapes")

    def _typed(self, *words: str) -> bool:
        """Whether a verb did what was asked; it may refuse in words, and in no other way."""
        ended = self._ended(*words)
        if ended.code == 1:
            assert re.search(r"error: \S", ended.said), f"{words} was refused without a word: {ended.said}"
        self._take_what_runs()
        return ended.code == 0

    def _ended(self, *words: str) -> Ended:
        ended = typed_here(*words)
        assert ended.code in (0, 1), f"{words} ends with {ended.code}: {ended.said}"
        return ended

    def _status(self, project: str = "shapes") -> dict[str, Any]:
        ended = self._ended("status", project, "--json")
        assert ended.code == 0, ended.said
        return dict(json.loads(ended.said[ended.said.index("{") :]))

    def _wrong(self) -> list[str]:
        return [str(each) for each in self._status()["wrong"]]

    def _named(self, words: str) -> None:
        """`status` says so, as wrong or as gone."""
        state = self._status()
        assert any(words in each for each in state["wrong"] + state["gone"]), (words, state)

    def _take_what_runs(self) -> None:
        """After a command that left all in order, this is what is to run."""
        now = self._production()
        if not now.foreign and now.incomplete is None:
            self.runs = now.version

    def _logged(self) -> set[tuple[Any, ...]]:
        return spooled_rows(self.world.services.spool) | committed_rows(self.world.lakefs)

    def _declare(self, name: str = "shapes") -> None:
        changes: dict[str, Any] = {
            "project": name,
            "gate": self.gate,
            "trigger": {"attempts": 20},
            "drift": {"min_rows": self.judged_rows},
            "production": {"collect_every": 0.001, "look_every": 0},
        }
        self.world.projects = [shapes_project(**changes)]
        declared = self.world.project.model_dump(mode="json", exclude_none=True)
        for file in (self.world.root / "projects").iterdir():
            file.unlink()
        (self.world.root / "projects" / f"{name}.yaml").write_text(yaml.safe_dump(declared))

    def _images(self, batch: str) -> dict[str, str]:
        found = self.world.lakefs.objects("shapes", "main", f"batches/{batch}/images/")
        return {entry.path: entry.checksum for entry in found}

    def _production(self) -> Any:
        return production(self.world.registry.models.get("shapes"))

    def _champion(self) -> Any:
        """The version that runs, where it is clear and registered."""
        now, model = self._production(), self.world.registry.models.get("shapes")
        if now.version is None or now.foreign or not model.has(now.version):
            return None
        return self.world.registry.models.version("shapes", now.version)

    def _champion_is(self, version: int | None) -> bool:
        return self._alias() == version

    def _picked(self, pick: int) -> Any:
        versions = self.world.registry.models.versions("shapes")
        return versions[pick % len(versions)] if versions else None

    def _mlflow_tags(self) -> list[str]:
        try:
            return list(MlflowClient(*[self.world.registry.uri] * 2).get_registered_model("shapes").tags)
        except MlflowException:
            return []

    def _alias(self) -> int | None:
        return self.world.registry.models.get("shapes").aliases.get(alias_of("all"))

    def _alias_in_mlflow(self) -> int | None:
        client = MlflowClient(self.world.registry.uri, self.world.registry.uri)
        try:
            return int(client.get_model_version_by_alias("shapes", alias_of("all")).version)
        except MlflowException:
            return None

    def _mlflow(self, act: Callable[[MlflowClient], object]) -> None:
        uri = self.world.registry.uri
        with contextlib.suppress(MlflowException):
            act(MlflowClient(uri, uri))

    def _lakefs(self, act: Callable[[Any], object]) -> None:
        self.world.lakefs._connection.call(act)


@pytest.mark.slow
def test_no_order_of_hands_and_kills_promotes_loses_or_hides_anything(
    promoted_template: Path, empty_template: Path, tmp_path: Path, count: Callable[[int, int], int]
) -> None:
    Walk.template, Walk.empty, Walk.root = promoted_template, empty_template, tmp_path
    Walk.judged_rows = count(30, 5)
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
