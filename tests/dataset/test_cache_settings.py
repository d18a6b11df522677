"""What the environment says of the sample cache: how much it may take, and whether it keeps images as they came."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from visionops_assets.config.recipe import InputSpec
from visionops_assets.dataset.cache.sample_cache import CacheFull
from visionops_assets.dataset.cache.samples import load_samples

SIZE = InputSpec(height=64, width=64, channels=3)


def png(number: int) -> bytes:
    file = BytesIO()
    Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(file, "PNG")
    return file.getvalue()


FILES = {f"batches/a/images/{number}.png": png(number) for number in range(100)}


class Reader:
    def read_many(self, repository: str, reference: str, paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        yield from ((path, FILES[path]) for path in paths)


def load(root: Path) -> np.ndarray:
    rows = [(path, sha256(data).hexdigest(), len(data)) for path, data in FILES.items()]
    manifest = pd.DataFrame(rows, columns=["path", "sha256", "size"])
    view, _ = load_samples(Reader(), "scans", "c" * 64, manifest, root, SIZE)
    return view.gather(np.arange(len(rows)))


def test_images_kept_encoded_take_less_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = load(tmp_path / "decoded")
    monkeypatch.setenv("VISIONOPS_CACHE_KEEPS", "encoded")
    assert np.array_equal(load(tmp_path / "encoded"), decoded)
    taken = [
        sum(file.stat().st_size for file in (tmp_path / name).rglob("*") if file.is_file())
        for name in ("decoded", "encoded")
    ]
    assert taken[1] < taken[0] / 5


def test_a_cap_refuses_what_does_not_fit_and_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONOPS_CACHE_MIB", "1")
    with pytest.raises(
        CacheFull, match=r"1\.2 MiB more .* its size cap leaves 1\.0 MiB; raise VISIONOPS_CACHE_MIB"
    ):
        load(tmp_path)
    monkeypatch.setenv("VISIONOPS_CACHE_KEEPS", "encoded")
    assert len(load(tmp_path)) == 100


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VISIONOPS_CACHE_MIB", "much"),
        ("VISIONOPS_CACHE_MIB", "0"),
        ("VISIONOPS_CACHE_MIB", "inf"),
        ("VISIONOPS_CACHE_KEEPS", "both"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"^{name} is '{value}': it takes "):
        load(tmp_path)
