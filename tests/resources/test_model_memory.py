"""What MLflow last said is kept, is never less than it was, and stops nobody where it cannot be kept."""

import json
from datetime import UTC, datetime
from pathlib import Path

from resources.models.memory import ModelMemory, Remembered, agreed
from resources.models.records import HISTORY, ModelVersion

FIRST = ModelVersion(
    "shapes", 1, "run-1", datetime(2026, 3, 2, tzinfo=UTC), {"visionops.weights_sha256": "a"}
)


def entry(kind: str, to: int | None, group: str = "all") -> str:
    return json.dumps({"kind": kind, "group": group, "to": to})


def test_what_was_written_is_read_and_nothing_is_forgotten(tmp_path: Path) -> None:
    memory = ModelMemory(str(tmp_path))
    assert memory.read("shapes") is None
    memory.note(
        "shapes", tags={"visionops.a": "1", "seen by": "Bob"}, versions={1: FIRST}, aliases={"champion": 1}
    )
    memory.note("shapes", tags={"visionops.b": "2"}, aliases={"champion": None})
    assert memory.read("shapes") == Remembered({"visionops.a": "1", "visionops.b": "2"}, {}, {1: FIRST})
    bare = ModelVersion("shapes", 1, "run-1", FIRST.created, {"theirs": "x"})
    known = memory.read("shapes")
    assert known is not None and known.filled(bare).weights_sha256 == "a"
    assert known.with_these(known.tags, {}, {1: bare}) == known, "what is theirs is no news"
    memory.rename("shapes", "forms")
    renamed = memory.read("forms")
    assert memory.read("shapes") is None and renamed is not None and renamed.versions[1].project == "forms"


def test_an_alias_counts_when_it_is_what_the_newest_change_says() -> None:
    tags = {
        f"{HISTORY}000001": entry("promotion", 1),
        f"{HISTORY}000002": entry("promotion", 2),
        f"{HISTORY}000003": entry("hold", 2),
        f"{HISTORY}000004": entry("promotion", 7, "line-4"),
        f"{HISTORY}000005": "no entry",
    }
    assert agreed(tags, {"champion": 2, "champion-line-4": 7, "theirs": 2}) == {
        "champion": 2,
        "champion-line-4": 7,
    }
    assert agreed(tags, {"champion": 1}) == {} == agreed(tags, {})


def test_a_memory_that_cannot_be_kept_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for memory in (ModelMemory(), ModelMemory(str(tmp_path / "file")), ModelMemory("nowhere://bucket")):
        memory.note("shapes", tags={"visionops.a": "1"})
        memory.rename("shapes", "forms")
        assert memory.read("shapes") is None
