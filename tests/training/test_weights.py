"""A weights file is whole, equal for equal weights, and refused when it is not what was registered."""

import hashlib
import pickle
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from visionops_assets.common.errors import WeightsError
from visionops_assets.training.model_files import read_weights, save_weights, write_atomically


def module(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    digest = save_weights(module(1), tmp_path / "w.safetensors")
    found, saved = read_weights(tmp_path / "w.safetensors", digest), module(1).state_dict()
    assert found.keys() == saved.keys() and all(torch.equal(found[name], saved[name]) for name in saved)


def test_memory_layout_does_not_change_the_digest(tmp_path: Path) -> None:
    rearranged = module().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert save_weights(module(), tmp_path / "a") == save_weights(rearranged, tmp_path / "b")


def test_shared_parameters_are_saved_like_equal_ones(tmp_path: Path) -> None:
    shared, apart = module(), module()
    shared.append(shared[0])  # type: ignore[operator, index]
    apart.append(module()[0])  # type: ignore[operator, index]
    assert save_weights(shared, tmp_path / "a") == save_weights(apart, tmp_path / "b")


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    digest = save_weights(module(), path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"were altered: SHA-256 is .*, expected .*; not loaded"):
        read_weights(path, digest)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.safetensors cannot be read: No such file"):
        read_weights(tmp_path / "absent.safetensors", "0" * 64)


@pytest.mark.slow
@pytest.mark.parametrize(("old", "inside"), [(False, None), (True, "state_dict")])
def test_a_pytorch_file_is_named_as_what_it_is_and_converts_as_the_message_says(
    tmp_path: Path, old: bool, inside: str | None
) -> None:
    model = module(1)
    tensors = model.state_dict()
    torch.save(
        {inside: tensors} if inside else tensors,
        tmp_path / "start.pt",
        _use_new_zipfile_serialization=not old,
    )
    digest = hashlib.sha256((tmp_path / "start.pt").read_bytes()).hexdigest()
    for sha256 in (digest, "0" * 64):
        with pytest.raises(WeightsError, match=r"start\.pt are a PyTorch file .* a pickle") as refused:
            read_weights(tmp_path / "start.pt", sha256)
    command = str(refused.value).split("`")[1].removeprefix("python ")
    subprocess.run([sys.executable, *shlex.split(command)], cwd=tmp_path, check=True)
    converted = tmp_path / "start.safetensors"
    found = read_weights(converted, hashlib.sha256(converted.read_bytes()).hexdigest())
    assert all(torch.equal(found[name], tensors[name]) for name in tensors) and len(found) == len(tensors)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (pickle.dumps({"weight": [1.0]}), "a pickle"),
        (b"PK\x03\x04" + bytes(26) + b"weights.safetensors", "a zip archive: unpack it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "an HTML page"),
        (b"anything else", "no safetensors file"),
        (b"", "no safetensors file"),
    ],
)
def test_what_is_no_safetensors_file_is_named(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "given").write_bytes(content)
    with pytest.raises(WeightsError, match=kind):
        read_weights(tmp_path / "given", hashlib.sha256(content).hexdigest())


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    broken = module()
    with torch.no_grad():
        broken[0].weight[0, 0, 0, 0] = torch.inf  # type: ignore[index, operator, union-attr]
    with pytest.raises(WeightsError, match=r"'0\.weight' are not finite"):
        save_weights(broken, tmp_path / "w")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w"
    write_atomically(path, b"earlier")

    def disk_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"later")
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]
