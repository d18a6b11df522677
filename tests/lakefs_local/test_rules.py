"""What a faithful lakeFS does, rule by rule; `tests/lakefs_conformance` holds the recorded answers in full."""

import hashlib
import time

from lakefs_api import Api, Repository


def test_the_configuration_carries_what_clients_look_for(api: Api) -> None:
    config = api.call("GET", "/config").json
    storage = config["storage_config"]
    assert storage["blockstore_type"] == "local"
    assert storage["pre_sign_support"] is False and storage["pre_sign_support_ui"] is False
    assert storage["import_support"] is True
    assert {
        "blockstore_namespace_example",
        "blockstore_namespace_ValidityRegex",
        "import_validity_regex",
    } <= set(storage)
    assert config["storage_config_list"] == [] and config["version_config"]["version"]


def test_errors_carry_a_message_and_head_has_no_body(api: Api, repository: Repository) -> None:
    assert repository.stat("main", "absent").json == {"message": "not found"}
    assert api.send("GET", "/api/v1/repositories").json == {"message": "error authenticating request"}
    absent = repository.call("HEAD", "/refs/main/objects", {"path": "absent"})
    assert (absent.status, absent.body) == (404, b"")


def test_a_checksum_is_the_md5_and_a_time_is_in_whole_seconds(repository: Repository) -> None:
    stat = repository.put("main", "a", b"content")
    assert stat["checksum"] == hashlib.md5(b"content").hexdigest()
    assert isinstance(stat["mtime"], int) and abs(stat["mtime"] - time.time()) < 60


def test_metadata_names_are_lower_cased(repository: Repository) -> None:
    stat = repository.put("main", "a", x_lakefs_meta_Camera="Left", x_lakefs_meta_Ort="Köln")
    assert stat["metadata"] == {"camera": "Left", "ort": "Köln"}


def test_the_same_bytes_again_are_no_difference(repository: Repository) -> None:
    repository.put("main", "a", b"same")
    repository.commit("main")
    repository.put("main", "a", b"same")
    assert repository.diff("main") == {}
    refused = repository.call("POST", "/branches/main/commits", data={"message": "m"})
    assert refused.message == "commit: no changes"


def test_other_metadata_is_a_difference(repository: Repository) -> None:
    repository.put("main", "a", b"same")
    repository.commit("main")
    repository.put("main", "a", b"same", x_lakefs_meta_label="cat")
    assert repository.diff("main") == {"a": "changed"}


def test_deleting_what_is_absent_succeeds(repository: Repository) -> None:
    repository.delete("main", "never")
    assert repository.diff("main") == {}


def test_staging_lies_over_the_head_and_a_deletion_hides_it(repository: Repository) -> None:
    repository.put("main", "a", b"1")
    repository.put("main", "b", b"1")
    repository.commit("main")
    repository.put("main", "a", b"2")
    repository.delete("main", "b")
    assert repository.get("main", "a").body == b"2"
    assert repository.get("main@", "a").body == b"1"
    assert repository.paths("main") == ["a"]
    assert repository.paths("main@") == ["a", "b"]


def test_a_first_commit_exists_and_an_emptied_tree_is_not_its_tree(repository: Repository) -> None:
    first = repository.log("main")[0]
    assert (first["message"], first["meta_range_id"], first["parents"]) == ("Repository created", "", [])
    repository.put("main", "a")
    repository.commit("main")
    repository.delete("main", "a")
    repository.commit("main")
    assert repository.log("main")[0]["meta_range_id"] != ""


def test_references_resolve_in_all_their_forms(repository: Repository) -> None:
    ids = [repository.head("main")]
    for number in range(3):
        repository.put("main", "a", b"%d" % number)
        ids.append(repository.commit("main"))
    repository.call("POST", "/tags", data={"id": "v1", "ref": "main~1"})

    def resolved(reference: str) -> str:
        return repository.call("GET", f"/refs/{reference}/commits", {"amount": 1}).json["results"][0]["id"]

    for reference, place in [
        ("main", 3), ("main@", 3), ("main~0", 3), ("main~", 2), ("main~2", 1), ("main~1~1", 1), ("main^", 2),
        ("main^^^", 0), ("main^0", 3), ("v1", 2), ("v1~1", 1), (ids[1], 1), (ids[1][:12], 1), (ids[1][:12] + "~1", 0),
    ]:  # fmt: skip
        assert resolved(reference) == ids[place], reference
    for reference, status in [
        ("main~4", 404), ("nothing", 404), ("0" * 64, 404), ("main~x", 400), ("main^2", 400), ("v1@", 400),
        ("main@~1", 400), ("~1", 400), ("main$", 400),
    ]:  # fmt: skip
        assert repository.call("GET", f"/refs/{reference}/commits").status == status, reference


def test_a_difference_is_three_dot_by_default(repository: Repository) -> None:
    repository.branch("side")
    repository.put("side", "theirs")
    repository.commit("side")
    repository.put("main", "ours")
    repository.commit("main")
    assert repository.compare("main", "side") == {"theirs": "added"}
    assert repository.compare("main", "side", type="two_dot") == {"ours": "removed", "theirs": "added"}


def test_a_merge_takes_the_committed_head_and_needs_a_clean_destination(repository: Repository) -> None:
    repository.branch("side")
    repository.put("side", "a")
    repository.commit("side")
    repository.put("side", "not-committed")
    repository.put("main", "dirt")
    assert repository.merge("side", "main").message == "uncommitted changes (dirty branch)"
    repository.call("PUT", "/branches/main", data={"type": "reset"})
    assert repository.merge("side", "main").status == 200
    assert repository.paths("main") == ["a"]
    assert repository.merge("side", "main").message == "update branch main: no changes"


def test_a_conflict_is_a_409_with_an_empty_reference_and_strategies_decide_it(repository: Repository) -> None:
    for name in ("one", "two"):
        repository.branch(name)
        repository.put(name, "same", name.encode())
        repository.commit(name)
    repository.merge("one", "main")
    conflict = repository.merge("two", "main")
    assert (conflict.status, conflict.json) == (409, {"reference": ""})
    assert repository.compare("main", "two") == {"same": "conflict"}
    repository.branch("copy")
    assert repository.merge("two", "main", strategy="dest-wins").status == 200
    assert repository.get("main", "same").body == b"one"
    assert repository.merge("two", "copy", strategy="source-wins").status == 200
    assert repository.get("copy", "same").body == b"two"


def test_a_squashed_merge_has_one_parent(repository: Repository) -> None:
    repository.branch("side")
    for number in range(2):
        repository.put("side", f"{number}")
        repository.commit("side")
    head = repository.head("main")
    assert repository.merge("side", "main", squash_merge=True).status == 200
    assert repository.log("main")[0]["parents"] == [head]


def test_a_log_goes_by_date_and_follows_first_parents_when_asked(repository: Repository) -> None:
    repository.branch("side")
    for branch, number in [("side", 0), ("main", 1), ("side", 2)]:
        repository.put(branch, f"{number}")
        repository.commit(branch, f"{number}")
    repository.merge("side", "main", message="merged")
    assert [commit["message"] for commit in repository.log("main")] == [
        *("merged", "2", "1", "0", "Repository created")
    ]
    assert [commit["message"] for commit in repository.log("main", first_parent="true")] == [
        *("merged", "1", "Repository created")
    ]
    assert [commit["message"] for commit in repository.log("main", objects="1")] == ["1"]
    assert [commit["message"] for commit in repository.log("main", prefixes=["0", "2"], amount=1)] == [
        "2",
        "0",
    ]


def test_a_protected_branch_takes_merges_only(repository: Repository) -> None:
    repository.branch("side")
    repository.put("side", "a")
    repository.commit("side")
    repository.call("PUT", "/settings/branch_protection", data=[{"pattern": "ma*"}])
    upload = repository.call("POST", "/branches/main/objects", {"path": "a"}, body=b"x")
    assert (upload.status, upload.message) == (403, "cannot write to protected branch")
    assert repository.call("DELETE", "/branches/main/objects", {"path": "a"}).status == 403
    assert repository.call("POST", "/branches/main/commits", data={"message": "m"}).status == 403
    assert repository.call("PUT", "/branches/main", data={"type": "reset"}).status == 403
    assert repository.call("PUT", "/branches/main/hard_reset", {"ref": "side"}).status == 403
    bulk = repository.call("POST", "/branches/main/objects/delete", data={"paths": ["a", "b"]})
    assert [error["status_code"] for error in bulk.json["errors"]] == [403, 403]
    assert repository.merge("side", "main").status == 200


def test_a_default_branch_and_a_read_only_repository_are_kept(api: Api, repository: Repository) -> None:
    assert repository.call("DELETE", "/branches/main").status == 403
    body = {"name": "read-only", "storage_namespace": "local://read-only", "read_only": True}
    assert api.call("POST", "/repositories", data=body).status == 201
    refused = api.call("POST", "/repositories/read-only/branches/main/objects", {"path": "a"}, body=b"x")
    assert (refused.status, refused.message) == (403, "read-only repository")
    assert api.call("DELETE", "/repositories/read-only").status == 403
    assert api.call("DELETE", "/repositories/read-only", {"force": "true"}).status == 204


def test_only_a_star_is_taken_as_a_condition_on_an_upload(repository: Repository) -> None:
    def upload(**headers: str) -> int:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return repository.call(
            "POST", "/branches/main/objects", {"path": "a"}, body=b"x", headers=sent
        ).status

    assert upload(If_None_Match="*") == 201
    assert upload(If_None_Match="*") == 412
    assert upload(If_None_Match='"abc"') == 501
    assert upload(If_Match='"abc"') == 501


def test_at_most_a_thousand_are_deleted_at_once(repository: Repository) -> None:
    many = [f"{number}" for number in range(1001)]
    assert repository.call("POST", "/branches/main/objects/delete", data={"paths": many}).status == 400
    assert repository.call("POST", "/branches/main/objects/delete", data={"paths": many[:-1]}).status == 200


def test_a_dirty_branch_is_neither_reverted_nor_picked_onto_nor_reset_hard(repository: Repository) -> None:
    repository.put("main", "a")
    made = repository.commit("main")
    repository.put("main", "b")
    for answer in [
        repository.call("POST", "/branches/main/revert", data={"ref": made, "parent_number": 0}),
        repository.call("POST", "/branches/main/cherry-pick", data={"ref": made}),
        repository.call("PUT", "/branches/main/hard_reset", {"ref": f"{made}~1"}),
    ]:
        assert (answer.status, answer.message) == (400, "uncommitted changes (dirty branch)")


def test_a_namespace_stays_taken_when_its_repository_is_deleted(api: Api) -> None:
    body = {"name": "namesake", "storage_namespace": "local://taken"}
    assert api.call("POST", "/repositories", data=body).status == 201
    assert api.call("DELETE", "/repositories/namesake").status == 204
    assert "already in use" in api.call("POST", "/repositories", data=body).message


def test_a_name_of_a_deleted_branch_starts_afresh(repository: Repository) -> None:
    repository.branch("again")
    repository.put("again", "staged")
    assert repository.call("DELETE", "/branches/again").status == 204
    repository.branch("again")
    assert repository.paths("again") == []


def test_copies_share_their_bytes(repository: Repository) -> None:
    first = repository.put("main", "a", b"shared")
    copied = repository.call(
        "POST", "/branches/main/objects/copy", {"dest_path": "b"}, data={"src_path": "a"}
    ).json
    assert copied["physical_address"] == first["physical_address"]
    assert repository.get("main", "b").body == b"shared"


def test_a_read_takes_one_range_and_gives_a_quoted_etag(repository: Repository) -> None:
    checksum = repository.put("main", "a", b"0123456789")["checksum"]
    whole = repository.get("main", "a")
    assert (whole.status, whole.headers["etag"]) == (200, f'"{checksum}"')
    part = repository.get("main", "a", Range="bytes=2-4")
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    outside = repository.get("main", "a", Range="bytes=10-")
    assert (outside.status, outside.headers["content-range"]) == (416, "bytes */10")
    for refused in ("bytes=5-2", "bytes=0-1,3-4", "bytes=-"):
        assert repository.get("main", "a", Range=refused).status == 416, refused
    assert repository.get("main", "a", Range="lines=1-2").status == 400


def test_a_revert_answers_204_and_a_cherry_pick_201(repository: Repository) -> None:
    repository.branch("side")
    repository.put("main", "a")
    made = repository.commit("main")
    picked = repository.call("POST", "/branches/side/cherry-pick", data={"ref": made})
    assert (picked.status, repository.paths("side@")) == (201, ["a"])
    reverted = repository.call("POST", "/branches/main/revert", data={"ref": made, "parent_number": 0})
    assert (reverted.status, reverted.body, repository.paths("main@")) == (204, b"", [])
    assert len(repository.log("main")) == 3


def test_who_does_not_sign_in_is_told_nothing(api: Api, repository: Repository) -> None:
    for path in (
        "/repositories",
        f"/repositories/{repository.name}",
        "/repositories/nowhere",
        "/user",
        "/config",
    ):
        refused = api.send("GET", f"/api/v1{path}")
        assert (refused.status, refused.message) == (401, "error authenticating request"), path
