"""Many objects in one request: all of them or none, durable before they are acknowledged, the same as one by one."""

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from lakefs_api import Api, Repository, many_objects

from lakefs_local import data_folder
from lakefs_local.data_folder import DataFolder
from lakefs_local.discovery import running, serving
from lakefs_local.http import import_routes as route
from lakefs_local.maintenance import check_data
from resources.lakefs.client import LakeFSResource
from resources.lakefs.replies import LakeFSNotFound, LakeFSRefused

CONTENTS = {f"batches/b/{number:03d}.png": bytes([number]) * number for number in range(40)}


def test_many_objects_are_what_they_would_be_one_by_one(repository: Repository) -> None:
    repository.branch("alone")
    repository.branch("together")
    for path, content in CONTENTS.items():
        repository.put("alone", path, content)
    answer = repository.send_many("together", many_objects(CONTENTS))
    assert (answer.status, answer.json) == (201, {"objects": len(CONTENTS)})
    assert {path: repository.get("together", path).body for path in repository.paths("together")} == CONTENTS
    for branch in ("alone", "together"):
        repository.commit(branch)
    assert repository.pages("/refs/alone/diff/together", type="two_dot") == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (many_objects(CONTENTS)[:-1], "the body ends within the 39 bytes of 'batches/b/039.png'"),
        (many_objects({"a": b"x"}) + b"no json\n", "on a line at byte"),
        (many_objects({"a": b"x"}) + b'{"path": "b", "size": -1}\n', "on a line at byte"),
        (many_objects({"a": b"x"}) + b'{"path": "b", "size": true}\nx', "on a line at byte"),
        (many_objects({"a": b"x"}) + b'{"path": 3, "size": 1}\nx', "on a line at byte"),
        (many_objects({"a": b"x"}) + b"[" * 9000 + b"\n", "on a line at byte"),
        (many_objects({"a": b"x", "": b"y"}), "required value"),
        (many_objects({"a": b"x", "b" * 1025: b"y"}), "above maximum length"),
        (
            many_objects({"a": b"x"}) + b'{"path": "b", "size": 99999999999999999999}\n',
            "the body ends within",
        ),
    ],
)
def test_of_a_malformed_body_nothing_is_stored(repository: Repository, body: bytes, said: str) -> None:
    answer = repository.send_many("main", body)
    assert answer.status == 400
    assert said in answer.message
    assert repository.paths("main") == []


def test_what_is_refused_one_by_one_is_refused_together(repository: Repository) -> None:
    assert repository.send_many("nowhere", many_objects({"a": b"x"})).status == 404
    rules = [{"pattern": "main"}]
    assert repository.call("PUT", "/settings/branch_protection", data=rules).status == 204
    assert repository.send_many("main", many_objects({"a": b"x"})).status == 403
    stranger = repository.api.send(
        "POST", f"/_lakefs_local/repositories/{repository.name}/branches/main/objects", b""
    )
    assert stranger.status == 401


def test_a_request_is_bounded(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route, "MAX_OBJECTS", 3)
    assert repository.send_many("main", many_objects({str(number): b"" for number in range(4)})).status == 413
    monkeypatch.setattr(route, "MAX_BODY", 100)
    assert repository.send_many("main", bytes(101)).status == 413
    assert repository.paths("main") == []


def test_files_have_their_names_only_once_they_are_on_disk_and_names_are_on_disk_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    rename, wait = Path.rename, data_folder.FileSystemSync.wait

    def renamed(path: Path, target: Path) -> Path:
        happened.append("named")
        return rename(path, target)

    def synced(self: data_folder.FileSystemSync) -> None:
        wait(self)
        happened.append("synced")

    if data_folder.FileSystemSync.of(tmp_path) is None:
        pytest.skip("this system cannot sync a file system")
    with serving(tmp_path / "data") as server:
        repository = Repository(Api(server), "synced")
        monkeypatch.setattr(Path, "rename", renamed)
        monkeypatch.setattr(data_folder.FileSystemSync, "wait", synced)
        assert repository.send_many("main", many_objects({"a": b"1", "b": b"2", "c": b"1"})).status == 201
    assert happened == ["synced", "named", "named", "synced"]


def test_without_a_sync_of_the_file_system_each_file_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def counted(handle: int) -> None:
        fsync(handle)
        synced.append(handle)

    monkeypatch.setattr(data_folder, "_kernel", lambda: (5, 7))
    with serving(tmp_path / "data") as server:
        repository = Repository(Api(server), "older")
        monkeypatch.setattr(os, "fsync", counted)
        assert repository.send_many("main", many_objects(CONTENTS)).status == 201
        assert {path: repository.get("main", path).body for path in repository.paths("main")} == CONTENTS
    assert len(synced) >= 2 * len(CONTENTS)


@pytest.mark.parametrize("where", ["write", "wait", "rename"])
def test_a_disk_that_fills_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    left = [5]

    def full_after_some(do: Callable[..., object]) -> Callable[..., object]:
        def done(*arguments: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return do(*arguments)

        return done

    with serving(tmp_path / "data") as server:
        repository = Repository(Api(server), "full")
        place: object = {"write": os, "wait": data_folder.FileSystemSync, "rename": Path}[where]
        left[0] = 1 if where == "wait" else 5
        with monkeypatch.context() as patch:
            patch.setattr(place, where, full_after_some(getattr(place, where)))
            refused = repository.send_many("main", many_objects(CONTENTS))
        assert (refused.status, "full" in refused.message) == (507, True)
        assert repository.paths("main") == []
        assert list((tmp_path / "data" / "incoming").iterdir()) == []
        assert repository.send_many("main", many_objects(CONTENTS)).status == 201
    assert list(check_data(DataFolder(tmp_path / "data"))) == []


class TestClient:
    """`LakeFSResource.write_many`, whatever the server can."""

    @pytest.fixture(params=["together", "one by one", "as a real server"])
    def lakefs(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        async def pages(server: object, call: object) -> object:
            from lakefs_local.http.exchange import Reply

            return Reply(200, b"<!doctype html><html></html>", "text/html")

        if request.param == "one by one":
            monkeypatch.setattr(route, "OPERATIONS", [])
        if request.param == "as a real server":
            monkeypatch.setattr(route, "OPERATIONS", [("GET", "/_lakefs_local/operations", pages)])
        with serving(tmp_path / "data"):
            server = running(tmp_path / "data")
            assert server is not None
            client = LakeFSResource(
                endpoint=server.endpoint,
                access_key_id=server.access_key_id,
                secret_access_key=server.secret_access_key,
            )
            client.create_repository("shop")
            yield client

    def test_all_are_written_and_counted(self, lakefs: LakeFSResource) -> None:
        contents = CONTENTS | {"large": bytes(3 << 20), "ünï cöde/✓ %41.png": b"1"}
        counted: list[int] = []
        objects = [(path, lambda content=content: content) for path, content in contents.items()]
        assert lakefs.write_many("shop", "main", objects, counted.append) == len(contents)
        assert counted == sorted(counted)
        assert counted[-1] == len(contents)
        assert dict(lakefs.read_many("shop", "main", list(contents))) == contents

    def test_nothing_is_nothing(self, lakefs: LakeFSResource) -> None:
        assert lakefs.write_many("shop", "main", []) == 0

    def test_a_loader_that_fails_ends_it_with_its_own_error(self, lakefs: LakeFSResource) -> None:
        def gone() -> bytes:
            raise FileNotFoundError("gone.png")

        objects: Sequence[tuple[str, Callable[[], bytes]]] = [("a", lambda: b"1"), ("gone", gone)]
        with pytest.raises(FileNotFoundError, match=r"gone\.png"):
            lakefs.write_many("shop", "main", objects)

    def test_a_refusal_names_the_objects(self, lakefs: LakeFSResource) -> None:
        objects = [(path, lambda content=content: content) for path, content in CONTENTS.items()]
        with pytest.raises(LakeFSNotFound, match=r"shop/nowhere/batches/b/000\.png"):
            lakefs.write_many("shop", "nowhere", objects)
        with pytest.raises(LakeFSRefused, match="above maximum length"):
            lakefs.write_many("shop", "main", [*objects, ("b" * 1025, lambda: b"")])
