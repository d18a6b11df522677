"""MLflow through the narrow interface, on a real sqlite store."""

import hashlib
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from resources.models import mlflow_client
from resources.models.records import (
    FAILED,
    FINISHED,
    RUNNING,
    TAG_ONNX,
    TAG_PROJECT,
    TAG_WEIGHTS,
    ArtifactMissing,
    ModelNotFound,
    RegistryRefused,
    RegistryUnavailable,
    RunNotFound,
)
from resources.models.registry import ModelRegistry
from tests.processes import context as processes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    return ModelRegistry(tracking_uri=f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")


def test_interrupted_run_is_resumed_and_finished_run_is_reused(registry: ModelRegistry) -> None:
    first = registry.runs.open("resumed", "identity-1", "week-1", {"visionops.partition": "p"})
    again = registry.runs.open("resumed", "identity-1", "week-1", {"visionops.partition": "p"})
    assert again.id == first.id and again.status == RUNNING

    registry.runs.end(first.id, FAILED)
    resumed = registry.runs.open("resumed", "identity-1", "week-1", {"dagster.run_id": "second"})
    assert (resumed.id, resumed.status, resumed.ended) == (first.id, RUNNING, None)
    assert resumed.tags["dagster.run_id"] == "second" and resumed.tags[TAG_PROJECT] == "resumed"

    registry.runs.end(first.id, FINISHED)
    assert registry.runs.open("resumed", "identity-1", "week-1", {}).finished
    fresh = registry.runs.open("resumed", "identity-1", "week-1", {}, fresh=True)
    assert fresh.id != first.id and not fresh.finished
    assert registry.runs.open("resumed", "identity-2", "week-2", {}).id not in {first.id, fresh.id}


def test_finished_run_is_found_only_in_its_own_project(registry: ModelRegistry) -> None:
    run = registry.runs.open("one", "same", "r", {})
    registry.runs.end(run.id)
    assert registry.runs.find("two", "same") is None
    found = registry.runs.find("one", "same")
    assert found is not None and found.id == run.id


def test_parameters_metrics_and_one_dataset_entry_are_read_back(registry: ModelRegistry) -> None:
    run = registry.runs.start("logged", "r", {})
    registry.runs.log_params(run.id, {"epochs": 3, "augment": {"flip": True}, "optimiser": "adam"})
    registry.runs.log_params(run.id, {"epochs": 3})
    for epoch in range(3):
        registry.runs.log_metrics(run.id, {"val_loss": 1.0 / (epoch + 1)}, step=epoch)
    registry.runs.log_dataset(run.id, "lakefs://digits/abc/", "digits@abc", "f" * 64)

    found = registry.runs.get(run.id)
    assert found.params == {"epochs": "3", "augment": '{"flip": true}', "optimiser": "adam"}
    assert found.metrics == {"val_loss": pytest.approx(1 / 3)}
    client = mlflow_client.open_client(registry.uri)
    assert [point.step for point in client.get_metric_history(run.id, "val_loss")] == [0, 1, 2]
    for loss in (0.5, 0.5, 0.4, 0.4):
        registry.runs.log_points(run.id, {"loss": {20260601: 0.6, 20260602: loss}})
    points = [(point.step, point.value) for point in client.get_metric_history(run.id, "loss")]
    assert points == [(20260601, 0.6), (20260602, 0.5), (20260602, 0.4)], "said again where it changed only"
    inputs = client.get_run(run.id).inputs
    assert inputs is not None
    assert [entry.dataset.source for entry in inputs.dataset_inputs] == ['{"uri": "lakefs://digits/abc/"}']


def test_more_parameters_than_one_batch_are_all_recorded(registry: ModelRegistry) -> None:
    run = registry.runs.start("logged", "many", {})
    registry.runs.log_params(run.id, {f"p{number}": number for number in range(250)})
    assert len(registry.runs.get(run.id).params) == 250


def test_changed_parameter_and_overlong_tag_are_refused(registry: ModelRegistry) -> None:
    run = registry.runs.start("logged", "changed", {})
    registry.runs.log_params(run.id, {"epochs": 3})
    with pytest.raises(RegistryRefused, match="epochs"):
        registry.runs.log_params(run.id, {"epochs": 4})
    with pytest.raises(RegistryRefused, match="shorten"):
        registry.models.set_tag("logged", "visionops.history.000001", "w" * 5001)


def test_artifacts_come_back_with_their_digest(registry: ModelRegistry, tmp_path: Path) -> None:
    run = registry.runs.start("files", "r", {})
    data = os.urandom(10_000)
    source = tmp_path / "elsewhere.bin"
    source.write_bytes(data)
    registry.artifacts.put_bytes(run.id, "verdicts/a/verdict.json", b"{}")
    registry.artifacts.put_file(run.id, "model/weights.safetensors", source)

    assert registry.artifacts.read_bytes(run.id, "verdicts/a/verdict.json") == b"{}"
    fetched = registry.artifacts.fetch(run.id, "model/weights.safetensors", tmp_path / "deep" / "w.bin")
    assert fetched.read_bytes() == data
    digest = registry.artifacts.sha256(run.id, "model/weights.safetensors")
    assert digest == hashlib.sha256(data).hexdigest()
    assert [(each.path, each.size) for each in registry.artifacts.list(run.id, "model")] == [
        ("model/weights.safetensors", 10_000)
    ]
    assert registry.artifacts.exists(run.id, "model/weights.safetensors")
    assert not registry.artifacts.exists(run.id, "model/other")


def test_absent_things_are_named(registry: ModelRegistry) -> None:
    run = registry.runs.start("files", "absent", {})
    with pytest.raises(ArtifactMissing, match=f"run {run.id} has no artifact model/model.onnx"):
        registry.artifacts.read_bytes(run.id, "model/model.onnx")
    with pytest.raises(RunNotFound, match="run 0000"):
        registry.runs.get("0" * 32)
    with pytest.raises(ModelNotFound, match="version 7 of files"):
        registry.models.version("files", 7)
    with pytest.raises(RegistryRefused, match="stay inside"):
        registry.artifacts.put_bytes(run.id, "../../other", b"")
    assert registry.models.get("never-registered").aliases == {}
    assert registry.models.versions("never-registered") == []


def test_a_project_without_versions_is_not_suggested_instead_of_itself(registry: ModelRegistry) -> None:
    registry.models.ensure("unversioned")
    with pytest.raises(ModelNotFound, match="no version of unversioned is registered") as found:
        registry.models.version("unversioned", 2)
    assert "did you mean unversioned" not in str(found.value)
    assert str(found.value).count("unversioned") == 2, found.value


def test_same_files_are_one_version_and_other_files_another(registry: ModelRegistry) -> None:
    run = registry.runs.start("versions", "r", {})
    files = {TAG_WEIGHTS: "a" * 64, TAG_ONNX: "b" * 64}
    first = registry.models.create_version("versions", run.id, files)
    assert registry.models.create_version("versions", run.id, files).version == first.version == 1
    other = registry.models.create_version("versions", run.id, {**files, TAG_ONNX: "c" * 64})
    assert other.version == 2
    assert first.weights_sha256 == "a" * 64 and other.onnx_sha256 == "c" * 64


def test_aliases_and_tags_are_read_back(registry: ModelRegistry) -> None:
    run = registry.runs.start("aliased", "r", {})
    made = registry.models.create_version("aliased", run.id, {TAG_WEIGHTS: "a", TAG_ONNX: "b"})
    registry.models.set_alias("aliased", "champion", made.version)
    registry.models.set_alias("aliased", "champion-line-4", made.version)
    registry.models.set_tag("aliased", "visionops.history.000001", "{}")
    registry.models.set_version_tags("aliased", made.version, {"visionops.promoted_by": "ada"})

    model = registry.models.get("aliased")
    assert model.aliases == {"champion": 1, "champion-line-4": 1}
    assert model.tags == {"visionops.history.000001": "{}"}
    assert registry.models.versions("aliased")[0].tags["visionops.promoted_by"] == "ada"
    with pytest.raises(ModelNotFound):
        registry.models.set_alias("aliased", "champion", 9)


def test_links_lead_to_the_run_and_the_version(registry: ModelRegistry) -> None:
    run = registry.runs.start("linked", "r", {})
    page = f"http://127.0.0.1:5000/#/experiments/{run.experiment_id}/runs/{run.id}"
    assert registry.run_url(run) == f"{page}?workflowType=machine_learning"
    assert (
        registry.run_url(run, "model_card.md")
        == f"{page}/artifacts/model_card.md?workflowType=machine_learning"
    )
    remote = ModelRegistry(tracking_uri="https://mlflow.example/")
    assert remote.version_url("linked", 3) == (
        "https://mlflow.example/#/models/linked/versions/3?workflowType=machine_learning"
    )


def test_dead_server_is_one_clear_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    registry = ModelRegistry(tracking_uri=f"http://user:secret@127.0.0.1:{port}")
    with pytest.raises(RegistryUnavailable) as error:
        registry.models.get("digits")
    assert f"http://127.0.0.1:{port}" in str(error.value) and "MLFLOW_TRACKING_URI" in str(error.value)
    assert "secret" not in str(error.value) and "\n" not in str(error.value)


def test_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    registry = ModelRegistry(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(RegistryUnavailable, match="check that"):
        registry.models.get("digits")


def test_locked_database_is_one_clear_error(registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    registry.models.get("digits")
    client = mlflow_client.open_client(registry.uri)

    # What MLflow raises after its own wait of 20 seconds.
    def locked(name: str) -> None:
        raise MlflowException(
            "database is locked", error_code=TEMPORARILY_UNAVAILABLE
        ) from sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(client, "get_registered_model", locked)
    with pytest.raises(RegistryUnavailable, match=r"another process holds mlflow\.db"):
        registry.models.get("digits")


def write_to_a_shared_store(uri: str, name: str) -> None:
    registry = ModelRegistry(tracking_uri=uri)
    for number in range(8):
        run = registry.runs.start("shared", f"{name}-{number}", {})
        registry.runs.log_metrics(run.id, {"loss": 1.0}, step=0)
        registry.artifacts.put_bytes(run.id, "note.txt", name.encode())
        registry.models.set_tag("shared", f"by.{name}.{number}", "x")
        registry.runs.end(run.id)


@pytest.mark.slow
def test_processes_that_open_a_new_store_at_once_all_succeed(tmp_path: Path, count) -> None:
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    writers = [
        processes.Process(target=write_to_a_shared_store, args=(uri, f"writer{number}"))
        for number in range(count(2, 8))
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(300)
        assert writer.exitcode == 0
    registry = ModelRegistry(tracking_uri=uri)
    runs = registry.runs.search("shared")
    assert len(runs) == 8 * len(writers) and all(run.finished for run in runs)
    assert len(registry.models.get("shared").tags) == 8 * len(writers)


def test_importing_the_resource_does_not_import_mlflow() -> None:
    check = "import sys, resources.models.registry; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0
