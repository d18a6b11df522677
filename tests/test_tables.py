"""Tables are shared fragments under addresses; nothing is half there."""

import errno
import json
from pathlib import Path

import pandas as pd
import pytest

from resources.storage import ArtifactNotFound, ArtifactStore
from visionops_assets.common.tables import read_table, write_table


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(root=str(tmp_path))


def frame(**batches: list[int]) -> pd.DataFrame:
    return pd.DataFrame([{"batch": name, "value": v} for name, values in batches.items() for v in values])


def fragments(tmp_path: Path) -> set[Path]:
    return set(tmp_path.rglob("*.parquet"))


def test_a_table_comes_back_as_it_was(store):
    table = frame(a=[1, 2], b=[3])
    assert read_table(store, write_table(store, table)).equals(table)


def test_the_same_rows_are_stored_once(store, tmp_path):
    first, again = (write_table(store, frame(a=[1, 2], b=[3])) for _ in range(2))
    other = write_table(store, frame(a=[1, 2], b=[4]))
    assert first == again != other
    assert len(fragments(tmp_path)) == 2


def test_an_altered_fragment_is_refused_by_name(store, tmp_path):
    listing = write_table(store, frame(a=[1]))
    (fragment,) = fragments(tmp_path)
    other = ArtifactStore(root=str(tmp_path / "other"))
    write_table(other, frame(a=[2]))
    (altered,) = fragments(tmp_path / "other")
    fragment.write_bytes(altered.read_bytes())
    with pytest.raises(ValueError, match=fragment.stem):
        read_table(store, listing)


def test_a_missing_fragment_is_named(store, tmp_path):
    listing = write_table(store, frame(a=[1]))
    (fragment,) = fragments(tmp_path)
    fragment.unlink()
    with pytest.raises(ArtifactNotFound, match=fragment.stem):
        read_table(store, listing)


def test_a_table_of_a_newer_format_is_refused(store):
    with pytest.raises(ValueError, match="format 99"):
        read_table(store, {"format": 99, "fragments": []})


def test_a_full_disk_leaves_the_old_content_and_no_rest(store, tmp_path, monkeypatch):
    store.write_json("record.json", {"old": True})

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"record\.json could not be stored .*nothing was changed"):
        store.write_json("record.json", {"old": False})
    assert json.loads((tmp_path / "record.json").read_bytes()) == {"old": True}
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
