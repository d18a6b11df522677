"""A weights file is whole, equal for equal weights, and refused when it is not what was registered."""

from pathlib import Path

import pytest
import torch
from torch import nn

from visionops_assets.training.errors import WeightsError
from visionops_assets.training.weights import load_weights, read_weights, save_weights, write_atomically


def module(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    digest = save_weights(module(1), tmp_path / "w.safetensors")
    other = module(2)
    load_weights(other, tmp_path / "w.safetensors", digest)
    for name, tensor in module(1).state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


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
        load_weights(module(), path, digest)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.safetensors cannot be read: No such file"):
        read_weights(tmp_path / "absent.safetensors", "0" * 64)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    digest = save_weights(nn.Linear(2, 3), tmp_path / "w")
    with pytest.raises(WeightsError, match="do not fit Sequential"):
        load_weights(module(), tmp_path / "w", digest)


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
