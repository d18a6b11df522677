"""The devices of a project are read once, and again as far as they were written anew."""

from datetime import UTC, datetime
from pathlib import Path

from resources.storage import ArtifactStore
from visionops_assets.delivery.enrolment import NewDevice, devices, enrolled, move, provision, revoke


class CountingStore(ArtifactStore):
    """Counts what is read."""

    reads: list[str] = []  # noqa: RUF012 - of pydantic, one an instance

    def read(self, key: str) -> bytes:
        self.reads.append(key.rsplit("/", 1)[-1])
        return super().read(key)


def test_a_record_is_read_again_only_once_it_was_written_anew(tmp_path: Path) -> None:
    store, now = CountingStore(root=str(tmp_path / "artifacts")), datetime.now(UTC)
    for name in ("cam-2", "cam-1", "cam-3"):
        new = NewDevice("shapes", "line-1", name, tmp_path / name, b"root", {"repository": "file:///r"})
        provision(store, new, who="ada", when=now)
    assert devices(store, "parts") == []
    first = devices(store, "shapes")
    assert [each.device for each in first] == ["cam-1", "cam-2", "cam-3"]
    store.reads.clear()
    assert devices(store, "shapes") == first and store.reads == []

    move(store, "shapes", "cam-2", "line-2")
    revoke(store, "shapes", "cam-3", who="ada", why="stolen", when=now)
    (tmp_path / "artifacts" / "fleet" / "shapes" / "devices" / "cam-1.json").unlink()
    store.reads.clear()
    found = devices(store, "shapes")
    assert sorted(store.reads) == ["cam-2.json", "cam-3.json"]
    assert [(each.device, each.group, bool(each.revoked)) for each in found] == [
        ("cam-2", "line-2", False),
        ("cam-3", "line-1", True),
    ]
    assert found == [enrolled(store, "shapes", each.device) for each in found]
    # Another home's devices are its own.
    assert devices(ArtifactStore(root=str(tmp_path / "other")), "shapes") == []
