"""The official Python clients run their full surface against the embedded server and notice nothing."""

import re
from datetime import timedelta
from pathlib import Path

import lakefs
import lakefs_sdk
import pytest
from lakefs.exceptions import (
    BadRequestException,
    ConflictException,
    ForbiddenException,
    NotFoundException,
    ObjectExistsException,
    ObjectNotFoundException,
    TransactionException,
)
from lakefs_api import Api, Repository

from lakefs_local.discovery import Server
from lakefs_local.http.app import API
from lakefs_local.http.router import operations


@pytest.fixture
def client(server: Server) -> lakefs.Client:
    """The high-level client."""
    return lakefs.Client(
        host=server.endpoint, username=server.access_key_id, password=server.secret_access_key
    )


@pytest.fixture
def remote(repository: Repository, client: lakefs.Client) -> lakefs.Repository:
    """The test's repository, as the high-level client sees it."""
    return lakefs.Repository(repository.name, client=client)


def put(branch: lakefs.Branch, path: str, content: str | bytes = "x", **options) -> None:  # type: ignore[no-untyped-def]
    branch.object(path).upload(data=content, pre_sign=False, **options)


def test_the_client_reads_version_and_storage(client: lakefs.Client) -> None:
    assert client.version.startswith("1.")
    assert client.storage_config.blockstore_type == "local"
    assert client.storage_config.pre_sign_support is False
    assert client.storage_config.import_support is True


def test_repositories_are_made_listed_and_deleted(client: lakefs.Client) -> None:
    made = lakefs.Repository("clients-own", client=client).create(storage_namespace="local://clients-own")
    assert made.properties.default_branch == "main"
    assert made.properties.storage_namespace == "local://clients-own"
    assert "clients-own" in [repository.id for repository in lakefs.repositories(client=client)]
    with pytest.raises(ConflictException):
        made.create(storage_namespace="local://clients-own-2")
    assert made.create(storage_namespace="local://clients-own-2", exist_ok=True).id == "clients-own"
    assert made.metadata == {}
    made.delete()
    with pytest.raises(NotFoundException):
        made.delete()


def test_branches_and_tags_are_made_listed_and_deleted(remote: lakefs.Repository) -> None:
    branch = remote.branch("week-1").create(source_reference="main")
    assert branch.get_commit().message == "Repository created"
    with pytest.raises(ConflictException):
        branch.create(source_reference="main")
    assert branch.create(source_reference="main", exist_ok=True).id == "week-1"
    tag = remote.tag("v1.0").create("week-1")
    assert tag.get_commit().id == branch.get_commit().id
    with pytest.raises(ConflictException):
        tag.create("main")
    assert [found.id for found in remote.branches()] == ["main", "week-1"]
    assert [found.id for found in remote.branches(prefix="w")] == ["week-1"]
    assert [found.id for found in remote.tags()] == ["v1.0"]
    tag.delete()
    branch.delete()
    with pytest.raises(NotFoundException):
        branch.get_commit()
    with pytest.raises(ForbiddenException):
        remote.branch("main").delete()


def test_objects_are_written_read_and_described(remote: lakefs.Repository) -> None:
    branch = remote.branch("main")
    put(branch, "a/text.txt", "some text", content_type="text/plain", metadata={"Camera": "left"})
    stored = branch.object("a/text.txt")
    stat = stored.stat(pre_sign=False)
    assert (stat.size_bytes, stat.content_type, stat.metadata) == (9, "text/plain", {"camera": "left"})
    assert stored.reader(mode="r", pre_sign=False).read() == "some text"
    assert stored.exists()
    assert not branch.object("absent").exists()
    with pytest.raises(ObjectNotFoundException):
        branch.object("absent").reader(pre_sign=False).read()
    with pytest.raises(ObjectExistsException):
        branch.object("a/text.txt").upload(b"other", mode="xb", pre_sign=False)
    copied = stored.copy("main", "b/copy.txt")
    assert copied.reader(mode="rb", pre_sign=False).read() == b"some text"
    copied.delete()
    assert not copied.exists()


def test_readers_seek_and_read_lines(remote: lakefs.Repository) -> None:
    branch = remote.branch("main")
    put(branch, "lines", b"first\nsecond\nthird")
    with branch.object("lines").reader(mode="rb", pre_sign=False) as reader:
        assert reader.read(3) == b"fir"
        assert reader.tell() == 3
        reader.seek(-5, 2)
        assert reader.read() == b"third"
        reader.seek(6)
        assert reader.readline() == b"second\n"
    assert list(branch.object("lines").reader(mode="r", pre_sign=False)) == ["first\n", "second\n", "third"]


def test_writers_stream_large_objects(remote: lakefs.Repository) -> None:
    content = bytes(range(256)) * 40_000
    with remote.branch("main").object("large").writer(mode="wb", pre_sign=False) as writer:
        for start in range(0, len(content), 1 << 20):
            writer.write(content[start : start + (1 << 20)])
    assert remote.branch("main").object("large").reader(mode="rb", pre_sign=False).read() == content


def test_listings_fold_and_page(remote: lakefs.Repository) -> None:
    branch = remote.branch("main")
    for number in range(7):
        put(branch, f"folder/{number}")
    put(branch, "z")
    listed = [item.path for item in branch.objects(delimiter="/")]
    assert listed == ["folder/", "z"]
    assert [item.path for item in branch.objects(prefix="folder/", max_amount=3)] == [
        "folder/0",
        "folder/1",
        "folder/2",
    ]
    assert [item.path for item in branch.objects(after="folder/5")] == ["folder/6", "z"]


def test_commits_logs_and_diffs_agree(remote: lakefs.Repository) -> None:
    branch = remote.branch("main")
    put(branch, "a", "1")
    assert [(change.type, change.path) for change in branch.uncommitted()] == [("added", "a")]
    first = branch.commit("first", metadata={"run": "1"})
    put(branch, "a", "2")
    branch.object("b").upload("1", pre_sign=False)
    second = branch.commit("second")
    assert [commit.message for commit in branch.log()] == ["second", "first", "Repository created"]
    assert [commit.message for commit in branch.log(max_amount=1)] == ["second"]
    assert first.get_commit().metadata == {"run": "1"}
    changes = remote.ref(first.id).diff(second.id)
    assert [(change.type, change.path) for change in changes] == [("changed", "a"), ("added", "b")]
    with pytest.raises(BadRequestException):
        branch.commit("nothing")
    branch.reset_changes()


def test_merges_conflict_and_strategies_decide(remote: lakefs.Repository) -> None:
    main = remote.branch("main")
    put(main, "same", "base")
    main.commit("base")
    side = remote.branch("side").create("main")
    put(side, "same", "theirs")
    side.commit("theirs")
    put(main, "same", "ours")
    main.commit("ours")
    with pytest.raises(ConflictException):
        side.merge_into("main")
    reference = side.merge_into("main", strategy="source-wins", message="decided")
    assert remote.commit(reference).get_commit().message == "decided"
    assert main.object("same").reader(mode="r", pre_sign=False).read() == "theirs"


def test_reverts_and_cherry_picks_make_commits(remote: lakefs.Repository) -> None:
    main = remote.branch("main")
    put(main, "a", "1")
    made = main.commit("add a")
    main.revert(made, parent_number=0)
    assert not main.object("a").exists()
    other = remote.branch("other").create(made.id + "~1")
    picked = other.cherry_pick(made.id)
    assert picked.message == "add a"
    assert other.object("a").exists()


def test_many_objects_are_deleted_at_once(remote: lakefs.Repository) -> None:
    branch = remote.branch("main")
    for number in range(5):
        put(branch, f"a/{number}")
    branch.delete_objects([f"a/{number}" for number in range(4)])
    assert [item.path for item in branch.objects()] == ["a/4"]


def test_a_transaction_lands_whole_or_not_at_all(remote: lakefs.Repository) -> None:
    main = remote.branch("main")
    with main.transact(commit_message="together") as transaction:
        transaction.object("t/1").upload("1", pre_sign=False)
        transaction.object("t/2").upload("2", pre_sign=False)
    assert [item.path for item in remote.ref("main").objects(prefix="t/")] == ["t/1", "t/2"]
    with (
        pytest.raises((TransactionException, ValueError)),
        main.transact(commit_message="never") as transaction,
    ):
        transaction.object("t/3").upload("3", pre_sign=False)
        raise ValueError("changed my mind")
    assert not main.object("t/3").exists()


def test_imports_run_to_their_end(remote: lakefs.Repository, imports: Path) -> None:
    folder = imports / "client"
    folder.mkdir()
    (folder / "one.txt").write_text("one")
    importing = remote.branch("main").import_data("imported").prefix(f"local://{folder}/", "in/")
    status = importing.run(poll_interval=timedelta(seconds=0.05))
    assert status.completed and status.ingested_objects == 1
    assert remote.branch("main").object("in/one.txt").reader(mode="r", pre_sign=False).read() == "one"


@pytest.fixture
def sdk(server: Server) -> lakefs_sdk.ApiClient:
    """The generated client."""
    return lakefs_sdk.ApiClient(
        lakefs_sdk.Configuration(
            host=server.endpoint + API, username=server.access_key_id, password=server.secret_access_key
        )
    )


def test_the_generated_client_reads_service_endpoints(sdk: lakefs_sdk.ApiClient) -> None:
    lakefs_sdk.HealthCheckApi(sdk).health_check()
    assert lakefs_sdk.AuthApi(sdk).get_current_user().user.id == "admin"
    internal = lakefs_sdk.InternalApi(sdk)
    assert internal.get_setup_state().state == "initialized"
    assert (
        internal.get_lake_fs_version().version
        == lakefs_sdk.ConfigApi(sdk).get_config().version_config.version
    )
    assert internal.get_storage_config().blockstore_type == "local"
    assert internal.get_auth_capabilities().invite_user is False
    with pytest.raises(lakefs_sdk.ApiException) as refused:
        internal.setup(lakefs_sdk.Setup(username="somebody"))
    assert refused.value.status == 409


def test_the_generated_client_sets_metadata_protection_and_resets(
    sdk: lakefs_sdk.ApiClient, repository: Repository
) -> None:
    name = repository.name
    internal, repositories = lakefs_sdk.InternalApi(sdk), lakefs_sdk.RepositoriesApi(sdk)
    internal.set_repository_metadata(
        name, lakefs_sdk.RepositoryMetadataSet(metadata={"team": "vision", "x": "1"})
    )
    internal.delete_repository_metadata(name, lakefs_sdk.RepositoryMetadataKeys(keys=["x", "absent"]))
    assert repositories.get_repository_metadata(name) == {"team": "vision"}
    first = repository.head("main")
    repository.put("main", "a")
    repository.commit("main")
    lakefs_sdk.ExperimentalApi(sdk).hard_reset_branch(name, "main", first)
    assert repository.head("main") == first
    rule = lakefs_sdk.BranchProtectionRule(pattern="main")
    repositories.set_branch_protection_rules(name, [rule])
    told = repositories.get_branch_protection_rules_with_http_info(name)
    assert told.data == [rule]
    with pytest.raises(lakefs_sdk.ApiException) as refused:
        repositories.set_branch_protection_rules(name, [], if_match="stale")
    assert refused.value.status == 412
    repositories.set_branch_protection_rules(name, [], if_match=told.headers["etag"])


def test_the_generated_client_uploads_as_multipart_and_links(
    sdk: lakefs_sdk.ApiClient, repository: Repository, tmp_path: Path
) -> None:
    objects, staging = lakefs_sdk.ObjectsApi(sdk), lakefs_sdk.StagingApi(sdk)
    (tmp_path / "file").write_bytes(b"part")
    made = objects.upload_object(repository.name, "main", "multi", content=str(tmp_path / "file"))
    assert made.size_bytes == 4
    assert objects.get_object(repository.name, "main", "multi", range="bytes=1-2") == b"ar"
    assert objects.get_underlying_properties(repository.name, "main", "multi").storage_class is None
    objects.head_object(repository.name, "main", "multi")
    address = staging.get_physical_address(repository.name, "main", "linked")
    Path(address.physical_address.removeprefix("local://")).write_bytes(b"linked bytes")
    linked = staging.link_physical_address(
        repository.name,
        "main",
        "linked",
        lakefs_sdk.StagingMetadata(staging=address, checksum="abc", size_bytes=12),
    )
    assert linked.checksum == "abc"
    assert objects.get_object(repository.name, "main", "linked") == b"linked bytes"
    lakefs_sdk.InternalApi(sdk).upload_object_preflight(repository.name, "main", "any")


def test_every_operation_of_the_generated_client_is_known() -> None:
    call = re.compile(r"def (\w+)_with_http_info\(.*?call_api\(\s*'([^']+)', '(\w+)'", re.DOTALL)
    known = set()
    for module in (Path(lakefs_sdk.__file__).parent / "api").glob("*_api.py"):
        known |= {(found[3], found[2], found[1]) for found in call.finditer(module.read_text())}
    assert len(known) > 100
    assert known == set(operations())


def test_operations_that_are_not_there_say_so_by_name(api: Api, repository: Repository) -> None:
    refused = []
    for method, template, name in operations():
        path = template.replace("{repository}", repository.name).replace("{branch}", "main")
        for parameter in ("{ref}", "{branch}"):
            path = path.replace(parameter, "main")
        answer = api.call(method, path.replace("{", "").replace("}", ""))
        if answer.status == 501:
            assert name in answer.message
            refused.append(name)
        assert answer.status < 502, (name, answer)
    assert {"create_pull_request", "create_user", "login", "dump_refs", "stage_object"} <= set(refused)
    assert not {"commit", "upload_object", "merge_into_branch", "import_start", "get_run"} & set(refused)


def test_a_route_that_never_was_is_not_found(api: Api) -> None:
    assert api.call("GET", "/repositories/x/nonsense").status == 404
    assert api.call("PATCH", "/repositories").status == 404
    assert api.send("GET", "/nowhere").status == 404
