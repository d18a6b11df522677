"""Import: from allowed folders only, without copying, replacing what lay at the destination."""

import os
import time
from pathlib import Path

import pytest
from lakefs_api import Repository


@pytest.fixture
def folder(imports: Path, request: pytest.FixtureRequest) -> Path:
    """A folder of the test's own that may be imported from, with three files."""
    path = imports / request.node.name
    (path / "sub").mkdir(parents=True)
    for name in ["1.txt", "2.txt", "sub/3.txt"]:
        (path / name).write_text(name)
    return path


def test_imported_objects_stay_where_they_are(repository: Repository, folder: Path, data: Path) -> None:
    before = sum(1 for _ in (data / "blobs").rglob("*"))
    status = repository.import_folder("main", folder, "in/")
    assert (status["completed"], status["ingested_objects"]) == (True, 3)
    assert repository.paths("main") == ["in/1.txt", "in/2.txt", "in/sub/3.txt"]
    stat = repository.stat("main", "in/1.txt").json
    assert stat["physical_address"] == f"local://{folder}/1.txt"
    assert repository.get("main", "in/sub/3.txt").body == b"sub/3.txt"
    assert sum(1 for _ in (data / "blobs").rglob("*")) == before
    assert repository.log("main")[0]["metadata"] == {".lakefs.merge.strategy": "source-wins"}


def test_an_import_replaces_its_destination_and_nothing_else(repository: Repository, folder: Path) -> None:
    for path in ["in/old", "in-between", "inside", "other/kept"]:
        repository.put("main", path)
    repository.commit("main")
    repository.import_folder("main", folder, "in/")
    expected = ["in-between", "in/1.txt", "in/2.txt", "in/sub/3.txt", "inside", "other/kept"]
    assert repository.paths("main") == expected
    (folder / "1.txt").unlink()
    repository.import_folder("main", folder, "in")
    assert repository.paths("main") == [path for path in expected if path != "in/1.txt"]


def test_of_two_sources_with_one_destination_the_later_wins(repository: Repository, folder: Path) -> None:
    status = repository.import_paths(
        "main",
        [
            {"type": "common_prefix", "path": f"local://{folder}/", "destination": "in/"},
            {"type": "object", "path": f"local://{folder}/2.txt", "destination": "in/1.txt"},
        ],
    )
    assert status["ingested_objects"] == 3
    assert repository.get("main", "in/1.txt").body == b"2.txt"


def test_what_was_committed_meanwhile_survives_an_import(repository: Repository, folder: Path) -> None:
    body = {
        "paths": [{"type": "common_prefix", "path": f"local://{folder}/", "destination": "in/"}],
        "commit": {"message": "imported"},
    }
    job = repository.call("POST", "/branches/main/import", data=body).json["id"]
    repository.branch("side", "main")
    repository.put("side", "side", b"1")
    repository.commit("side")
    repository.merge("side", "main")
    deadline = time.monotonic() + 30
    while not repository.call("GET", "/branches/main/import", {"id": job}).json["completed"]:
        assert time.monotonic() < deadline
    assert repository.paths("main") == ["in/1.txt", "in/2.txt", "in/sub/3.txt", "side"]


@pytest.mark.parametrize("source", ["/etc/", "/", "relative/", "/proc/self/"])
def test_a_folder_that_is_not_allowed_is_forbidden(repository: Repository, source: str) -> None:
    status = repository.import_paths(
        "main", [{"type": "common_prefix", "path": f"local://{source}", "destination": "in/"}]
    )
    assert status["completed"] is False and "forbidden" in status["error"]["message"]
    assert repository.paths("main") == []


def test_dots_and_links_do_not_lead_out_of_an_allowed_folder(
    repository: Repository, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "way-out").symlink_to(tmp_path)
    (folder / "link").symlink_to(tmp_path / "secret")
    for source in [f"{folder}/../../{tmp_path.name}/", f"{folder}/way-out/", f"{folder}/"]:
        status = repository.import_paths(
            "main", [{"type": "common_prefix", "path": f"local://{source}", "destination": "in/"}]
        )
        assert "error" in status, source
    assert repository.paths("main") == []


@pytest.mark.parametrize("link", ["sub/link", "sub/folder"])
def test_an_import_has_no_links_not_even_within_an_allowed_folder(
    repository: Repository, folder: Path, link: str
) -> None:
    (folder / link).symlink_to(folder if link.endswith("folder") else folder / "1.txt")
    status = repository.import_folder("main", folder / "sub", "in/")
    assert f"cannot read {folder / link}: it is a link" in status["error"]["message"]
    assert repository.paths("main") == []


def test_an_allowed_folder_may_lie_behind_a_link(
    repository: Repository, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "behind").symlink_to(folder)
    repository.import_folder("main", tmp_path / "behind", "in/")
    assert repository.get("main", "in/1.txt").body == b"1.txt"


@pytest.mark.parametrize("part", ["1.txt", "sub"])
def test_a_link_that_takes_the_place_of_what_was_imported_is_not_followed(
    repository: Repository, folder: Path, tmp_path: Path, part: str
) -> None:
    repository.import_folder("main", folder, "in/")
    secret = tmp_path / "secret"
    secret.mkdir()
    for name in ("1.txt", "3.txt"):
        (secret / name).write_text("a key" if name == "1.txt" else "all a key")
    (folder / part).rename(folder / "moved")
    (folder / part).symlink_to(secret / part if part == "1.txt" else secret)
    assert repository.get("main", "in/1.txt" if part == "1.txt" else "in/sub/3.txt").status == 410


def test_other_schemes_are_forbidden(repository: Repository) -> None:
    status = repository.import_paths(
        "main", [{"type": "common_prefix", "path": "s3://bucket/", "destination": "in/"}]
    )
    assert "forbidden" in status["error"]["message"]


def test_a_source_that_is_no_regular_file_fails_the_import(repository: Repository, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    status = repository.import_folder("main", folder, "in/")
    assert "not a regular file" in status["error"]["message"]


def test_an_imported_file_that_changed_is_not_passed_off_as_the_old_one(
    repository: Repository, folder: Path
) -> None:
    repository.import_folder("main", folder, "in/")
    (folder / "1.txt").write_text("longer than before")
    (folder / "2.txt").unlink()
    assert repository.get("main", "in/1.txt").status == 410
    assert repository.get("main", "in/2.txt").status == 410
    assert repository.get("main", "in/sub/3.txt").status == 200


def test_an_import_can_be_cancelled_while_it_runs_and_not_after(
    repository: Repository, imports: Path
) -> None:
    many = imports / "many"
    many.mkdir()
    for number in range(3000):
        (many / f"{number}").write_bytes(b"%d" % number)
    body = {
        "paths": [{"type": "common_prefix", "path": f"local://{many}/", "destination": "in/"}],
        "commit": {"message": "imported"},
    }
    job = repository.call("POST", "/branches/main/import", data=body).json["id"]
    cancelled = repository.call("DELETE", "/branches/main/import", {"id": job})
    deadline = time.monotonic() + 30
    while True:
        status = repository.call("GET", "/branches/main/import", {"id": job}).json
        if status["completed"] or "error" in status:
            break
        assert time.monotonic() < deadline
    # Whoever is first wins, and the answer says who that was.
    assert (cancelled.status, status["completed"]) in [(204, False), (409, True)]
    assert bool(repository.paths("main")) == status["completed"]
    assert repository.call("DELETE", "/branches/main/import", {"id": job}).status == 409


def test_importing_to_a_protected_branch_is_forbidden(repository: Repository, folder: Path) -> None:
    repository.call("PUT", "/settings/branch_protection", data=[{"pattern": "main"}])
    body = {
        "paths": [{"type": "common_prefix", "path": f"local://{folder}/", "destination": "in/"}],
        "commit": {"message": "imported"},
    }
    assert repository.call("POST", "/branches/main/import", data=body).status == 403
