"""A version is made again from a clone that knows only where lakeFS and MLflow are, or the reason why not is clear."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from past_and_present import SecondClone, commit_all, git
from typer.testing import CliRunner

from lakefs_local import discovery
from resources.lakefs.client import LakeFSResource
from resources.models.records import (
    ONNX_ARTIFACT,
    PROVENANCE_ARTIFACT,
    TAG_MANIFEST,
    TAG_PROVENANCE,
    TAG_REPRODUCTION,
    TAG_REPRODUCTION_PAGE,
    WEIGHTS_ARTIFACT,
    ModelNotFound,
)
from resources.storage import ArtifactStore, Scratch
from visionops_assets.reproduction import reproduce as reproduction
from visionops_assets.reproduction.certificate import Certificate, Reproduced
from visionops_assets.reproduction.clean_process import ReproductionFailed
from visionops_assets.training.challenger import PATCH_ARTIFACT
from visionops_assets.training.provenance import Provenance

pytestmark = pytest.mark.slow

Here = Callable[..., Reproduced]


@pytest.fixture
def here(second_clone: SecondClone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """Reproduce version 1 in this process, from the second clone, with the packages of then."""
    monkeypatch.setattr(reproduction, "ROOT", second_clone.folder)
    monkeypatch.setenv("PYTHONPATH", str(second_clone.packages_of_then))
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path))
    world = second_clone.world

    def run(
        version: int | None = 1,
        lakefs: LakeFSResource = world.lakefs,
        artifacts: ArtifactStore = world.artifacts,
        inputs_only: bool = False,
        present_versions: bool = False,
        register: bool = False,
        unverified: bool = False,
    ) -> Reproduced:
        return reproduction.reproduce(
            replace(
                world.services.stores, lakefs=lakefs, artifacts=artifacts, scratch=Scratch(root=str(tmp_path))
            ),
            "shapes",
            version,
            when=datetime.now(UTC),
            scope=reproduction.Scope(inputs_only, present_versions, register, unverified),
            say=lambda text: None,
        )

    return run


@contextmanager
def replaced(clone: SecondClone, path: str, content: bytes) -> Iterator[None]:
    """An artifact of version 1 altered for a while."""
    registry = clone.world.registry
    run_id = registry.models.version("shapes", 1).run_id
    kept = registry.artifacts.read_bytes(run_id, path)
    registry.artifacts.put_bytes(run_id, path, content)
    try:
        yield
    finally:
        registry.artifacts.put_bytes(run_id, path, kept)


@contextmanager
def registered_with(clone: SecondClone, tags: dict[str, str]) -> Iterator[None]:
    """Version 1 with other tags for a while."""
    models = clone.world.registry.models
    kept = {name: models.version("shapes", 1).tags[name] for name in tags}
    models.set_version_tags("shapes", 1, tags)
    try:
        yield
    finally:
        models.set_version_tags("shapes", 1, kept)


@contextmanager
def without_digest_of_record(clone: SecondClone) -> Iterator[None]:
    """Version 1 as it was registered before versions had one: nothing but MLflow's own client takes a tag away."""
    from mlflow import MlflowClient

    models, client = clone.world.registry.models, MlflowClient(clone.world.registry.uri)
    kept = models.version("shapes", 1).tags[TAG_PROVENANCE]
    client.delete_model_version_tag("shapes", "1", TAG_PROVENANCE)
    # Nor was it ever seen with one.
    clone.world.artifacts.path("registry/shapes.json").unlink(missing_ok=True)
    try:
        yield
    finally:
        models.set_version_tags("shapes", 1, {TAG_PROVENANCE: kept})


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def provenance_of(clone: SecondClone) -> Provenance:
    registry = clone.world.registry
    run_id = registry.models.version("shapes", 1).run_id
    return Provenance.from_json(registry.artifacts.read_bytes(run_id, PROVENANCE_ARTIFACT).decode())


def test_it_is_identical_though_code_dependency_and_data_moved_on(second_clone: SecondClone) -> None:
    answer = second_clone.reproduce("--model-version", "1")
    assert answer.status == 0, answer.errors
    found = answer.found
    assert (found["result"], found["compared"]) == ("identical", "weights"), found["words"]
    assert found["reproduced_weights_sha256"] == found["original_weights_sha256"]
    assert "scaling==1.0" in answer.errors, "the versions of then are named"
    assert all(pair["original"] == pair["reproduced"] for pair in found["metrics"])
    assert found["differences"] == []

    assert found["verified"]
    registry = second_clone.world.registry
    version = registry.models.version("shapes", 1)
    assert version.tags[TAG_REPRODUCTION] == "identical"
    kept = registry.artifacts.read_bytes(version.run_id, found["file"]).decode()
    assert Certificate.from_json(kept).words == found["words"]
    page = registry.artifacts.read_bytes(version.run_id, version.tags[TAG_REPRODUCTION_PAGE]).decode()
    assert "Reproduction of shapes version 1: identical" in page
    assert git(second_clone.folder, "worktree", "list").count("\n") == 0, "the worktree is gone"


@pytest.mark.stated
def test_the_packages_of_now_give_other_weights_and_the_first_that_differs_is_named(
    here: Here, second_clone: SecondClone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(second_clone.packages_of_now))
    certificate = here(present_versions=True).certificate
    assert (certificate.result, certificate.compared) == ("differs", "weights")
    first = certificate.first_difference
    assert first is not None and first.words == "versions: scaling 1.0 → 2.0"


def test_a_deleted_commit_is_the_difference(here: Here, tmp_path: Path, second_clone: SecondClone) -> None:
    with discovery.serving(tmp_path / "another") as server:
        lakefs = LakeFSResource(
            endpoint=server.endpoint,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
        )
        first = here(lakefs=lakefs).certificate.first_difference
    assert first is not None
    assert (first.kind, first.name, first.after) == ("data", "commit", "missing")
    assert first.before == provenance_of(second_clone).data.commit


def test_weights_to_start_from_that_nobody_has_any_more_are_the_difference(
    here: Here, tmp_path: Path, second_clone: SecondClone
) -> None:
    start = provenance_of(second_clone).recipe.model.init_weights
    first = here(artifacts=ArtifactStore(root=str(tmp_path / "empty"))).certificate.first_difference
    assert first is not None and start is not None
    assert (first.kind, first.name, first.before) == ("recipe", "model.init_weights", start.sha256)
    assert "cannot be read" in first.after


def test_another_manifest_at_the_commit_is_the_difference_with_both_values(
    here: Here, second_clone: SecondClone
) -> None:
    original = provenance_of(second_clone)
    other = original.model_copy(
        update={"data": original.data.model_copy(update={"manifest_digest": "0" * 64})}
    )
    with replaced(second_clone, PROVENANCE_ARTIFACT, other.to_json().encode()):
        with pytest.raises(ReproductionFailed, match=rf"was altered.*{TAG_PROVENANCE}"):
            here(unverified=True)
        digests = {TAG_MANIFEST: "0" * 64, TAG_PROVENANCE: sha256(other.to_json())}
        with registered_with(second_clone, {TAG_PROVENANCE: digests[TAG_PROVENANCE]}):
            with pytest.raises(ReproductionFailed, match=rf"was altered.*{TAG_MANIFEST}"):
                here()
            with registered_with(second_clone, digests):
                first = here().certificate.first_difference
    assert first is not None
    assert (first.kind, first.name) == ("data", "manifest")
    assert (first.before, first.after) == ("0" * 64, original.data.manifest_digest)


@pytest.mark.stated
def test_a_version_without_the_digest_of_its_record_is_made_again_only_unverified_and_marked(
    here: Here, second_clone: SecondClone
) -> None:
    registry = second_clone.world.registry
    with without_digest_of_record(second_clone):
        with pytest.raises(ReproductionFailed, match=r"registered before.*--unverified"):
            here()
        found = here(unverified=True)
        version = registry.models.version("shapes", 1)
        assert found.certificate.result == "identical" and not found.certificate.verified
        assert "not verified" in found.certificate.to_page().to_text()
        assert version.tags[TAG_REPRODUCTION] == "identical, by a record that was not verified"
    assert here(inputs_only=True).certificate.verified


@pytest.mark.parametrize(
    "altered", ["packages", "recipe", "hardware", "metrics", "project", "identity", "space"]
)
def test_nothing_of_an_altered_record_is_used(here: Here, second_clone: SecondClone, altered: str) -> None:
    kept = provenance_of(second_clone)
    content = json.loads(kept.to_json())
    match altered:
        case "packages":
            content["packages"]["scaling"] = "6.6"
        case "recipe":
            content["recipe"]["model"]["init_args"] = {"command": "id"}
        case "hardware" | "metrics":
            content[altered] = {}
        case "project" | "identity":
            content[altered] = "other"
    text = json.dumps(content, indent=3)
    with replaced(second_clone, PROVENANCE_ARTIFACT, text.encode()):
        for unverified in (False, True):
            with pytest.raises(ReproductionFailed, match=r"was altered.*restore model/provenance\.json"):
                here(unverified=unverified)


def test_a_revision_that_the_clone_lacks_is_the_difference(
    here: Here, second_clone: SecondClone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unrelated = tmp_path / "unrelated"
    unrelated.mkdir()
    git(unrelated, "init", "-q")
    (unrelated / "a.py").write_text("")
    commit_all(unrelated, "nothing of this project")
    monkeypatch.setattr(reproduction, "ROOT", unrelated)
    first = here().certificate.first_difference
    assert first is not None
    assert (first.kind, first.name, first.before) == (
        "code",
        "revision",
        provenance_of(second_clone).code.revision,
    )
    assert "git fetch" in first.after


def test_an_altered_uncommitted_change_is_not_applied_and_the_command_fails_with_a_certificate(
    here: Here, second_clone: SecondClone, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visionops.cli.command_line import app

    monkeypatch.setenv("MLFLOW_TRACKING_URI", second_clone.world.registry.uri)
    with replaced(second_clone, PATCH_ARTIFACT, b"something else"):
        result = CliRunner().invoke(app, ["reproduce", "shapes", "--json"], catch_exceptions=False)
    assert result.exit_code == 1
    first = json.loads(result.stdout)["first_difference"]
    assert (first["kind"], first["name"]) == ("code", "uncommitted change")
    assert first["after"].endswith("altered")


def test_an_unknown_version_and_one_without_provenance_are_errors_that_say_so(
    here: Here, second_clone: SecondClone
) -> None:
    with pytest.raises(ModelNotFound, match="version 9 of shapes"):
        here(version=9)
    with (
        replaced(second_clone, PROVENANCE_ARTIFACT, b"no provenance"),
        registered_with(second_clone, {TAG_PROVENANCE: sha256("no provenance")}),
        pytest.raises(ReproductionFailed, match=r"missing or unreadable.*restore model/provenance\.json"),
    ):
        here()


def test_the_job_compares_inputs_without_training_and_tells_in_production(
    here: Here, second_clone: SecondClone
) -> None:
    world = second_clone.world

    def launch(**config: object) -> dg.ExecuteInProcessResult:
        return world.definitions.resolve_job_def("shapes_reproduce").execute_in_process(
            instance=world.instance,
            run_config={"ops": {"shapes_make_again": {"config": config}}},
            raise_on_error=False,
        )

    result = launch(inputs_only=True)
    assert result.success
    (observed,) = [event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"]
    assert observed.asset_key == dg.AssetKey(["shapes", "in_production"])
    metadata = observed.asset_observation_data.asset_observation.metadata
    assert metadata["reproduction"].value == "identical"
    assert "nothing was trained" in str(metadata["finding"].value)
    assert "/artifacts/reproduction/" in str(metadata["certificate"].value)
    (failed,) = [event for event in launch(version=9).all_events if event.is_step_failure]
    said = failed.step_failure_data.user_failure_data
    assert said is not None and "version 9 of shapes" in str(said.description)


@pytest.mark.stated
def test_files_of_a_version_that_are_gone_are_put_back_as_they_were(
    second_clone: SecondClone, here: Here
) -> None:
    registry = second_clone.world.registry
    made = registry.models.version("shapes", 1)
    kept = {
        path: registry.artifacts.read_bytes(made.run_id, path) for path in (WEIGHTS_ARTIFACT, ONNX_ARTIFACT)
    }
    for gone in second_clone.world.root.rglob("model.onnx"):
        if made.run_id in gone.parts:
            gone.unlink()
    with replaced(second_clone, WEIGHTS_ARTIFACT, b"altered"):
        found = here(register=True)
        assert found.certificate.result == "identical"
        assert set(found.restored) == set(kept)
        for path, content in kept.items():
            assert registry.artifacts.read_bytes(made.run_id, path) == content
