"""What users of the official Python client are used to from lakeFS: each habit works here the same."""

import csv
import io
import os
import uuid
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import get_args

import lakefs
import pytest
from lakefs.exceptions import (
    BadRequestException,
    ConflictException,
    ForbiddenException,
    ImportManagerException,
    NotFoundException,
    ObjectExistsException,
    TransactionException,
)
from lakefs.models import Change
from lakefs.object import ReadModes, WriteModes
from lakefs_api import Api, Repository

from lakefs_local.discovery import Server

PATHS = ["a", "b", "bar/a", "bar/b", "bar/c", "c", "foo/a", "foo/b", "foo/c"]


@pytest.fixture
def client(server: Server) -> lakefs.Client:
    """The high-level client."""
    return lakefs.Client(
        host=server.endpoint, username=server.access_key_id, password=server.secret_access_key
    )


@pytest.fixture
def remote(repository: Repository, client: lakefs.Client) -> lakefs.Repository:
    """The test's repository, as the client sees it."""
    return lakefs.Repository(repository.name, client=client)


@pytest.fixture
def main(remote: lakefs.Repository) -> lakefs.Branch:
    """Its branch `main`, empty."""
    return remote.branch("main")


def put(branch: lakefs.Branch, paths: Iterable[str], times: int = 1) -> None:
    """Upload objects that hold their own path, as often as is said."""
    for path in paths:
        branch.object(path).upload(path * times)


def staged(branch: lakefs.Branch, prefix: str = "") -> list[Change]:
    return list(branch.uncommitted(max_amount=20, prefix=prefix))


def new_repository(client: lakefs.Client, **options: object) -> lakefs.Repository:
    name = f"made-{uuid.uuid4().hex[:12]}"
    return lakefs.Repository(name, client=client).create(f"local://{name}", **options)  # type: ignore[arg-type]


def test_what_is_staged_has_its_size_and_what_is_removed_has_none(main: lakefs.Branch) -> None:
    put(main, PATHS, times=3)
    assert [(change.path, change.type, change.path_type, change.size_bytes) for change in staged(main)] == [
        (path, "added", "object", 3 * len(path)) for path in PATHS
    ]
    main.commit("all")
    main.delete_objects("foo/a")
    main.delete_objects({"foo/b", "foo/c"})
    main.delete_objects([main.head.object("a"), main.head.object("b")])
    assert [(change.path, change.type, change.size_bytes) for change in staged(main)] == [
        (path, "removed", 0) for path in ["a", "b", "foo/a", "foo/b", "foo/c"]
    ]
    committed = main.commit("fewer")
    between = main.diff(committed.id + "~1", type="two_dot")
    assert [(change.path, change.type, change.size_bytes) for change in between][:1] == [("a", "added", 3)]
    back = lakefs.Reference(main.repo_id, committed.id + "~1", client=main._client).diff(
        committed.id, type="two_dot"
    )
    assert [(change.path, change.type, change.size_bytes) for change in back][:1] == [("a", "removed", 3)]


def test_an_unknown_store_is_refused_and_the_only_one_has_no_name(client: lakefs.Client) -> None:
    with pytest.raises(BadRequestException, match="elsewhere"):
        new_repository(client, storage_id="elsewhere")
    made = new_repository(client, storage_id="")
    with pytest.raises(ConflictException):
        made.create("local://other", storage_id="elsewhere")


def test_a_repository_with_samples_has_committed_objects_and_a_protected_branch(
    client: lakefs.Client,
) -> None:
    made = new_repository(client, include_samples=True, default_branch="trunk")
    trunk = made.branch("trunk")
    objects = {item.path: item for item in trunk.objects()}
    assert {"README.md", "labels.csv"} < set(objects)
    assert all(item.size_bytes for item in objects.values())
    assert staged(trunk) == []
    assert [commit.message for commit in trunk.log()] == ["Add sample data", "Repository created"]
    labels = list(csv.DictReader(io.StringIO(trunk.object("labels.csv").reader(mode="r").read())))
    assert all(objects[row["path"]].content_type == "image/png" for row in labels)
    # As in lakeFS it takes uploads, which only another branch can commit.
    put(trunk, ["mine"])
    with pytest.raises(ForbiddenException):
        trunk.commit("mine")
    trunk.reset_changes()
    side = made.branch("side").create("trunk")
    put(side, ["mine"])
    side.commit("mine")
    side.merge_into("trunk")
    assert trunk.object("mine").exists()


def test_samples_for_a_repository_that_is_there_change_nothing(remote: lakefs.Repository) -> None:
    with pytest.raises(ConflictException):
        remote.create("local://again", "main", True)
    assert remote.create("local://again", "main", True, exist_ok=True).id == remote.id
    assert list(remote.branch("main").objects()) == []


def test_a_bare_repository_stays_empty_whatever_else_is_asked_for(client: lakefs.Client, api: Api) -> None:
    made = new_repository(client, include_samples=True, bare=True)
    assert made.properties.default_branch == "main"
    assert list(made.branches()) == [] and list(made.tags()) == []
    with pytest.raises(NotFoundException):
        made.branch("main").get_commit()
    with pytest.raises(NotFoundException):
        put(made.branch("main"), ["a"])
    with pytest.raises(NotFoundException):
        made.branch("other").create("main")
    assert api.send("GET", f"/repositories/{made.id}").status == 404
    # One that is to hold another's references shares its namespace.
    name = f"made-{uuid.uuid4().hex[:12]}"
    lakefs.Repository(name, client=client).create(made.properties.storage_namespace, bare=True)
    made.delete()
    with pytest.raises(NotFoundException):
        made.delete()


def test_repositories_branches_and_tags_are_listed_by_prefix_and_from_a_name_on(
    remote: lakefs.Repository, client: lakefs.Client
) -> None:
    for letter in "ab":
        for number in range(12):
            branch = remote.branch(f"{letter}-{number:02d}").create("main")
            remote.tag(f"{letter}{number:02d}").create(branch)
    assert len(list(remote.branches())) == 25 and len(list(remote.tags())) == 24
    found = remote.branches(max_amount=100, prefix="b-", after="b-08")
    assert [branch.id for branch in found] == ["b-09", "b-10", "b-11"]
    assert [tag.id for tag in remote.tags(max_amount=2, prefix="b", after="b08")] == ["b09", "b10"]
    assert next(each.id for each in lakefs.repositories(client=client, prefix=remote.id)) == remote.id


@pytest.mark.parametrize("mode", get_args(WriteModes))
def test_every_way_of_writing_is_read_in_every_way(main: lakefs.Branch, mode: WriteModes) -> None:
    text = "Hello wörld\nand more\n"
    uploaded = main.object("uploaded").upload(text.encode(), mode=mode)
    with main.object("written").writer(
        mode=mode, content_type="text/plain", metadata={"foo": "bar"}
    ) as writer:
        writer.write(text)
        assert writer.tell() == len(text.encode())
        assert writer.writable() and not writer.readable()
        with pytest.raises(io.UnsupportedOperation):
            writer.seek(0)
        with pytest.raises(NotFoundException):
            main.object("written").stat()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write("more")
    for stored in (uploaded, main.object("written")):
        for reading in get_args(ReadModes):
            read = stored.reader(mode=reading).read()
            assert (read if isinstance(read, str) else read.decode()) == text
    stat = main.object("written").stat()
    assert (stat.content_type, stat.metadata, stat.size_bytes) == (
        "text/plain",
        {"foo": "bar"},
        len(text.encode()),
    )


def test_what_must_be_new_is_not_overwritten(main: lakefs.Branch) -> None:
    stored = main.object("once").upload(b"first")
    for mode in ("x", "xb"):
        with pytest.raises(ObjectExistsException):
            stored.upload(b"second", mode=mode)  # type: ignore[arg-type]
    assert stored.reader().read() == b"first"
    assert stored.upload(b"second", mode="w") == stored
    assert stored.reader().read() == b"second"


def test_a_writer_that_fails_or_is_discarded_leaves_nothing(main: lakefs.Branch) -> None:
    stored = main.object("never")
    with pytest.raises(ValueError, match="bad"), stored.writer() as writer:
        writer.write("some")
        raise ValueError("bad")
    with stored.writer() as writer:
        writer.write("some")
        writer.discard()
    assert writer.closed and not stored.exists()


def test_a_reader_seeks_like_a_file(main: lakefs.Branch) -> None:
    data = b"test_data"
    stored = main.object("data").upload(data)
    with stored.reader() as reader:
        assert reader.read(2 * len(data)) == data
        reader.seek(2)
        assert (reader.read(5), reader.read(), reader.read(1)) == (data[2:7], data[7:], b"")
        reader.seek(0)
        assert [reader.read(1) for _ in data] == [bytes([byte]) for byte in data]
        assert reader.read(1) == b""
        reader.seek(-4, os.SEEK_END)
        assert reader.read() == data[-4:]
        with pytest.raises(OSError, match="non-negative"):
            reader.seek(-len(data) - 1, os.SEEK_CUR)
        assert reader.tell() == len(data)
        with pytest.raises(io.UnsupportedOperation):
            reader.seek(0, 10)
    with pytest.raises(ValueError, match="closed"):
        reader.read(1)
    empty = main.object("empty").upload(b"")
    assert empty.reader().read() == b"" and empty.reader().readline() == b""


def test_lines_are_read_one_by_one_and_in_parts(main: lakefs.Branch) -> None:
    text = "a" * 15 + "\n" + "b" * 25 + "\n" + "That is all"
    stored = main.object("lines").upload(text)
    with stored.reader(mode="r") as reader:
        reader.seek(5)
        assert [reader.readline() for _ in range(4)] == ["a" * 10 + "\n", "b" * 25 + "\n", "That is all", ""]
        reader.seek(0)
        assert (reader.readline(10), reader.readline(10)) == ("a" * 10, "a" * 5 + "\n")
        assert reader.read() == text[16:]
    with main.object("table.csv").writer(mode="w", content_type="text/csv") as sheet:
        csv.writer(sheet).writerows([["id", "name"], ["1", "Ada"]])
    assert list(csv.reader(main.object("table.csv").reader(mode="r"))) == [["id", "name"], ["1", "Ada"]]


def test_a_copy_has_all_of_the_original(remote: lakefs.Repository, main: lakefs.Branch) -> None:
    stored = main.object("one").upload("test", metadata={"foo": "bar"}, content_type="text/plain")
    main.commit("one")
    remote.branch("side").create("main")
    before, after = stored.stat(), stored.copy("side", "two").stat()
    assert (after.path, after.metadata, after.content_type) == ("two", before.metadata, before.content_type)
    assert (after.size_bytes, after.checksum) == (before.size_bytes, before.checksum)
    assert after.mtime >= before.mtime


def test_what_is_staged_is_reset_by_object_by_prefix_and_whole(main: lakefs.Branch) -> None:
    def paths(prefix: str = "") -> list[str]:
        return [change.path for change in staged(main, prefix)]

    put(main, PATHS)
    assert paths("bar") == ["bar/a", "bar/b", "bar/c"]
    main.reset_changes("object", "bar/a")
    assert "bar/a" not in paths() and len(paths()) == 8
    main.reset_changes("object", "bar/")
    assert len(paths()) == 8
    main.reset_changes("common_prefix", "foo/")
    assert paths() == ["a", "b", "bar/b", "bar/c", "c"]
    main.reset_changes()
    assert paths() == []


def test_folders_stand_between_objects(main: lakefs.Branch) -> None:
    put(main, PATHS)
    assert [item.path for item in main.objects()] == PATHS
    assert [item.path for item in main.objects(delimiter="/")] == ["a", "b", "bar/", "c", "foo/"]


def test_a_revert_and_a_cherry_pick_say_what_they_did(remote: lakefs.Repository, main: lakefs.Branch) -> None:
    stored = main.object("same").upload("first")
    main.commit("first", {"key": "value"})
    stored.upload("second")
    main.commit("second")
    assert main.revert(main.head).message.startswith("Revert")
    assert stored.reader(mode="r").read() == "first"
    for hidden in (True, False):
        side = remote.branch(f"side-{hidden}".lower()).create("main", hidden=hidden)
        put(side, [f"picked-{hidden}"])
        made = side.commit("to pick", {"key": "value"}).get_commit()
        picked = main.cherry_pick(side.head)
        assert picked.message == "to pick"
        assert picked.metadata == {
            "key": "value",
            "cherry-pick-origin": made.id,
            "cherry-pick-committer": made.committer,
        }


def test_logs_end_where_they_are_told_to(main: lakefs.Branch) -> None:
    for number in range(12):
        put(main, ["same"], times=number + 1)
        main.commit(str(number))
    assert [commit.message for commit in main.log(max_amount=3)] == ["11", "10", "9"]
    assert len(list(main.log(max_amount=1000))) == 13
    assert len(list(main.log(limit=True, amount=10, max_amount=100))) == 10
    assert list(main.diff(main.get_commit().id)) == []


def test_a_merge_without_changes_is_made_on_request_only(
    remote: lakefs.Repository, main: lakefs.Branch
) -> None:
    put(main, ["a"])
    first = main.commit("a").get_commit()
    same = remote.branch("same").create("main")
    with pytest.raises(BadRequestException, match="no changes"):
        main.merge_into(same, message="nothing")
    main.merge_into(same, message="nothing", allow_empty=True)
    assert same.get_commit().message == "nothing"
    put(main, ["b"])
    main.commit("b")
    old = remote.branch("old").create(f"{first.id}~1")
    remote.ref(first.id).merge_into(old, message="only the first")
    assert [commit.message for commit in old.log(max_amount=2)] == ["only the first", "a"]


def test_a_transaction_is_seen_by_nobody_and_cleaned_up(
    remote: lakefs.Repository, main: lakefs.Branch
) -> None:
    with main.transact(commit_message="mine", commit_metadata={"foo": "bar"}) as transaction:
        assert transaction.get_commit().id == main.head.id
        assert [branch.id for branch in remote.branches()] == ["main"]
        put(transaction, ["a", "foo/a"])
        transaction.reset_changes(path_type="common_prefix", path="foo")
    with pytest.raises(NotFoundException):
        remote.branch(transaction.id).get_commit()
    merge, mine = main.log(amount=2, max_amount=2)
    assert merge.message == f"Merge transaction {transaction.id} to branch"
    assert (mine.message, mine.metadata) == ("mine", {"foo": "bar"})
    assert [item.path for item in main.objects()] == ["a"]
    with pytest.raises(TransactionException, match="no changes"), main.transact(commit_message="none"):
        pass
    assert main.head.id == merge.id


@pytest.mark.parametrize("clean_up", [True, False])
def test_a_transaction_that_fails_changes_nothing(
    remote: lakefs.Repository, main: lakefs.Branch, clean_up: bool
) -> None:
    before = main.get_commit()
    with (
        pytest.raises(ValueError, match="bad"),
        main.transact(commit_message="mine", delete_branch_on_error=clean_up) as transaction,
    ):
        put(transaction, ["a"])
        raise ValueError("bad")
    if clean_up:
        with pytest.raises(NotFoundException):
            transaction.get_commit()
    else:
        assert transaction.get_commit() == before
    with (
        pytest.raises(TransactionException, match="dirty branch"),
        main.transact(commit_message="mine") as transaction,
    ):
        put(transaction, ["a"])
        put(main, ["a"], times=2)
    assert main.get_commit() == before
    with (
        pytest.raises(TransactionException, match="onflict"),
        main.transact(commit_message="mine") as transaction,
    ):
        now = main.commit("meanwhile")
        put(transaction, ["a"])
    assert main.get_commit() == now.get_commit()


def test_an_import_is_started_once_and_cancelled_while_it_runs(
    remote: lakefs.Repository, main: lakefs.Branch, imports: Path
) -> None:
    empty = main.import_data(commit_message="nothing", metadata={"foo": "bar"})
    with pytest.raises(ImportManagerException):
        empty.cancel()
    done = empty.run(poll_interval=timedelta(seconds=0.02))
    assert done.completed and done.error is None and done.ingested_objects == 0
    assert (done.commit.id, done.commit.message) == (main.get_commit().id, "nothing")
    assert done.commit.metadata["foo"] == "bar"
    with pytest.raises(ImportManagerException):
        empty.run()
    folder = imports / f"habits-{uuid.uuid4().hex}"
    for path in ("one/a", "two/b", "alone"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    several = main.import_data("several")
    for name in ("one", "two"):
        several.prefix(f"local://{folder}/{name}/", f"new/{name}/")
    several.object(f"local://{folder}/alone", "new/alone")
    done = several.run(poll_interval=timedelta(seconds=0.02))
    assert done.ingested_objects == 3 and done.commit.metadata.get("foo") is None
    assert [item.path for item in main.objects()] == ["new/alone", "new/one/a", "new/two/b"]
    with pytest.raises(ConflictException):
        several.cancel()
