"""Weights to start from: fetched once, kept, held to their digests, and fitted to a model of other classes."""

import hashlib
import io
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from catalogue_world import train_catalogued
from foreign_models import PlainNet
from safetensors.torch import load, save
from torch import Tensor
from typer.testing import CliRunner

from resources.storage import ArtifactDamaged, ArtifactStore
from tests.hub import REVISION, Hub, a_hub
from visionops.cli.command_line import app
from visionops_assets.common.errors import WeightsError
from visionops_assets.config.recipe import InitWeights, InputSpec, ModelSpec, Recipe
from visionops_assets.training.catalogue.timm_classifier import TimmClassifier
from visionops_assets.training.model_files import save_weights
from visionops_assets.training.pretrained import weights_source
from visionops_assets.training.pretrained.kept_weights import kept, key_of, local_weights
from visionops_assets.training.pretrained.weights_fitting import start_from

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with a_hub() as there:
        monkeypatch.setenv("HF_ENDPOINT", there.endpoint)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield there


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(root=str(tmp_path / "artifacts"))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def declared(uri: str, content: bytes, **more: str) -> InitWeights:
    return InitWeights.model_validate({"uri": uri, "sha256": sha256(content), "licence": "MIT", **more})


def pickled(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def test_they_are_fetched_once_and_then_nobody_is_asked(
    hub: Hub, store: ArtifactStore, tmp_path: Path
) -> None:
    content = save(TENSORS)
    hub.files["/plain.safetensors"] = content
    for uri in (hub.put("team/net", "model.safetensors", content), f"{hub.endpoint}/plain.safetensors"):
        start = declared(uri, content)
        assert kept(start, store) == content
        asked = len(hub.asked)
        copy = local_weights(start, store, tmp_path / "work")
        assert copy is not None and copy.read_bytes() == content
        assert len(hub.asked) == asked > 0
        store.path(key_of(start.sha256)).unlink()
    assert local_weights(None, store, tmp_path) is None


def test_a_hub_that_is_gone_or_lacks_the_file_is_named(hub: Hub, store: ArtifactStore) -> None:
    uri = hub.put("team/net", "model.safetensors", b"")
    absent = uri.replace("model.", "other.")
    with pytest.raises(WeightsError, match=r"hf://team/net@0123.*/other\.safetensors: cannot be read \("):
        kept(declared(absent, b""), store)
    with pytest.raises(WeightsError, match=r"http://127.*/absent: cannot be read \(404"):
        kept(declared(f"{hub.endpoint}/absent", b""), store)
    assert store.names("weights") == []


@pytest.mark.parametrize(
    "named", ["hub.example.com", "ftp://hub.example.com", "http://", "http://hub:port", "https://[::1"]
)
def test_a_hub_whose_address_is_none_is_named(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", named)
    told = CliRunner().invoke(app, ["weights", "fetch", "timm/resnet18"])
    assert isinstance(told.exception, WeightsError)
    assert f"HF_ENDPOINT is {named!r}: expected the address of a hub, such as https://" in str(told.exception)


def test_weights_for_images_of_another_size_and_by_former_names_are_made_the_models_own() -> None:
    def made(side: int) -> TimmClassifier:
        return TimmClassifier("test_vit", 2, InputSpec(height=side, width=side))

    torch.manual_seed(0)
    published, model = made(160), made(96)
    given = {name.removeprefix("net."): tensor for name, tensor in published.state_dict().items()}
    assert given["pos_embed"].shape != model.net.pos_embed.shape
    for named in (given, published.state_dict()):
        start = start_from(model, named, "start", set)
        assert (start.head, start.missing, start.loaded) == ((), (), len(given))
        assert torch.equal(model.net.head.weight, published.net.head.weight)


@pytest.mark.parametrize(
    ("server", "why"),
    [("127.0.0.1:9", "Connection refused"), ("hub.invalid", r"[^<>]+"), ("127.0.0.1:silent", r"timed out")],
)
def test_what_cannot_be_reached_is_one_line_with_the_fix(
    server: str, why: str, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(weights_source, "_SECONDS", (0.5, 0.5))
        there = f"http://{server.replace('silent', str(silent.getsockname()[1]))}"
        monkeypatch.setenv("HF_ENDPOINT", there)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        fix = "check the network, .*(file://|a local path)"
        for uri in (f"{there}/start.pth", f"hf://team/net@{REVISION}/model.safetensors"):
            with pytest.raises(
                WeightsError, match=rf"{uri}: {there} cannot be reached \({why}\): {fix}"
            ) as told:
                kept(declared(uri, b""), store)
            assert len(str(told.value).splitlines()) == 1
            assert ("HF_ENDPOINT" in str(told.value)) == uri.startswith("hf://")
        told_of = CliRunner().invoke(app, ["weights", "fetch", "timm/resnet18"])
    assert isinstance(told_of.exception, WeightsError)
    assert re.search(
        rf"hf://timm/resnet18\S*: {there} cannot be reached \({why}\): {fix}", str(told_of.exception)
    )


def test_what_has_another_digest_is_not_kept(hub: Hub, store: ArtifactStore, tmp_path: Path) -> None:
    content = save(TENSORS)
    file = tmp_path / "start.safetensors"
    file.write_bytes(content + b" ")
    with pytest.raises(WeightsError, match=r"start\.safetensors were altered: SHA-256 is"):
        kept(declared(str(file), content), store)
    assert store.names("weights") == []
    file.write_bytes(content)
    start = declared(str(file), content)
    kept(start, store)
    store.path(key_of(start.sha256)).write_bytes(b"something else")
    with pytest.raises(ArtifactDamaged, match=r"weights/.*\.safetensors is damaged"):
        kept(start, store)


class _Ran:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.slow
def test_a_pytorch_file_is_converted_once_and_runs_nothing(
    hub: Hub, store: ArtifactStore, tmp_path: Path
) -> None:
    content = pickled({"model": TENSORS, "epoch": 3})
    hub.files["/start.pth"] = content
    start = declared(f"{hub.endpoint}/start.pth", save(TENSORS), converted_from=sha256(content))
    assert {name: each.tolist() for name, each in load(kept(start, store)).items()} == {
        name: each.tolist() for name, each in TENSORS.items()
    }
    assert kept(start, store) and hub.asked == ["/start.pth"]

    hub.files["/start.pth"] = content + b" "
    store.path(key_of(start.sha256)).unlink()
    with pytest.raises(WeightsError, match=r"start\.pth was altered.*it was not opened"):
        kept(start, store)
    harmful = pickled({"model": _Ran(tmp_path / "trace")})
    hub.files["/start.pth"] = harmful
    start = declared(f"{hub.endpoint}/start.pth", b"", converted_from=sha256(harmful))
    with pytest.raises(WeightsError, match=r"cannot be read without running what else it holds \(.*Error"):
        kept(start, store)
    assert not (tmp_path / "trace").exists() and store.names("weights") == []


@pytest.mark.parametrize(
    "uri", ["hf://timm/resnet18/model.safetensors", "hf://timm/resnet18@main/model.safetensors"]
)
def test_an_address_of_the_hub_names_its_revision(uri: str) -> None:
    with pytest.raises(ValueError, match=r"40 digits of a revision.*visionops weights fetch"):
        declared(uri, b"")


def test_a_recipe_that_names_no_pytorch_file_is_written_as_before() -> None:
    assert set(declared("start.safetensors", b"").model_dump(mode="json")) == {"uri", "sha256", "licence"}


@pytest.mark.usefixtures("model_libraries")
def test_published_weights_are_pinned_and_trained_from(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    monkeypatch.setenv("VISIONOPS_ARTIFACTS", str(tmp_path / "artifacts"))
    published = timm.create_model("test_resnet", num_classes=10).state_dict()
    content = save(published)
    hub.put("timm/test_resnet.r160_in1k", "model.safetensors", content)
    told = CliRunner().invoke(app, ["weights", "fetch", "timm/test_resnet"], catch_exceptions=False)
    entry = yaml.safe_load(told.output)["model"]
    assert entry["init_weights"] == {
        "uri": f"hf://timm/test_resnet.r160_in1k@{REVISION}/model.safetensors",
        "sha256": sha256(content),
        "licence": "apache-2.0",
    }
    hub.files.clear()
    start = local_weights(
        ModelSpec.model_validate(entry).init_weights,
        ArtifactStore(root=str(tmp_path / "artifacts")),
        tmp_path,
    )
    _, result = train_catalogued(
        "timm/test_resnet",
        tmp_path / "work",
        side=32,
        init_args={},
        start=(entry["init_weights"], start),
        optimiser={"lr": 1e-9, "weight_decay": 0, "schedule": "none"},
    )
    assert result.start is not None
    assert result.start.head == ("net.fc.bias", "net.fc.weight") and result.start.missing == ()
    assert "the head starts fresh: net.fc.bias, net.fc.weight" in result.start.words
    learnt = result.shipped.model.state_dict()
    torch.testing.assert_close(learnt["net.conv1.0.weight"], published["conv1.0.weight"])

    with pytest.raises(
        WeightsError,
        match=r"net\.conv1\.0\.weight is \[\d+, 3, 3, 3\] in the file and \[\d+, 1, 3, 3\] in TimmClassifier",
    ):
        train_catalogued(
            "timm/test_resnet",
            tmp_path / "grey",
            side=32,
            init_args={},
            start=(entry["init_weights"], start),
            input={"height": 32, "width": 32, "channels": 1},
        )


@pytest.mark.slow
def test_published_weights_in_a_pytorch_file_are_pinned_by_both_digests(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visionops_assets.config import model_catalogue

    monkeypatch.setenv("VISIONOPS_ARTIFACTS", str(tmp_path / "artifacts"))
    table = tmp_path / "models.csv"
    rows = model_catalogue.TABLE.read_text(encoding="utf-8").replace(
        "https://download.pytorch.org", hub.endpoint
    )
    table.write_text(rows, encoding="utf-8")
    name = "torchvision/ssdlite320_mobilenet_v3_large"
    content = pickled(TENSORS)
    hub.files["/models/ssdlite320_mobilenet_v3_large_coco-a79551df.pth"] = content
    model_catalogue.catalogue.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(model_catalogue, "TABLE", table)
            refused = CliRunner().invoke(app, ["weights", "fetch", name])
            given = CliRunner().invoke(app, ["weights", "fetch", name, "--licence", "BSD-3-Clause", "--json"])
    finally:
        model_catalogue.catalogue.cache_clear()
    assert "is not stated: look it up, and give it by --licence" in str(refused.exception)
    pinned = json.loads(given.output)["model"]["init_weights"]
    assert pinned["licence"] == "BSD-3-Clause" and pinned["uri"].endswith("a79551df.pth")
    assert (pinned["sha256"], pinned["converted_from"]) == (sha256(save(TENSORS)), sha256(content))
    nobody = CliRunner().invoke(app, ["weights", "fetch", "torchvision/fcos_resnet18_fpn"])
    assert "has no published weights" in str(nobody.exception)


def test_weights_fit_by_whatever_wraps_a_model(tmp_path: Path) -> None:
    given = PlainNet(2, 1).state_dict()
    head = {"out.weight", "out.bias"}
    for named in (given, {f"model.{name}": each for name, each in given.items()}):
        model = PlainNet(3, 1)
        start = start_from(model, named, "start", lambda: head)
        assert start.head == ("out.bias", "out.weight") and start.loaded == len(given) - 2
        assert torch.equal(model.hidden.weight, given["hidden.weight"])
    part: dict[str, Tensor] = {"convolution.weight": given["convolution.weight"]}
    assert "hidden.bias" in start_from(PlainNet(3, 1), part, "start", lambda: head).missing
    with pytest.raises(
        WeightsError, match=r"start: no tensor fits PlainNet by name and shape; it has convolution\.bias"
    ):
        start_from(PlainNet(3, 1), TENSORS, "start", lambda: head)
    with pytest.raises(WeightsError, match=r"convolution\.bias is \[8\] in the file and \[4\] in PlainNet"):
        start_from(PlainNet(3, 1, width=4), given, "start", lambda: head)


def test_the_weights_of_a_version_are_a_start_for_the_next(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"input": {"height": 8, "width": 8, "channels": 1}})
    digest = save_weights(torch.nn.ModuleDict({"model": PlainNet(3, 1)}), tmp_path / "weights.safetensors")
    content = (tmp_path / "weights.safetensors").read_bytes()
    assert sha256(content) == digest and recipe.model.init_weights is None
    assert start_from(PlainNet(3, 1), load(content), "version 1", frozenset).fresh == ()
